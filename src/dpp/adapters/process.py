"""Every other program that this tool runs: each with a limit of time and one typed error, none left behind.

A program runs in a session of its own. When its time is over, or this tool is interrupted, all of that session is asked to
end and then killed. A daemon that it leaves behind on purpose keeps nobody waiting.
"""

from __future__ import annotations

import os
import selectors
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psutil

from dpp.model.errors import FatalError, RetriableError, UsageError

LOCALE = "C.UTF-8"
"""Every Debian has it, it speaks English, and Ansible accepts it."""

_WORDS = 4
"""How many words of a command name it in errors."""
_TAIL = 40
"""How many of its last lines an error shows."""
_GRACE_SECONDS = 5.0
_NOT_FOUND = 127

Words = Sequence[str | Path]

_running: set[int] = set()
"""The sessions that run now."""
daemons: set[int] = set()
"""What this process started and set free: it outlives this process, whatever ends that."""


@dataclass(eq=False)
class CommandFailedError(FatalError):
    """A program ended with another exit code than 0, or could not be started.

    Parameters
    ----------
    code
        Its exit code; 127 where there is no such program.
    stdout, stderr
        All that it printed.
    """

    code: int = 0
    stdout: str = ""
    stderr: str = ""


class CommandTimeoutError(RetriableError):
    """A program did not end in its time."""


@dataclass(frozen=True)
class Done:
    """What came of a program.

    Parameters
    ----------
    code
        Its exit code.
    output, errors
        What it wrote.
    """

    code: int
    output: bytes
    errors: bytes

    @property
    def stdout(self) -> str:
        """What it wrote, as text."""
        return self.output.decode(errors="replace")

    @property
    def stderr(self) -> str:
        """What it complained of, as text."""
        return self.errors.decode(errors="replace")

    @property
    def said(self) -> str:
        """The end of its complaints, or of its output where it had none: for people."""
        return _tail((self.stderr.strip() or self.stdout.strip()).splitlines())


def run(
    command: Words,
    *,
    timeout: float,
    input: str | bytes | None = None,  # noqa: A002 - as the standard library calls it
    env: Mapping[str, str] | None = None,
    cwd: Path | str | None = None,
    check: bool = True,
    remedy: str = "",
) -> Done:
    """Run a program to its end and return what came of it.

    Parameters
    ----------
    command
        The program and its arguments.
    timeout
        Seconds that it may take.
    input
        What it reads; nothing by default, never the terminal.
    env
        Variables beside those of this process.
    cwd
        Folder that it runs in.
    check
        Raise where it ends with another exit code than 0.
    remedy
        The next step, for the error.

    Raises
    ------
    CommandFailedError
        It failed, or there is no such program.
    CommandTimeoutError
        It did not end in time; nothing of it is left.
    """
    pieces: dict[int, list[bytes]] = {1: [], 2: []}
    with _input(input) as source, _started(command, source, subprocess.PIPE, subprocess.PIPE, env, cwd) as process:
        try:
            for stream, piece in _pieces(process, timeout):
                pieces[stream].append(piece)
        except TimeoutError:
            said = Done(0, b"".join(pieces[1]), b"".join(pieces[2])).said
            raise _overdue(command, timeout, said, remedy) from None
    done = Done(process.returncode, b"".join(pieces[1]), b"".join(pieces[2]))
    if check and done.code != 0:
        raise _failure(command, done, remedy)
    return done


def lines(
    command: Words, *, timeout: float, env: Mapping[str, str] | None = None, cwd: Path | str | None = None
) -> Iterator[str]:
    """Yield what a program prints, on both streams, line by line; parameters and errors as of `run`."""
    printed: list[str] = []
    with _started(command, subprocess.DEVNULL, subprocess.PIPE, subprocess.STDOUT, env, cwd) as process:
        try:
            for line in _lines(process, timeout):
                printed = [*printed[1 - _TAIL :], line]
                yield line
        except TimeoutError:
            raise _overdue(command, timeout, _tail(printed)) from None
    if process.returncode != 0:
        raise _failure(command, Done(process.returncode, "\n".join(printed).encode(), b""))


