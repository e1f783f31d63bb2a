"""The process that carries a circuit's frames where the kernel has no netem: started, told, found and ended here."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from dpp.build.tools import tool_folder
from dpp.lab.links.state import Condition, Wire
from dpp.model.errors import FatalError

_START_SECONDS = 10.0
_STOP_SECONDS = 5.0
_SLACK_MS = 100
"""Frames that a busy machine lets pile up beyond the delay, in milliseconds of the circuit's rate."""
_SMALLEST_BUFFER = 1 << 20
_OVERHEAD = 1.5


@dataclass(frozen=True)
class DelayLine:
    """The delay line of one circuit.

    Parameters
    ----------
    wire
        The circuit's parts.
    """

    wire: Wire

    @property
    def pid(self) -> int | None:
        """The process that carries this circuit, None where there is none: its command line is its identity."""
        try:
            pid = int(self._pid_file.read_text())
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except (OSError, ValueError):
            return None
        return pid if os.fsencode(self._parameters) in words else None

    def ensure(self, condition: Condition) -> None:
        """Start the process if it does not run; tell it delay and loss.

        Raises
        ------
        FatalError
            If it does not start; the text holds what it said.
        """
        changed = self._write_parameters(condition)
        pid = self.pid
        if pid is None:
            self._start()
        elif changed:
            os.kill(pid, signal.SIGHUP)

    def stop(self) -> None:
        """End the process, if it runs."""
        pid = self.pid
        if pid is not None:
            _end(pid)
        for file in (self._pid_file, self._parameters, self.wire.file("log")):
            file.unlink(missing_ok=True)

    def read(self) -> tuple[float, float] | None:
        """Return delay in milliseconds and loss in percent that the running process was told, else None."""
        if self.pid is None:
            return None
        told = json.loads(self._parameters.read_text())
        return told["delay_us"] / 1e3, round(told["loss"] * 100, 4)

    @property
    def _pid_file(self) -> Path:
        return self.wire.file("pid")

    @property
    def _parameters(self) -> Path:
        return self.wire.file("json")

    def _write_parameters(self, condition: Condition) -> bool:
        held = condition.rate_mbps * 125 * (condition.delay_ms + _SLACK_MS) * _OVERHEAD
        text = json.dumps(
            {
                "delay_us": round(condition.delay_ms * 1e3),
                "loss": condition.loss_percent / 100,
                "buffer_bytes": max(_SMALLEST_BUFFER, int(held)),
            }
        )
        path = self._parameters
        if path.exists() and path.read_text() == text:
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(".new")
        fresh.write_text(text)
        fresh.rename(path)
        return True

    def _start(self) -> None:
        program = tool_folder("delayline") / "bin" / "delayline"
        enter = ["nsenter", f"--net=/run/netns/{self.wire.namespace}", "--"]
        log = self.wire.file("log")
        with log.open("wb") as errors:
            process = subprocess.Popen(
                [*enter, str(program), str(self._parameters), *self.wire.ports],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd="/",
                start_new_session=True,  # it outlives this tool
            )
        assert process.stdout is not None  # noqa: S101 - it was asked for
        with process.stdout as stream:
            ready, _, _ = select.select([stream], [], [], _START_SECONDS)
            said = stream.readline() if ready else b""
        if said != b"ready\n":
            process.kill()
            process.wait()
            raise FatalError(
                f"circuit {self.wire.circuit.name}",
                f"its delay line does not start: {log.read_text().strip() or 'it says nothing'}",
                remedy="see `dpp lab status`",
            )
        self._pid_file.write_text(str(process.pid))


def stop_all(folder: Path) -> None:
    """End every delay line whose files lie in `folder`, the run folder's ``links``."""
    for file in folder.glob("*.pid"):
        parameters = os.fsencode(file.with_suffix(".json"))
        try:
            pid = int(file.read_text())
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except (OSError, ValueError):
            continue
        if parameters in words:
            _end(pid)


def _end(pid: int) -> None:
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        signal.pidfd_send_signal(handle, signal.SIGTERM)
        gone, _, _ = select.select([handle], [], [], _STOP_SECONDS)
        if not gone:
            signal.pidfd_send_signal(handle, signal.SIGKILL)
            select.select([handle], [], [], _STOP_SECONDS)
    except ProcessLookupError:
        pass
    finally:
        os.close(handle)
    # A child of this very process stays as a zombie until it is waited for.
    deadline = time.monotonic() + _STOP_SECONDS
    while time.monotonic() < deadline:
        try:
            if os.waitpid(pid, os.WNOHANG)[0] == pid:
                return
        except ChildProcessError:
            return
        time.sleep(0.01)
