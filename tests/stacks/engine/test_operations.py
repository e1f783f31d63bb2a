"""What each operation does, refuses and says."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from dpp.engine import Event
from dpp.engine.locks import Holder
from dpp.model.errors import FatalError, RetriableError, UsageError
from stacks.engine.projects import Project, messages, steps

SOURCE = str(Path(__file__).parents[3] / "src")
UP = (
    "import sys; from pathlib import Path; from dpp.engine import Workspace;"
    "r = Workspace(Path(sys.argv[1]), sys.argv[2]).up(sys.argv[3], lambda e: print(e.kind, e.urn, e.progress, e.message, flush=True));"
    "print(r.errors); sys.exit(0 if r.ok else 1)"
)


def start_up(project: Project, **environment: str) -> subprocess.Popen[str]:
    arguments = [sys.executable, "-c", UP, str(project.folder), project.backend.as_uri(), project.stack]
    variables = {**os.environ, **project.environment, **environment, "PYTHONPATH": SOURCE}
    return subprocess.Popen(arguments, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for(process: subprocess.Popen[str], text: str) -> None:
    assert process.stdout
    for line in process.stdout:
        if text in line:
            return
    pytest.fail(f"{text!r} was never said")


def test_whole_life(ledger: Project) -> None:
    """Create, change in every way, drift, repair, destroy; no secret in plain text on disk at any time."""
    workspace = ledger.workspace()
    assert steps(workspace.up(ledger.stack))["twin"] == "create"
    assert workspace.outputs(ledger.stack, show_secrets=True) == {"places": ["here", "here"], "token": "hidden-token"}
    assert "hidden" not in json.dumps(workspace.export(ledger.stack))

    ledger.configure(mode="second")
    planned, done = workspace.preview(ledger.stack), workspace.up(ledger.stack)
    expected = {
        "base": "update",
        "moved": "replace",
        "after": "replace",
        "user": "update",
        "fresh0": "create",
        "old": "delete",
    }
    assert {name: steps(done)[name] for name in expected} == expected
    assert planned.counts | {"update": 0} == done.counts | {
        "update": 0
    }  # how long the unknown place is nobody knows before
    assert ledger.objects().keys() == ledger.living().keys()
    assert workspace.preview(ledger.stack).changes == 0

    record = ledger.objects()["base"]
    (ledger.ledger / "base").write_text(json.dumps(record | {"inputs": record["inputs"] | {"size": 7.0}}))
    (ledger.ledger / "fresh0").unlink()
    refreshed = workspace.refresh(ledger.stack)
    assert refreshed.ok, refreshed.errors
    assert {name: steps(refreshed)[name] for name in ("base", "fresh0", "user")} == {
        "base": "update",
        "fresh0": "forget",
        "user": "same",
    }
    assert next(step for step in refreshed.steps if step.verb == "update").diff == {"size": {"old": 2, "new": 7}}
    repaired = steps(workspace.up(ledger.stack))
    assert {name: verb for name, verb in repaired.items() if verb not in {"same", "read"}} == {
        "base": "update",
        "fresh0": "create",
    }
    assert ledger.objects()["base"]["inputs"]["size"] == 2
    assert "fresh0" in ledger.objects()

    disk = [path for path in ledger.backend.rglob("*") if path.is_file()]
    assert len(disk) > 8
    assert not [path for path in disk if b"hidden-token" in path.read_bytes()]
    assert workspace.destroy(ledger.stack).ok
    assert not ledger.objects()
    assert not ledger.state().resources


def test_two_at_once_and_interrupt(ledger: Project) -> None:
    """The second `up` is refused and names the first; an interrupted one finishes its steps and keeps the state."""
    process = start_up(ledger, LEDGER_PAUSE="1.0")
    wait_for(process, "::base running")
    with pytest.raises(
        RetriableError, match=rf"locked by \S+@\S+ \(process {process.pid}\) since \S+; .*wait for it to end"
    ):
        ledger.workspace().up(ledger.stack)
    with pytest.raises(FatalError, match=f"process {process.pid}.*is still at work.*kill -INT {process.pid}"):
        ledger.workspace().cancel(ledger.stack)
    process.send_signal(signal.SIGINT)
    text, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "finishing the steps that run" in text
    assert "['interrupted']" in text
    objects = ledger.objects()
    assert "base" in objects
    assert objects.keys() == ledger.living().keys()
    assert not ledger.state().pending
    assert "moved" not in objects  # it waits for base, so it never began
    assert ledger.workspace().up(ledger.stack).ok


@pytest.mark.slow
def test_failed_creation_is_kept_and_finished(ledger: Project) -> None:
    """What a failed creation left is in the state; the others stand; the next `up` goes on from there."""
    ledger.configure(mode="half")
    result = ledger.workspace().up(ledger.stack)
    assert result.errors == ["broken: place half: the second stage failed"]
    assert ledger.objects().keys() == ledger.living().keys()
    assert ledger.living()["broken"].fields["initErrors"] == ["place half: the second stage failed"]
    ledger.configure(mode="first")
    repaired = ledger.workspace().up(ledger.stack)
    assert repaired.ok
    assert steps(repaired)["broken"] == "delete"
    assert ledger.objects().keys() == ledger.living().keys()


@pytest.mark.slow
def test_protected(ledger: Project) -> None:
    ledger.configure(mode="protected")
    assert ledger.workspace().up(ledger.stack).ok
    ledger.configure(mode="first")
    result = ledger.workspace().up(ledger.stack)
    assert len(result.errors) == 1
    assert result.errors[0].startswith(
        "urn:pulumi:lab.ledger::ledger::ledger:index:Only::kept: protected from deletion;"
    )
    assert "kept" in ledger.objects()
    assert not ledger.workspace().destroy(ledger.stack).ok
    assert ledger.objects().keys() == ledger.living().keys()


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        ("hook", "the program asks for aliases, which the offline engine does not do"),
        ("refused", "the program asks for import, which the offline engine does not do"),
        ("invalid", "invalid: place: missing; expected a place"),
    ],
)
def test_refusals(ledger: Project, mode: str, message: str) -> None:
    ledger.configure(mode=mode)
    result = ledger.workspace().preview(ledger.stack)
    assert len(result.errors) == 1
    assert message in result.errors[0]
    assert not ledger.objects()


def test_program_error(ledger: Project) -> None:
    (ledger.folder / "stacks/__main__.py").write_text(
        "import pulumi\n\n\ndef f():\n    raise KeyError('site')\n\n\nf()\n"
    )
    result = ledger.workspace().up(ledger.stack)
    assert result.errors[0].splitlines() == [
        "KeyError: 'site'",
        "  at stacks/__main__.py:5 in f: raise KeyError('site')",
        "  at stacks/__main__.py:8 in <module>: f()",
    ]


@pytest.mark.slow
def test_missing_stack_reference(sample: Project) -> None:
    sample.checkpoint.with_name("lab.upstream.json").unlink()
    result = sample.workspace().preview(sample.stack)
    assert "organization/sample/lab.upstream: no such stack in" in result.errors[0]


def test_wrong_passphrase(ledger: Project) -> None:
    with pytest.raises(FatalError, match=r"Pulumi\.lab\.ledger\.yaml: the passphrase does not open its secrets"):
        ledger.workspace(PULUMI_CONFIG_PASSPHRASE="other").preview(ledger.stack)  # noqa: S106


def test_no_passphrase(ledger: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PULUMI_CONFIG_PASSPHRASE", raising=False)
    workspace = ledger.workspace(PULUMI_CONFIG_PASSPHRASE_FILE="/nowhere")  # noqa: S106
    workspace.environment = {
        key: value for key, value in workspace.environment.items() if key != "PULUMI_CONFIG_PASSPHRASE"
    }
    with pytest.raises(FatalError, match="/nowhere: cannot be read"):
        workspace.preview(ledger.stack)


def test_other_backends(ledger: Project) -> None:
    workspace = ledger.workspace()
    workspace.backend_url = "s3://bucket"
    with pytest.raises(UsageError, match="s3://bucket: not a folder"):
        workspace.__post_init__()


def test_lock_of_a_later_process_with_the_same_id(tmp_path: Path) -> None:
    """A process id that was used again does not make a stale lock look alive."""
    host = os.uname().nodename
    assert Holder(tmp_path, "user", host, os.getpid(), "2099-01-01T00:00:00Z").lives
    assert not Holder(tmp_path, "user", host, os.getpid(), "2001-01-01T00:00:00Z").lives
    assert Holder(tmp_path, "user", "another-host", 1, "2001-01-01T00:00:00Z").lives


@pytest.mark.slow
def test_exchange(sample: Project) -> None:
    """An exported state can be imported again; what this engine does not know survives; foreign ones are refused."""
    from stacks.engine.test_replay import recorded_state

    found = recorded_state("02-up-create")
    found["resources"][5]["ofTheFuture"] = {"a": [1]}
    found["ofTheFuture"] = True
    workspace = sample.workspace()
    assert workspace.import_(sample.stack, {"version": 3, "deployment": found}) == 8
    sample.configure(mode="second")
    assert workspace.up(sample.stack).ok
    exported = workspace.export(sample.stack)
    assert exported["deployment"]["ofTheFuture"] is True
    assert [item["id"] for item in exported["deployment"]["resources"] if "ofTheFuture" in item] == ["storage"]
    with pytest.raises(FatalError, match=r"expected resources of stack lab\.other"):
        workspace.import_("lab.other", exported)
    with pytest.raises(FatalError, match="no exported state"):
        workspace.import_(sample.stack, {"version": 4})


def test_damaged_state(ledger: Project) -> None:
    ledger.put_state({})
    ledger.checkpoint.write_text(ledger.checkpoint.read_text()[:-2])
    with pytest.raises(FatalError, match=r"no JSON.*restore one from .*backups"):
        ledger.workspace().up(ledger.stack)


@pytest.mark.slow
def test_leftovers_of_a_killed_provider(ledger: Project) -> None:
    """What the provider of a killed engine started and did not set free is ended by the next `up`; the free stays."""
    script = ledger.folder / "provider/pulumi-resource-ledger"
    marks = ledger.folder.parent
    script.write_text(
        "#!/bin/sh\n"
        f"[ -e {marks}/free ] || (sleep 300 & echo $! > {marks}/bound; setsid sleep 300 & echo $! > {marks}/free) >/dev/null 2>&1\n"
        'exec "${SAMPLE_PYTHON:-python3}" "$(dirname "$0")/main.py" "$@"\n'
    )
    process = start_up(ledger, LEDGER_PAUSE="1.0")
    wait_for(process, "::base running")
    process.kill()
    process.communicate()
    bound, free = (int((marks / name).read_text()) for name in ("bound", "free"))
    try:
        assert Path(f"/proc/{bound}").exists()
        ledger.workspace().cancel(ledger.stack)
        assert ledger.workspace().up(ledger.stack).ok
        assert not _runs(bound)
        assert _runs(free)
    finally:
        for number in (bound, free):
            if _runs(number):
                os.kill(number, signal.SIGKILL)


def _runs(number: int) -> bool:
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.slow
def test_log_lines_reach_the_listener(ledger: Project) -> None:
    program = ledger.folder / "stacks/__main__.py"
    program.write_text(program.read_text() + "\npulumi.log.warn('mind the gap')\nprint('plain words')\n")
    events: list[Event] = []
    assert ledger.workspace().preview(ledger.stack, events.append).ok
    assert "mind the gap" in messages(events)
    assert "plain words" in messages(events)


@pytest.mark.slow
def test_in_a_thread(ledger: Project) -> None:
    """Stacks may be applied side by side, each in a thread."""
    results = []
    thread = threading.Thread(target=lambda: results.append(ledger.workspace().preview(ledger.stack)))
    thread.start()
    thread.join(60)
    assert results[0].ok


@pytest.mark.slow
def test_state_cannot_be_written(ledger: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk ends the operation in a sentence; what was made before it is found afterwards."""
    real, count = os.fsync, iter(range(1000))

    def fsync(descriptor: int) -> None:
        if next(count) >= 14:
            raise OSError(28, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(FatalError, match=r"lab\.ledger\.json: cannot be written: No space left on device"):
        ledger.workspace().up(ledger.stack)
    monkeypatch.undo()
    assert ledger.objects()
    assert ledger.workspace().up(ledger.stack).ok
    assert ledger.objects().keys() == ledger.living().keys()