@contextmanager
def beside(
    command: Words,
    *,
    output: Path,
    errors: Path,
    env: Mapping[str, str] | None = None,
    patience: float = 5.0,
) -> Iterator[Callable[[], int | None]]:
    """Run a program while the body of the ``with`` runs; what is yielded returns its exit code, None while it has none.

    At the end of the body the program is asked to end, and killed `patience` seconds later.
    """
    with (
        output.open("wb") as into,
        errors.open("wb") as complaints,
        _started(command, subprocess.DEVNULL, into, complaints, env, None, patience) as process,
    ):
        yield process.poll


def daemon(command: Words, *, log: Path, ready: str, timeout: float) -> None:
    """Start a program that outlives this tool, and return once it has said `ready`; its complaints go to `log`.

    Raises
    ------
    CommandFailedError
        It ended, or said something else; nothing of it is left.
    CommandTimeoutError
        It said nothing in time; nothing of it is left.
    """
    with log.open("wb") as complaints:
        process = _start(command, subprocess.DEVNULL, subprocess.PIPE, complaints, None, "/")
    said: str | None = None
    try:
        said = next(_lines(process, timeout), "")
    except TimeoutError:
        raise _overdue(command, timeout, log.read_text(errors="replace").strip()) from None
    finally:
        if said != ready:
            _end(process)
        _forget(process)
    if said == ready:
        daemons.add(process.pid)
    else:
        found = _with(f"it said {said!r}", log.read_text(errors="replace").strip())
        raise CommandFailedError(_name(command), found, repr(ready))


def at_terminal(command: Words) -> int:
    """Run a program with the input and output of this process, and return its exit code; 128 and more name a signal.

    It has no limit of time, and ends with this process, however that ends. Ctrl-C reaches it as well: it decides what
    becomes of that, and is waited for.

    Raises
    ------
    UsageError
        If there is no such program.
    """
    if shutil.which(command[0]) is None:
        raise UsageError(str(command[0]), "no program of this name", "a command that can be run", "check its spelling")
    process = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", "--", *command])
    while True:
        with suppress(KeyboardInterrupt):
            code = process.wait()
            return code if code >= 0 else 128 - code


def end(processes: list[psutil.Process], patience: float = 0.0) -> list[psutil.Process]:
    """Wait `patience` seconds for processes to end by themselves; then ask those left, and then kill them; return all."""
    alive = _outliving(processes, patience)
    for verb in (psutil.Process.terminate, psutil.Process.kill):
        for process in alive:
            with suppress(psutil.NoSuchProcess):
                verb(process)
        alive = _outliving(alive, _GRACE_SECONDS)
    return processes


