"""What each operation of the engine's adapter does, refuses and says, on objects that are files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from dpp.adapters.pulumi.events import Event
from dpp.adapters.pulumi.locks import Holder
from dpp.adapters.pulumi.stacks import Stacks
from dpp.model.errors import FatalError, RetriableError
from stacks.projects import FIRST, SECOND, Ledger, engine, messages, steps

UP = (
    "import signal, sys; from pathlib import Path; from stacks.projects import Ledger;"
    "signal.signal(signal.SIGINT, signal.default_int_handler);"  # who started these tests may have it ignored
    "r = Ledger(Path(sys.argv[1])).stacks.up('lab.ledger', lambda e: print(e.kind, e.urn, e.progress, e.message, flush=True));"
    "print(r.errors); sys.exit(0 if r.ok else 1)"
)
TESTS = Path(__file__).parents[1]


def start_up(ledger: Ledger) -> subprocess.Popen[str]:
    variables = os.environ | {"PYTHONPATH": f"{TESTS.parent / 'src'}:{TESTS}"}
    command = [sys.executable, "-c", UP, str(ledger.top)]
    return subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for(process: subprocess.Popen[str], text: str) -> None:
    assert process.stdout
    for line in process.stdout:
        if text in line:
            return
    pytest.fail(f"{text!r} was never said")


def test_whole_life(ledger: Ledger) -> None:
    """Create, change in every way, drift, repair, destroy; no secret in plain text on disk at any time."""
    stacks, stack = ledger.stacks, ledger.stack
    created = stacks.up(stack)
    assert created.ok, created.errors
    assert steps(created)["twin"] == "create"
    assert created.outputs == {"places": ["here", "here"], "token": "[secret]"}
    assert stacks.outputs(stack, show_secrets=True) == {"places": ["here", "here"], "token": "hidden-token"}
    assert "hidden" not in json.dumps(stacks.export(stack))
    assert ledger.objects().keys() == FIRST

    ledger.configure(mode="second")
    planned, done = stacks.preview(stack), stacks.up(stack)
    expected = {"base": "update", "user": "update", "fresh0": "create", "old": "delete"}
    assert {name: steps(done)[name] for name in expected} == expected
    assert done.counts["replace"] == 3
    assert {key: planned.counts[key] for key in ("create", "replace", "delete")} == {
        key: done.counts[key] for key in ("create", "replace", "delete")
    }
    update = next(step for step in done.steps if step.urn.endswith("::base"))
    assert update.diff == {"size": {"old": 1, "new": 2}}
    assert ledger.objects().keys() == ledger.living().keys() == SECOND
    assert stacks.preview(stack).changes == 0

    record = ledger.objects()["base"]
    (ledger.top / "objects/base").write_text(json.dumps(record | {"inputs": record["inputs"] | {"size": 7}}))
    (ledger.top / "objects/fresh0").unlink()
    refreshed = stacks.refresh(stack)
    assert refreshed.ok, refreshed.errors
    assert {name: steps(refreshed)[name] for name in ("base", "fresh0", "user")} == {
        "base": "update",
        "fresh0": "forget",
        "user": "same",
    }
    assert next(step for step in refreshed.steps if step.verb == "update").diff == {"size": {"old": 2, "new": 7}}
    repaired = steps(stacks.up(stack))
    assert {name: verb for name, verb in repaired.items() if verb not in {"same", "read"}} == {
        "base": "update",
        "fresh0": "create",
    }
    assert ledger.objects()["base"]["inputs"]["size"] == 2

    disk = [path for path in (ledger.top / "state").rglob("*") if path.is_file()]
    assert len(disk) > 8
    assert not [path for path in disk if b"hidden-token" in path.read_bytes()]
    assert stacks.destroy(stack).ok
    assert not ledger.objects()
    assert not ledger.living()


def test_two_at_once_and_interrupt(ledger: Ledger) -> None:
    """The second `up` is refused and names the first, or waits; an interrupted one finishes its steps."""
    (ledger.top / "pause").touch()
    process = start_up(ledger)
    wait_for(process, "::base running")
    with pytest.raises(RetriableError, match=r"locked by \S+@\S+ \(process \d+\) since \S+; .*wait for it to end"):
        ledger.stacks.up(ledger.stack)
    with pytest.raises(FatalError, match=r"is still at work.*kill -INT \d+"):
        ledger.stacks.cancel(ledger.stack)
    results = []
    waiting = threading.Thread(
        target=lambda: results.append(Stacks(ledger.backend, wait=True).up(ledger.stack, events.append))
    )
    events: list[Event] = []
    waiting.start()
    while "waiting for" not in messages(events):
        assert waiting.is_alive()
    process.send_signal(signal.SIGINT)
    (ledger.top / "pause").unlink()
    text, _ = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "KeyboardInterrupt" in text
    waiting.join(120)
    assert results[0].ok, results[0].errors
    assert ledger.objects().keys() == ledger.living().keys() == FIRST
    assert sum(what == "create" and name == "base" for what, name in ledger.log()) == 1


def test_failed_creation_is_kept_and_finished(ledger: Ledger) -> None:
    """What a failed creation left is in the state; the others stand; the next `up` goes on from there."""
    ledger.configure(mode="half")
    result = ledger.stacks.up(ledger.stack)
    assert result.errors == ["broken: place half: the second stage failed"]
    assert "broken" in ledger.living()
    assert ledger.objects().keys() == ledger.living().keys()
    assert ledger.living()["broken"]["initErrors"] == ["place half: the second stage failed"]
    ledger.configure(mode="first")
    repaired = ledger.stacks.up(ledger.stack)
    assert repaired.ok
    assert steps(repaired)["broken"] == "delete"
    assert ledger.objects().keys() == ledger.living().keys() == FIRST


def test_wrong_inputs_and_errors_of_programs_are_sentences(ledger: Ledger) -> None:
    ledger.configure(mode="invalid")
    [said] = ledger.stacks.preview(ledger.stack).errors
    assert "resource type ledger:index:Only: no input 'place'; expected all inputs given" in said
    ledger.configure(mode="broken")
    [said] = ledger.stacks.preview(ledger.stack).errors
    assert said.splitlines()[0] == "KeyError: 'site'"
    assert said.splitlines()[1].startswith("  at stacks/__main__.py:")
    assert said.endswith(': raise KeyError("site")')
    assert not ledger.objects()


def test_wrong_passphrase(ledger: Ledger) -> None:
    assert ledger.stacks.preview(ledger.stack).ok
    ledger.backend.passphrase_file.write_text("another\n")
    with pytest.raises(FatalError, match=r"Pulumi\.lab\.yaml: the passphrase does not open its secrets"):
        ledger.stacks.preview(ledger.stack)


def test_lock_of_a_later_process_with_the_same_id(tmp_path: Path) -> None:
    """A process id that was used again does not make a stale lock look alive."""
    host = os.uname().nodename
    assert Holder(tmp_path, "user", host, os.getpid(), "2099-01-01T00:00:00Z").lives
    assert not Holder(tmp_path, "user", host, os.getpid(), "2001-01-01T00:00:00Z").lives
    assert Holder(tmp_path, "user", "another-host", 1, "2001-01-01T00:00:00Z").lives


def test_exchange(ledger: Ledger) -> None:
    """An exported state can be imported again, into another backend too."""
    assert ledger.stacks.up(ledger.stack).ok
    exported = ledger.stacks.export(ledger.stack)
    ledger.backend.folder.rename(ledger.top / "former")
    ledger.backend.folder.mkdir()
    (ledger.top / "former" / ledger.backend.config_file.name).rename(ledger.backend.config_file)
    assert ledger.stacks.import_(ledger.stack, exported) == len(exported["deployment"]["resources"])
    again = ledger.stacks.up(ledger.stack)
    assert (again.ok, again.changes) == (True, 0)
    with pytest.raises(FatalError, match="pulumi stack"):
        ledger.stacks.import_(ledger.stack, {"version": 4})


def test_damaged_state(ledger: Ledger) -> None:
    assert ledger.stacks.preview(ledger.stack).ok
    file = ledger.backend.folder / f".pulumi/stacks/ledger/{ledger.stack}.json"
    file.write_text(file.read_text()[:-3])
    with pytest.raises(FatalError, match=r"no JSON.*restore one from .*backups"):
        ledger.stacks.up(ledger.stack)


def test_everything_ends_with_what_started_it(ledger: Ledger) -> None:
    """Whoever is killed, what it started ends: the engine with its caller, program and provider with the engine."""
    (ledger.top / "pause").touch()
    process = start_up(ledger)
    wait_for(process, "::base running")
    children = psutil.Process(process.pid).children(recursive=True)
    names = {
        name
        for child in children
        for name in ("main.py", "pulumi-language-python")
        if name in " ".join(child.cmdline())
    }
    assert names == {"main.py", "pulumi-language-python"}
    while "base" not in ledger.objects():
        assert process.poll() is None
    process.kill()
    _, alive = psutil.wait_procs(children, timeout=60)
    assert not alive
    (ledger.top / "pause").unlink()
    process.communicate()
    events: list[Event] = []
    assert ledger.stacks.up(ledger.stack, events.append).ok
    assert "broke the lock of" in messages(events)
    assert "base was cut short while creating: base exists" in messages(events)
    assert ledger.objects().keys() == ledger.living().keys() == FIRST
    assert all(found["finished"] for found in ledger.objects().values())


def test_log_lines_reach_the_listener(ledger: Ledger) -> None:
    ledger.program.write_text(ledger.program.read_text() + "\npulumi.log.warn('mind the gap')\nprint('plain words')\n")
    events: list[Event] = []
    assert ledger.stacks.preview(ledger.stack, events.append).ok
    assert "mind the gap" in messages(events)
    assert "plain words" in messages(events)


def test_plain_commands(ledger: Ledger) -> None:
    """The engine's own command does the same on the same stacks, given the environment that we print."""
    assert ledger.stacks.up(ledger.stack).ok
    script = f"{ledger.backend.exports()}\ncd {ledger.top / 'ledger'}\nunset XDG_STATE_HOME\n"

    def pulumi(words: str) -> str:
        text = f"{script}pulumi {words} -s {ledger.stack} --non-interactive 2>&1"
        done = subprocess.run(["bash", "-ec", text], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout
        return done.stdout

    assert engine()
    assert "9 unchanged" in pulumi("preview --expect-no-changes")
    (ledger.top / "objects/old").unlink()
    assert "1 deleted" in pulumi("refresh --yes")
    assert "1 created" in pulumi("up --yes")
    (ledger.top / "exported.json").write_text(pulumi("stack export"))
    pulumi(f"stack import --file {ledger.top / 'exported.json'}")
    assert "deleted" in pulumi("destroy --yes")
    assert not ledger.objects()
