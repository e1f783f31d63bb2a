"""What can be done with the stacks of an environment, by the engine's command."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import IO, Any, Final

from dpp.adapters.process import run
from dpp.adapters.pulumi.backend import Backend
from dpp.adapters.pulumi.events import Event, Listener, Reader, Result, ignore
from dpp.adapters.pulumi.locks import Holder, break_dead, holders
from dpp.model.errors import DppError, FatalError, RetriableError

_LOOK_AGAIN_SECONDS: Final = 1.0
_SECONDS: Final = 600.0
"""Limit of what only reads or writes a state."""
_OUT_OF_DATE: Final = "update failed", "preview failed", "refresh failed", "destroy failed", "update canceled"
"""What the engine says when it has said already what went wrong."""
_LOCKED: Final = "the stack is currently locked"


class Stacks:
    """The stacks of one environment.

    Parameters
    ----------
    backend
        Where they are.
    parallel
        How many steps of a stack change things at once.
    wait
        Wait for others that work on a stack, in place of an error.
    """

    def __init__(self, backend: Backend, *, parallel: int = 8, wait: bool = False) -> None:
        self.backend = backend
        self._parallel, self._wait = parallel, wait
        self._running: set[subprocess.Popen[str]] = set()
        self._guard = Lock()
        self._interrupted = False

    def preview(self, stack: str, listener: Listener = ignore, *, refresh: bool = False) -> Result:
        """Tell what `up` would do, changing nothing."""
        self.backend.ensure(stack, self._run)
        return self._operate("preview", stack, listener, refresh=refresh)

    def up(self, stack: str, listener: Listener = ignore, *, refresh: bool = False) -> Result:
        """Bring a stack to what its program asks for; what an earlier operation left unfinished is settled first.

        Raises
        ------
        RetriableError
            If somebody else is at work on the stack.
        """
        self.backend.ensure(stack, self._run)
        self._take_over(stack, listener)
        return self._operate("up", stack, listener, refresh=refresh)

    def refresh(self, stack: str, listener: Listener = ignore) -> Result:
        """Read every object of a stack and note in the state what is different."""
        self._existing(stack)
        self._take_over(stack, listener)
        return self._operate("refresh", stack, listener)

    def destroy(self, stack: str, listener: Listener = ignore) -> Result:
        """Delete everything that a stack has."""
        self._existing(stack)
        self._take_over(stack, listener)
        return self._operate("destroy", stack, listener)

    def cancel(self, stack: str) -> list[Holder]:
        """Break the locks of processes that are gone and return them.

        Raises
        ------
        FatalError
            If a holder is still at work.
        """
        folder = self.backend.locks(stack)
        if working := [holder for holder in holders(folder) if holder.lives]:
            raise FatalError(
                stack,
                f"{working[0]} is still at work on it",
                "a lock whose process is gone",
                f"stop it by `kill -INT {working[0].pid}` on {working[0].host}; it finishes the steps that run and keeps "
                f"the state; if that host is gone for good, delete {working[0].file}",
            )
        return break_dead(folder)

    def outputs(self, stack: str, *, show_secrets: bool = False) -> dict[str, Any]:
        """Return what a stack exports."""
        self._existing(stack)
        words = ["--show-secrets"] if show_secrets else []
        found: dict[str, Any] = json.loads(self._run("stack", "output", "-s", stack, "--json", *words))
        return found

    def export(self, stack: str, *, show_secrets: bool = False) -> dict[str, Any]:
        """Return a stack's state in the engine's exchange form; secrets are encrypted where nobody asks for them."""
        self._existing(stack)
        words = ["--show-secrets"] if show_secrets else []
        found: dict[str, Any] = json.loads(self._run("stack", "export", "-s", stack, *words))
        return found

    def import_(self, stack: str, exported: dict[str, Any]) -> int:
        """Replace a stack's state by an exported one and return how many resources it has."""
        self.backend.ensure(stack, self._run)
        self._run("stack", "import", "-s", stack, given=json.dumps(exported))
        return len((self.backend.checkpoint(stack) or {}).get("resources") or [])

    def interrupt(self) -> None:
        """Ask what runs to finish its steps and keep the state; asked twice, to end at once."""
        with self._guard:
            self._interrupted = True
            for process in self._running:
                process.send_signal(signal.SIGINT)

    # -- inside ------------------------------------------------------------------------------------------------------

    def _existing(self, stack: str) -> None:
        if self.backend.checkpoint(stack) is None:
            raise FatalError(stack, "never applied", "a stack that was applied", f"run dpp stack up {stack}")

    def _take_over(self, stack: str, listener: Listener) -> None:
        """Break dead locks, refuse or wait for living ones, and settle what was cut short."""
        folder = self.backend.locks(stack)
        for holder in break_dead(folder):
            listener(Event("log", stack, message=f"broke the lock of {holder}", severity="warning"))
        while others := holders(folder):
            if not self._wait:
                raise RetriableError(
                    stack,
                    f"locked by {', '.join(map(str, others))}",
                    "a stack nobody works on",
                    "wait for it to end, or give --wait-for-lock",
                )
            listener(Event("log", stack, message=f"waiting for {others[0]}"))
            others[0].wait(_LOOK_AGAIN_SECONDS)
            break_dead(folder)
        state = self.backend.checkpoint(stack) or {}
        if state.get("pending_operations") or any(one.get("delete") for one in state.get("resources") or ()):
            from dpp.adapters.pulumi.recovery import settle  # noqa: PLC0415 - gRPC takes half a second, and most often nothing was cut short

            settled, messages = settle(self.export(stack, show_secrets=True), self.backend)
            self.import_(stack, settled)
            for message in messages:
                listener(Event("log", stack, message=message, severity="warning"))

    def _operate(self, verb: str, stack: str, listener: Listener, *, refresh: bool = False) -> Result:
        result = Result(verb, stack)
        begun = time.monotonic()
        words = [verb, "-s", stack, "--json", "--parallel", str(self._parallel), *(["--refresh"] if refresh else [])]
        if verb != "preview":
            words += ["--yes", "--skip-preview"]
        with tempfile.TemporaryFile("w+") as said:
            code = self._follow(words, Reader(result, listener, time.monotonic), said)
            said.seek(0)
            self._judge(result, code, said.read())
        result.seconds = time.monotonic() - begun
        return result

    def _follow(self, words: list[str], reader: Reader, said: IO[str]) -> int:
        """Run a verb whose standard output is a stream of events; Ctrl-C is passed on, and raised when it has ended."""
        interrupts = []
        process = self._start(words, said)
        assert process.stdout  # noqa: S101 - it is a pipe
        while True:
            try:
                for line in process.stdout:
                    _take(reader, line)
                code = process.wait()
                break
            except KeyboardInterrupt as interrupt:
                interrupts.append(interrupt)
                self.interrupt()
        with self._guard:
            self._running.discard(process)
        if interrupts:
            raise interrupts[0]
        return code

    def _start(self, words: list[str], said: IO[str]) -> subprocess.Popen[str]:
        with self._guard:
            if self._interrupted:
                raise KeyboardInterrupt
            process = subprocess.Popen(
                # It ends with this process, however that ends; what it leaves then is settled by the next operation.
                ["setpriv", "--pdeathsig", "KILL", *self.backend.engine(*words)],
                cwd=self.backend.project,
                env=os.environ | self.backend.variables(),
                text=True,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=said,
                process_group=0,  # Ctrl-C reaches this process alone, which passes it on once
            )
            self._running.add(process)
        return process

    def _judge(self, result: Result, code: int, said: str) -> None:
        """Complete a result by what the engine said outside of events."""
        lines = [line.removeprefix("error: ").strip() for line in said.splitlines() if line.strip()]
        told = [line for line in lines if line and not line.startswith(_OUT_OF_DATE)]
        result.errors = [text for text in result.errors if not text.startswith(_OUT_OF_DATE)]
        if code == 0:
            return
        if not result.errors and any(_LOCKED in line for line in told):
            raise RetriableError(result.stack, " ".join(told), "a stack nobody works on", "wait for it to end")
        if not result.errors and not result.steps and told:
            raise self._error(result.operation, result.stack, "\n".join(told))
        if not result.errors:
            result.errors = ["; ".join(told) or f"the engine ended with code {code}"]

    def _run(self, *words: str, given: str | None = None, cwd: Path | None = None) -> str:
        variables = self.backend.variables() | ({"PULUMI_OPTION_CONFIG_FILE": ""} if cwd else {})
        command = self.backend.engine(*words)
        done = run(command, timeout=_SECONDS, input=given, env=variables, cwd=cwd or self.backend.project, check=False)
        if done.code:
            raise self._error(words[0], words[-1], done.said)
        return done.stdout

    def _error(self, verb: str, subject: str, said: str) -> DppError:
        text = " ".join(said.replace("error: ", "").split())
        if "passphrase" in text and "incorrect" in text:
            return FatalError(
                str(self.backend.config_file),
                "the passphrase does not open its secrets",
                "the passphrase that they were made with",
                f"restore {self.backend.passphrase_file}",
            )
        return FatalError(subject, f"pulumi {verb}: {text}")


def _take(reader: Reader, line: str) -> None:
    with suppress(json.JSONDecodeError):  # a line of something else that shares the engine's standard output
        reader.read(json.loads(line))
