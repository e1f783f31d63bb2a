"""What `--json` prints keeps to the committed schemas, and these to the types."""

from __future__ import annotations

import json
import sys
from typing import Any

import jsonschema
import pytest

from dpp import cli
from dpp.adapters.process import Done
from dpp.cli.schemas import FOLDER, path_of, schemas
from dpp.lab import doctor
from dpp.lab.doctor import Check
from dpp.operations.data_plane import DataPlane
from dpp.operations.status import Piece

LISTED = b"""{"name": "forwarder/a/0/3", "group": "forwarder", "workload": "forwarder", "role": "forwarded", "topic": "a",
"partition": 0, "offset": 3, "timestamp": 1.0, "size": 5, "reason": "no record", "attempts": 1, "time": 2.0,
"begins": "68 65", "traceback": ""}""".replace(b"\n", b" ")


@pytest.mark.parametrize("name", schemas())
def test_the_committed_schema_is_that_of_the_types(name: str) -> None:
    committed = json.loads(path_of(name).read_text())
    assert committed == schemas()[name], "run python -m dpp.cli.schemas"


def test_there_is_no_schema_of_nothing() -> None:
    assert {path.name for path in FOLDER.glob("*.json")} == {path_of(name).name for name in schemas()}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("status", ["status"]),
        ("doctor", ["doctor"]),
        ("service-list", ["service", "list"]),
        ("messages-list", ["messages", "list"]),
    ],
)
def test_what_is_printed_keeps_to_its_schema(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, words: list[str]
) -> None:
    monkeypatch.setattr("dpp.cli.status.pieces", lambda *_: [Piece("stack", "lab.wan", "never applied", sound=False)])
    monkeypatch.setattr(doctor, "examine", lambda *_: [Check("memory", "lack", "8 GiB", "14 GiB", "add some")])
    monkeypatch.setattr(DataPlane, "run", lambda *_, **__: Done(0, LISTED, b""))
    monkeypatch.setattr(sys, "argv", ["dpp", *words, "--json"])
    cli.main()
    printed: Any = json.loads(capsys.readouterr().out)
    assert printed
    jsonschema.validate(printed, json.loads(path_of(name).read_text()))
