"""Run the workers of this site, or a share of them: everything is imported once, then one process per slot is forked from it."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
import traceback
from functools import partial

from workloads.common import log
from workloads.common.errors import WorkloadError
from workloads.common.serve import Health, Stop, serve_health
from workloads.common.settings import Settings
from workloads.common.slots import Slot, share
from workloads.prompt_processing.board import Board
from workloads.prompt_processing.warm import warm_up
from workloads.prompt_processing.worker import Worker

LOG = log.configure("prompt-processing")
_RESTART_SECONDS = 2.0
_WORKER_GRACE_SECONDS = 10.0
"""What a worker may take to end: an exposure in hand takes a few seconds, and one cut off is done again."""
_GRACE_SECONDS = 15.0
_PATIENCE_SECONDS = 300.0
"""What a worker may take for one exposure, with every peer hanging as long as it may."""
_PR_SET_PDEATHSIG = 1


def _die_with(parent: int) -> None:
    """Let the kernel end this process when its parent is gone: nobody would replace it, and the next parent forks anew."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _child(settings: Settings, slot: Slot, board: Board, parent: int) -> None:
    """Be the worker of one slot; never returns."""
    _die_with(parent)
    for number in (signal.SIGTERM, signal.SIGINT):  # a worker forked late has its parent's handlers
        signal.signal(number, signal.SIG_DFL)
    signal.set_wakeup_fd(-1)
    code = 0
    with log.about(detector=slot.detector.name):
        try:
            worker = Worker(settings, slot)
            worker.preload()
            board.prepared(slot.name)
            worker.run(Stop(_WORKER_GRACE_SECONDS), partial(board.beat, slot.name))
        except WorkloadError as error:
            LOG.error("worker ends: %s", error)  # noqa: TRY400 - the text says it all
            code = 1
        except BaseException:  # noqa: BLE001 - a child must never run its parent's code
            LOG.error("worker ends: %s", traceback.format_exc())  # noqa: TRY400
            code = 2
        os._exit(code)


def main() -> int:
    """Fork the workers and replace each that dies, until SIGTERM."""
    settings = Settings.load()
    wanted = {slot.partition: slot for slot in share(settings.site.camera)}
    warm_up()
    LOG.info("warm; forking %d workers", len(wanted))
    children, parent = dict[int, int](), os.getpid()
    due = dict.fromkeys(wanted, 0.0)
    stop: Stop | None = None
    board = Board([slot.name for slot in wanted.values()])
    health = Health(_PATIENCE_SECONDS, board)
    health.ready()
    while not stop:
        for partition, slot in wanted.items():
            if partition not in children.values() and time.monotonic() >= due[partition]:
                board.begin(slot.name)
                pid = os.fork()
                if pid == 0:
                    _child(settings, slot, board, parent)
                children[pid] = partition
        if stop is None:
            stop = Stop()
            serve_health(health)
        health.beat()
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid:
            partition = children.pop(pid)
            due[partition] = time.monotonic() + _RESTART_SECONDS
            LOG.warning(
                "worker of %s ended with %d; replacing it", wanted[partition].name, os.waitstatus_to_exitcode(status)
            )
        stop.wait(0.5)
    return _end(children)


def _end(children: dict[int, int]) -> int:
    for pid in children:
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + _GRACE_SECONDS
    while children and time.monotonic() < deadline:
        pid, _ = os.waitpid(-1, os.WNOHANG)
        children.pop(pid, None)
        time.sleep(0.1)
    return 1 if children else 0


if __name__ == "__main__":
    sys.exit(main())
