"""The one runner of other programs: its limits, its errors, and that nothing is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from dpp.adapters import process
from dpp.adapters.process import CommandFailedError, CommandTimeoutError
from dpp.model.errors import FatalError, RetriableError

_STUBBORN = "trap '' TERM; sleep 1000 & echo $! > {pid}; echo begun; wait; wait"
"""A shell that does not end when it is asked to, and its child."""


def _sh(script: str) -> list[str]:
    return ["sh", "-c", script]


def _gone(file: Path) -> bool:
    pid = int(file.read_text())
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def _await_gone(file: Path) -> None:
    """Return once it has ended: it was killed, and the kernel ends it when it comes to that."""
    while not _gone(file):
        time.sleep(0.01)


def test_what_a_program_prints_comes_back_whole_from_both_streams() -> None:
    both = "import sys; sys.stdout.write('o' * 300000); sys.stderr.write('e' * 300000)"
    done = process.run([sys.executable, "-c", both], timeout=30)
    assert (done.code, done.stdout, done.stderr) == (0, "o" * 300000, "e" * 300000)


def test_input_is_what_was_given_or_nothing() -> None:
    assert process.run(["cat"], timeout=30, input="x" * 300000).stdout == "x" * 300000
    assert process.run(["cat"], timeout=30).stdout == ""


def test_failure_names_command_code_and_last_words() -> None:
    with pytest.raises(CommandFailedError) as raised:
        process.run(_sh("echo out; seq 100 >&2; exit 7"), timeout=30, remedy="do that")
    error = raised.value
    assert isinstance(error, FatalError)
    assert (error.code, error.stdout) == (7, "out\n")
    assert error.found.startswith("exit code 7:\n61\n")
    assert str(error).startswith("sh -c ")
    assert str(error).endswith("99\n100; do that")
    assert process.run(_sh("exit 7"), timeout=30, check=False).code == 7


def test_a_missing_program_is_named() -> None:
    with pytest.raises(CommandFailedError, match=r"no-such-program: .*doctor --fix") as raised:
        process.run(["no-such-program"], timeout=30)
    assert raised.value.code == 127


@pytest.mark.parametrize("way", ["run", "lines"])
def test_at_its_limit_all_of_a_program_is_killed(tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_GRACE_SECONDS", 0.2)
    command = _sh(_STUBBORN.format(pid=tmp_path / "pid"))
    with pytest.raises(CommandTimeoutError, match=r"not ended within 1 s: begun") as raised:
        process.run(command, timeout=1) if way == "run" else list(process.lines(command, timeout=1))
    assert isinstance(raised.value, RetriableError)
    _await_gone(tmp_path / "pid")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_command_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    """The program runs in a thread, as machines and sites do: the signal reaches the first thread alone."""
    script = (
        "import dpp.cli, threading; from concurrent.futures import ThreadPoolExecutor; from dpp.adapters import process\n"
        f"words = ['sh', '-c', 'sleep 1000 & echo $! > {tmp_path}/new; mv {tmp_path}/new {tmp_path}/pid; wait']\n"
        "def work(**_):\n"
        "    with ThreadPoolExecutor() as pool:\n"
        "        pool.submit(process.run, words, timeout=1000).result()\n"
        "dpp.cli.app = work\n"
        "dpp.cli.main()\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.DEVNULL) as tool:
        while not (tmp_path / "pid").exists():
            assert tool.poll() is None
            time.sleep(0.01)
        tool.send_signal(number)
        assert tool.wait(60) != 0
    _await_gone(tmp_path / "pid")


def test_a_daemon_that_is_left_keeps_nobody_waiting(tmp_path: Path) -> None:
    done = process.run(_sh(f"setsid sleep 1000 & echo $! > {tmp_path}/pid; echo ready"), timeout=60)
    assert done.stdout == "ready\n"
    assert not _gone(tmp_path / "pid")
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


def test_lines_come_as_they_are_printed_and_the_error_has_the_last() -> None:
    came = process.lines(_sh("echo one; echo two >&2; printf three; exit 3"), timeout=30)
    assert [next(came), next(came), next(came)] == ["one", "two", "three"]
    with pytest.raises(CommandFailedError, match=r"exit code 3:\none\ntwo\nthree"):
        next(came)


def test_who_stops_reading_lines_ends_the_program(tmp_path: Path) -> None:
    came = process.lines(_sh(f"echo $$ > {tmp_path}/pid; echo begun; exec sleep 1000"), timeout=60)
    assert next(came) == "begun"
    came.close()  # type: ignore[attr-defined]  # a generator
    assert _gone(tmp_path / "pid")


@pytest.mark.parametrize("locale", ["C", "xx_XX.UTF-8", "de_DE.ISO-8859-1"])
def test_programs_speak_one_language_whatever_the_terminal_does(locale: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", locale)
    assert process.run(_sh("echo $LC_ALL"), timeout=30).stdout == "C.UTF-8\n"
    assert process.run(_sh("echo $LC_ALL"), timeout=30, env={"LC_ALL": "C"}).stdout == "C\n"


def test_what_runs_beside_ends_with_the_body(tmp_path: Path) -> None:
    script = "trap 'echo last; exit 5' TERM; echo $$; while :; do sleep 0.01; done"
    with process.beside(_sh(script), output=tmp_path / "out", errors=tmp_path / "err") as code:
        while not (tmp_path / "out").read_text():
            time.sleep(0.01)
        assert code() is None
    assert (tmp_path / "out").read_text().endswith("last\n")
    assert code() == 5


def test_a_daemon_lives_on_once_it_is_ready(tmp_path: Path) -> None:
    script = f"echo $$ > {tmp_path}/pid; echo ready; exec sleep 1000"
    process.daemon(_sh(script), log=tmp_path / "log", ready="ready", timeout=30)
    assert not _gone(tmp_path / "pid")
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


def test_what_ends_with_all_that_it_started_leaves_the_daemons_that_it_set_free(tmp_path: Path) -> None:
    """As the provider does, which starts delay lines and ends with its engine."""
    program = f"""
import subprocess
from pathlib import Path
from dpp.adapters import orphans, process
own = subprocess.Popen(["sleep", "1000"])
Path("{tmp_path}/own").write_text(str(own.pid))
free = ["sh", "-c", "echo $$ > {tmp_path}/free; echo ready; sleep 1000"]
process.daemon(free, log=Path("{tmp_path}/log"), ready="ready", timeout=30)
orphans.end(7)
"""
    assert process.run([sys.executable, "-c", program], timeout=60, check=False).code == 7
    _await_gone(tmp_path / "own")
    assert not _gone(tmp_path / "free")
    os.killpg(int((tmp_path / "free").read_text()), signal.SIGKILL)


def test_a_daemon_that_does_not_start_says_why_and_is_gone(tmp_path: Path) -> None:
    script = f"echo $$ > {tmp_path}/pid; echo no port >&2; echo oh"
    with pytest.raises(CommandFailedError, match=r"it said 'oh': no port; expected 'ready'"):
        process.daemon(_sh(f"{script}; exec sleep 1000"), log=tmp_path / "log", ready="ready", timeout=30)
    assert _gone(tmp_path / "pid")