def _outliving(processes: list[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Return those that still run `seconds` later; a zombie does not, whoever may be late to bury it."""
    deadline = time.monotonic() + seconds
    while (alive := [one for one in processes if _lives(one)]) and time.monotonic() < deadline:
        time.sleep(0.02)  # they are nobody's children here: there is no end to wait for but to look again
    return alive


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def end_all() -> None:
    """Ask all that runs now to end, whatever thread waits for it; for handlers of signals."""
    for session in tuple(_running):
        with suppress(ProcessLookupError):
            os.killpg(session, signal.SIGTERM)


# -- one process -------------------------------------------------------------------------------------------------------


def _start(
    command: Words,
    source: int | IO[bytes],
    output: int | IO[bytes],
    errors: int | IO[bytes],
    env: Mapping[str, str] | None,
    cwd: Path | str | None,
) -> subprocess.Popen[bytes]:
    variables = {**os.environ, "LC_ALL": LOCALE, **(env or {})}
    try:
        process = subprocess.Popen(
            command, stdin=source, stdout=output, stderr=errors, env=variables, cwd=cwd, start_new_session=True
        )
    except OSError as error:
        remedy = "run dpp doctor --fix" if isinstance(error, FileNotFoundError) else ""
        raise CommandFailedError(_name(command), str(error), "a program that runs", remedy, _NOT_FOUND) from error
    _running.add(process.pid)
    return process


@contextmanager
def _started(
    command: Words,
    source: int | IO[bytes],
    output: int | IO[bytes],
    errors: int | IO[bytes],
    env: Mapping[str, str] | None,
    cwd: Path | str | None,
    patience: float = 0.0,
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a program; if it still runs at the end of the ``with``, it is ended."""
    process = _start(command, source, output, errors, env, cwd)
    try:
        yield process
    finally:
        if process.poll() is None:
            _end(process, patience)
        _forget(process)


def _end(process: subprocess.Popen[bytes], patience: float = 0.0) -> None:
    """Ask all of the program's session to end, then kill what is left of it."""
    with suppress(ProcessLookupError):  # nobody is left
        for number, seconds in ((signal.SIGTERM, patience or _GRACE_SECONDS), (signal.SIGKILL, _GRACE_SECONDS)):
            os.killpg(process.pid, number)
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline:
                process.poll()  # a zombie counts as somebody
                os.killpg(process.pid, 0)
                time.sleep(0.01)


def _forget(process: subprocess.Popen[bytes]) -> None:
    _running.discard(process.pid)
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()


@contextmanager
def _input(content: str | bytes | None) -> Iterator[int | IO[bytes]]:
    """Yield what a program is to read from: nothing, or a file that no disk has."""
    if content is None:
        yield subprocess.DEVNULL
        return
    with os.fdopen(os.memfd_create("input"), "w+b") as file:
        file.write(content.encode() if isinstance(content, str) else content)
        file.seek(0)
        yield file


def _pieces(process: subprocess.Popen[bytes], seconds: float) -> Iterator[tuple[int, bytes]]:
    """Yield stream (1 or 2) and content of what a program writes, until it has ended.

    Its end counts, not that of its streams: a daemon that it left may hold them for good.

    Raises
    ------
    TimeoutError
        It has not ended within so many seconds.
    """
    deadline = time.monotonic() + seconds
    with selectors.PollSelector() as selector, os.fdopen(os.pidfd_open(process.pid)) as end:
        selector.register(end, selectors.EVENT_READ)
        for number, stream in ((1, process.stdout), (2, process.stderr)):
            if stream is not None:
                os.set_blocking(stream.fileno(), False)
                selector.register(stream, selectors.EVENT_READ, number)
        ended = False
        while not ended:
            left = deadline - time.monotonic()
            ready = selector.select(left) if left > 0 else []
            if not ready:
                raise TimeoutError
            ended = any(key.fileobj is end for key, _ in ready)
            for key in [one for one in selector.get_map().values() if one.data]:
                for piece in _content(key.fd):
                    yield key.data, piece
                    if not piece:  # its end
                        selector.unregister(key.fileobj)
    process.wait()


def _content(descriptor: int) -> Iterator[bytes]:
    """Yield what can be read now; nothing more, an empty piece, where the stream is at its end."""
    with suppress(BlockingIOError):
        while piece := os.read(descriptor, 1 << 16):
            yield piece
        yield b""


def _lines(process: subprocess.Popen[bytes], seconds: float) -> Iterator[str]:
    rest = b""
    for _, piece in _pieces(process, seconds):
        *whole, rest = (rest + piece).split(b"\n")
        yield from (line.decode(errors="replace").rstrip() for line in whole)
    if rest:
        yield rest.decode(errors="replace").rstrip()


# -- words -------------------------------------------------------------------------------------------------------------


def _name(command: Words) -> str:
    return shlex.join(str(word) for word in command[:_WORDS])


def _tail(said: Sequence[str]) -> str:
    return "\n".join(said[-_TAIL:])


def _with(what: str, said: str) -> str:
    return f"{what}:\n{said}" if "\n" in said else f"{what}: {said}" if said else what


def _failure(command: Words, done: Done, remedy: str = "") -> CommandFailedError:
    found = _with(f"exit code {done.code}", done.said)
    return CommandFailedError(_name(command), found, "", remedy, done.code, done.stdout, done.stderr)


def _overdue(command: Words, seconds: float, said: str, remedy: str = "") -> CommandTimeoutError:
    return CommandTimeoutError(_name(command), _with(f"not ended within {seconds:g} s", said), "", remedy)
