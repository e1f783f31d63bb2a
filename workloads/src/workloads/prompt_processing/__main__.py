"""Run workers of this site: everything is imported once, then they are forked from it, and their group gives them slots."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys
import time
import traceback
from functools import partial

from workloads.common import log
from workloads.common.errors import WorkloadError
from workloads.common.serve import Health, Stop, serve_health
from workloads.common.settings import Settings
from workloads.common.slots import workers
from workloads.prompt_processing.board import Board
from workloads.prompt_processing.warm import warm_up
from workloads.prompt_processing.worker import HUNG_SECONDS, Worker

LOG = log.configure("prompt-processing")
_RESTART_SECONDS = 2.0
_WORKER_GRACE_SECONDS = 10.0
"""What a worker may take to end: an exposure in hand takes a few seconds, and one cut off is done again."""
_LEAVE_SECONDS = 5.0
"""What it may take to leave its group after that: one that does not is missed soon."""
_GRACE_SECONDS = 15.0
_PATIENCE_SECONDS = 300.0
"""What this process itself may take; a worker that hangs is replaced long before."""
_PR_SET_PDEATHSIG = 1


def _die_with(parent: int) -> None:
    """Let the kernel end this process when its parent is gone: nobody would replace it, and the next parent forks anew."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _child(settings: Settings, name: str, board: Board, parent: int) -> None:
    """Be one worker; never returns."""
    _die_with(parent)
    for number in (signal.SIGTERM, signal.SIGINT):  # a worker forked late has its parent's handlers
        signal.signal(number, signal.SIG_DFL)
    signal.set_wakeup_fd(-1)
    code = 0
    with log.about(worker=name, process=os.getpid()):
        try:
            worker = Worker(settings, f"{socket.gethostname()}-{parent}-{name}")
            stop = Stop(_WORKER_GRACE_SECONDS, worker.survive)
            worker.run(stop, partial(board.beat, name), partial(board.prepared, name))
            signal.setitimer(signal.ITIMER_REAL, _LEAVE_SECONDS)
            worker.leave()
        except WorkloadError as error:
            LOG.error("worker ends: %s", error)  # noqa: TRY400 - the text says it all
            code = 1
        except BaseException:  # noqa: BLE001 - a child must never run its parent's code
            LOG.error("worker ends: %s", traceback.format_exc())  # noqa: TRY400
            code = 2
        os._exit(code)


def main() -> int:
    """Fork the workers and replace each that dies or hangs, until SIGTERM."""
    settings = Settings.load()
    names = [str(number) for number in range(workers(settings.site.camera))]
    warm_up()
    LOG.info("warm; forking %d workers", len(names))
    children, parent = dict[int, str](), os.getpid()
    due = dict.fromkeys(names, 0.0)
    stop: Stop | None = None
    board = Board(names)
    health = Health(_PATIENCE_SECONDS, board)
    health.ready()
    while not stop:
        for name in names:
            if name not in children.values() and time.monotonic() >= due[name]:
                board.begin(name)
                pid = os.fork()
                if pid == 0:
                    _child(settings, name, board, parent)
                children[pid] = name
        if stop is None:
            stop = Stop()
            serve_health(health)
        health.beat()
        _kill_hung(children, board)
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid:
            name = children.pop(pid)
            due[name] = time.monotonic() + _RESTART_SECONDS
            LOG.warning("worker %s ended with %d; replacing it", name, os.waitstatus_to_exitcode(status))
        stop.wait(0.5)
    return _end(children)


def _kill_hung(children: dict[int, str], board: Board) -> None:
    """Kill workers that hang, for that they are replaced: their slots are others' already."""
    hung = set(board.hung(HUNG_SECONDS))
    for pid, name in children.items():
        if name in hung:
            LOG.error("worker %s hangs; killing it", name)
            os.kill(pid, signal.SIGKILL)


def _end(children: dict[int, str]) -> int:
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
