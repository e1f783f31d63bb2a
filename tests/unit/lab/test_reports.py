"""Where the time went, and reports that outlive their lab."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from dpp.adapters.phases import Phases
from dpp.cli.lab import app
from dpp.lab.lifecycle import Lab
from dpp.model.errors import UsageError
from dpp.model.folders import Folders


def test_phases_have_seconds_and_shares():
    phases = Phases({"tools": 10.0, "stacks": 30.0})
    with pytest.raises(RuntimeError), phases.phase("images"):
        raise RuntimeError
    phases.seconds["images"] = 0.0
    assert phases.rows() == [
        {"phase": "tools", "seconds": 10.0, "share": "25 %"},
        {"phase": "stacks", "seconds": 30.0, "share": "75 %"},
        {"phase": "images", "seconds": 0.0, "share": "0 %"},
    ]


@pytest.fixture
def nights(tmp_path, monkeypatch):
    """Return the folder of nights of a lab whose `down` is only noted."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(Lab, "down", lambda _: ["machine one"])
    folder = Folders.current().state / "nights"
    for name, report in (
        ("20261122-200000", "report.json"),
        ("20261123-200000", "report.json"),
        ("cut", "ledger.jsonl"),
    ):
        (folder / name / "cutouts").mkdir(parents=True)
        (folder / name / report).write_text("{}")
    (folder / ".settings/secrets").mkdir(parents=True)
    return folder


def down(*words: str, asked: str | None = None):
    return CliRunner().invoke(app, ["down", *words], input=asked)


def test_reports_are_kept_where_it_is_asked_for(nights, tmp_path):
    done = down("--keep-reports", str(tmp_path / "kept"))
    assert done.exit_code == 0, done.output
    assert "removed machine one" in done.stdout
    assert f"kept {tmp_path}/kept/20261123-200000" in done.stdout
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == ["20261122-200000", "20261123-200000"]
    assert (tmp_path / "kept/20261122-200000/report.json").read_text() == "{}"
    assert nights.exists()


@pytest.mark.usefixtures("nights")
def test_it_is_said_which_reports_go_with_the_lab():
    done = down()
    assert done.exit_code == 0
    assert "reports of 2 nights, the last 20261123-200000, go with the lab" in done.stderr


@pytest.mark.usefixtures("nights")
@pytest.mark.parametrize(("words", "answer", "code"), [((), "n\n", 1), ((), "y\n", 0), (("--yes",), None, 0)])
def test_a_terminal_is_asked(monkeypatch, words, answer, code):
    monkeypatch.setattr("dpp.cli.lab._at_a_terminal", lambda: True)
    done = down(*words, asked=answer)
    assert done.exit_code == code
    assert ("removed machine one" in done.stdout) is (code == 0)


def test_reports_are_not_kept_where_they_would_go_too(nights):
    done = down("--keep-reports", str(nights / "kept"))
    assert isinstance(done.exception, UsageError)
    assert "goes with the lab" in str(done.exception)
