"""The recorded steps of the vendor's engine, done by this one: the same conversation, the same states.

Every step begins at the vendor's own state. What differs on purpose:

- an operation that was cut short is settled first (one more `Read`), and leaves the list of pending ones;
- a creation that failed is followed by a `Read` that looks for what it left;
- `GetDeploymentInfo` tells what this engine does, `Handshake` likewise;
- provider processes are not told addresses of services that this engine has not.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from dpp.engine.state import State
from dpp.model.errors import RetriableError
from stacks.engine.projects import RECORDED, Project, open_state, steps

UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
VOLATILE = {
    *("stackTrace", "sourcePosition", "randomSeed", "resourceStatusAddress", "resourceStatusToken", "engineAddress"),
    *(
        "mapperTarget",
        "loaderTarget",
        "resolverTarget",
        "supportedFeatures",
        "supportsViews",
        "supportsRefreshBeforeUpdate",
    ),
    *("acceptsByteString", "configureWithUrn", "invokeWithPreview"),
}
ADDED_READS = {"08-up-failing": {"broken"}, "11-up-pending": {"slow"}, "12-up-delete": {"slow"}, "13-destroy": {"slow"}}
"""Resources that this engine reads and the vendor's does not."""


def normal(value: Any, project: Project | None) -> Any:
    if isinstance(value, dict):
        return {key: normal(item, project) for key, item in value.items() if key not in VOLATILE}
    if isinstance(value, list):
        return sorted((normal(item, project) for item in value), key=json.dumps)
    if isinstance(value, str):
        value = value.replace(str(project.folder), "PROJECT") if project else value
        return value if value == UNKNOWN else UUID.sub("ID", value)
    return value


def conversation(lines: list[str], project: Project | None) -> dict[str, list[Any]]:
    """Return what was said about each resource, in order."""
    said: dict[str, list[Any]] = defaultdict(list)
    for line in filter(None, map(str.strip, lines)):
        message = json.loads(line)
        method = message["method"].removeprefix("/pulumirpc.")
        if method.startswith(("LanguageRuntime/", "ResourceMonitor/GetDeploymentInfo")):
            continue
        request = message["request"]
        about = request.get("name") or request.get("urn", method).rpartition("::")[2]
        ended = message["progress"] == "response_completed"
        answer = "error" if message.get("errors") else normal(message.get("response", {}), project) if ended else None
        # starts and ends of the program's calls interleave with the provider's: keep each kind in its own order
        said[f"{about} {method.partition('/')[0]}"].append((method, ended, normal(request, project), answer))
    return said


def recorded(step: str) -> dict[str, list[Any]]:
    return conversation((RECORDED / f"{step}.grpc.jsonl").read_text().splitlines(), None)


def recorded_state(step: str) -> dict[str, Any]:
    path = RECORDED / f"{step}.state.json"
    if path.exists():
        return dict(json.loads(path.read_text())["deployment"])
    return dict(json.loads((RECORDED / f"{step}.checkpoint.json").read_text())["checkpoint"]["latest"])


def compare(project: Project, step: str) -> None:
    ours = conversation(project.transcript.read_text().splitlines(), project)
    for name in ADDED_READS.get(step, ()):
        key = f"{name} ResourceProvider"
        ours[key] = [entry for entry in ours[key] if entry[0] != "ResourceProvider/Read"]
    ours = {key: entries for key, entries in ours.items() if entries}
    theirs = recorded(step)
    assert ours.keys() == theirs.keys()
    for about, entries in theirs.items():
        assert ours[about] == entries, about


def plain_state(state: State, before: State) -> dict[str, Any]:
    """Return all that a state says, with times as facts about change."""
    was = {found.urn: found.fields for found in before.resources}
    result = {}
    for found in state.resources:
        fields = {key: value for key, value in found.fields.items() if key not in VOLATILE | {"created", "modified"}}
        depends = {key: value for key, value in fields.pop("propertyDependencies", {}).items() if value}
        old = was.get(found.urn, {})
        times = {key: old.get(key) == found.fields.get(key) for key in ("created", "modified")}
        result[found.urn] = normal({**fields, **times, "on": depends, "in": found.inputs, "out": found.outputs}, None)
    return result


def compare_states(project: Project, step: str, former: str | None) -> None:
    before = open_state(recorded_state(former) if former else {}, project.stack, project.name)
    theirs = open_state(recorded_state(step), project.stack, project.name)
    ours = project.state()
    assert plain_state(ours, before) == plain_state(theirs, before)
    assert not ours.pending


