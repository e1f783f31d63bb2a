"""The process that carries a circuit's frames where the kernel has no netem: started, told, found and ended here."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from dpp.adapters.process import Words, daemon, end
from dpp.build.tools import tool_folder
from dpp.lab.links.state import Condition, Wire

_PROGRAM = "delayline"
_START_SECONDS = 10.0
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
        """The process that carries this circuit, None where there is none."""
        return next((process.pid for process in self._processes()), None)

    def ensure(self, condition: Condition) -> None:
        """Start the process if it does not run; tell it delay and loss.

        Raises
        ------
        DppError
            If it does not start; the text holds what it said.
        """
        changed = self._write_parameters(condition)
        running = self._processes()
        if not running:
            self._start()
        elif changed:
            for process in running:
                process.send_signal(signal.SIGHUP)

    def stop(self) -> None:
        """End the process, if it runs."""
        end(self._processes())
        for file in (self._parameters, self._log):
            file.unlink(missing_ok=True)

    def _processes(self) -> list[psutil.Process]:
        return _carriers(self._log.resolve().__eq__)

    def read(self) -> tuple[float, float] | None:
        """Return delay in milliseconds and loss in percent that the running process was told, else None."""
        if self.pid is None:
            return None
        told = json.loads(self._parameters.read_text())
        return told["delay_us"] / 1e3, round(told["loss"] * 100, 4)

    @property
    def _parameters(self) -> Path:
        return self.wire.file("json")

    @property
    def _log(self) -> Path:
        return self.wire.file("log")

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
        enter = ["nsenter", f"--net=/run/netns/{self.wire.namespace}", "--"]
        program = tool_folder(_PROGRAM) / "bin" / _PROGRAM
        command: Words = [*enter, program, self._parameters, *self.wire.ports]
        daemon(command, log=self._log, ready="ready", timeout=_START_SECONDS)


def stop_all(folder: Path) -> None:
    """End every delay line whose files lie in `folder`, the run folder's ``links``."""
    folder = folder.resolve()
    end(_carriers(lambda log: log.parent == folder))


def _carriers(wanted: Callable[[Path], bool]) -> list[psutil.Process]:
    """Return the delay lines whose log is wanted.

    What a process complains to is its identity from its first moment on: it stays through every program that the process
    becomes, while a command line is empty for the moment in which it becomes the next.
    """
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):  # it ended while we looked, or has no files
            if wanted(Path(f"/proc/{process.pid}/fd/2").readlink()) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found