APPLIED = [
    # step, its state before, the program's mode, operation, options, verbs by resource
    ("02-up-create", None, "", "up", {}, {"storage": "create", "node": "create", "extra": "create"}),
    pytest.param(
        *("03-up-unchanged", "02-up-create", "", "up", {}, {"storage": "same", "node": "same", "extra": "same"}),
        marks=pytest.mark.slow,
    ),
    (
        "05-up-update-replace",
        "04-preview-update-replace",
        "second",
        "up",
        {},
        {"storage": "update", "extra": "replace"},
    ),
    ("06-refresh-drift", "05-up-update-replace", "second", "refresh", {"DRIFT": "storage"}, {"storage": "update"}),
    ("07-up-repair", "06-refresh-drift", "second", "up", {}, {"storage": "update", "node": "same"}),
    ("11-up-pending", "10-up-locked", "shrunk", "up", {}, {"extra": "delete", "node": "same"}),
    pytest.param(
        *("12-up-delete", "11-up-pending", "shrunk", "up --refresh", {}, {"node": "same"}), marks=pytest.mark.slow
    ),
    ("13-destroy", "12-up-delete", "shrunk", "destroy", {}, {"node": "delete", "storage": "delete"}),
]


@pytest.mark.parametrize(
    ("step", "former", "mode", "operation", "environment", "verbs"),
    APPLIED,
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_step(
    sample: Project,
    step: str,
    former: str | None,
    mode: str,
    operation: str,
    environment: dict[str, str],
    verbs: dict[str, str],
) -> None:
    if former:
        sample.put_state(recorded_state(former))
    if mode:
        sample.configure(mode=mode)
    verb, _, options = operation.partition(" --")
    result = getattr(sample.workspace(**environment), verb)(sample.stack, **({options: True} if options else {}))
    assert result.ok, result.errors
    assert {name: steps(result)[name] for name in verbs} == verbs
    compare(sample, step)
    compare_states(sample, step, former)


@pytest.mark.parametrize(
    ("step", "former", "mode"),
    [("01-preview-create", None, ""), ("04-preview-update-replace", "03-up-unchanged", "second")],
)
def test_preview(sample: Project, step: str, former: str | None, mode: str) -> None:
    if former:
        sample.put_state(recorded_state(former))
    if mode:
        sample.configure(mode=mode)
    result = sample.workspace().preview(sample.stack)
    assert result.ok, result.errors
    assert result.changes == {"01-preview-create": 5, "04-preview-update-replace": 3}[step]
    compare(sample, step)
    assert sample.checkpoint.exists() == bool(former)


def test_failing_create_keeps_the_others(sample: Project) -> None:
    step = "08-up-failing"
    sample.put_state(recorded_state("07-up-repair"))
    sample.configure(mode="failing")
    result = sample.workspace().up(sample.stack)
    assert result.errors == ["broken: site nowhere: not in the inventory; expected one of base, ncsa, summit"]
    ours, theirs = conversation(sample.transcript.read_text().splitlines(), sample), recorded(step)
    about = [entry for entry in ours["broken ResourceProvider"] if entry[0] != "ResourceProvider/Read"]
    assert about == theirs["broken ResourceProvider"]
    compare_states(sample, step, "07-up-repair")


def test_killed_create_stays_pending(sample: Project) -> None:
    step = "09-up-killed"
    sample.put_state(recorded_state("08-up-failing"))
    sample.configure(mode="slow")
    code = (
        "import sys; from pathlib import Path; from dpp.engine import Workspace;"
        "Workspace(Path(sys.argv[1]), sys.argv[2]).up(sys.argv[3])"
    )
    arguments = [sys.executable, "-c", code, str(sample.folder), sample.backend.as_uri(), sample.stack]
    source = str(Path(__file__).parents[3] / "src")
    process = subprocess.Popen(arguments, env={**os.environ, **sample.environment, "PYTHONPATH": source})
    awaited = {
        ("slow", "Create", "request_started"),
        ("extra", "RegisterResource", "response_completed"),
        ("sample-lab.sample", "RegisterResourceOutputs", "response_completed"),
    }
    deadline = time.monotonic() + 30
    while awaited and time.monotonic() < deadline:
        time.sleep(0.05)
        for line in sample.transcript.read_text().splitlines() if sample.transcript.exists() else ():
            message = json.loads(line)
            name = message["request"].get("name") or message["request"].get("urn", "").rpartition("::")[2]
            awaited.discard((name, message["method"].rpartition("/")[2], message["progress"]))
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not awaited
    compare(sample, step)
    ours, theirs = sample.state(), open_state(recorded_state(step), sample.stack, sample.name)
    before = open_state(recorded_state("08-up-failing"), sample.stack, sample.name)
    assert plain_state(ours, before) == plain_state(theirs, before)
    assert [(found.type, found.resource.urn, found.resource.inputs) for found in ours.pending] == [
        (found.type, found.resource.urn, found.resource.inputs) for found in theirs.pending
    ]
    with pytest.raises(RetriableError, match=rf"locked by .*process {process.pid}, gone.*dpp stack cancel lab.sample"):
        sample.workspace().up(sample.stack)  # step 10 of the record
    assert [holder.pid for holder in sample.workspace().cancel(sample.stack)] == [process.pid]
    assert _provider_ended(sample)


def _provider_ended(project: Project) -> bool:
    wanted = str(project.folder / "provider/main.py").encode()
    for _ in range(50):
        lines = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
        if not any(wanted in line for line in lines):
            return True
        time.sleep(0.1)
    return False
