"""Values, secrets, paths and names: the parts that need no process."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from dpp.engine.goal import make_urn
from dpp.engine.passphrase import Passphrase
from dpp.engine.paths import changed_paths, keep_ignored, parse
from dpp.engine.project import Config, Project
from dpp.engine.values import UNKNOWN, from_struct, has_unknowns, mark_like, mask, reveal, secret, to_struct
from dpp.model.errors import FatalError
from stacks.engine.projects import PASSPHRASE, RECORDED, open_state

STATES = sorted(path.name for path in RECORDED.glob("*.state.json"))


def test_values_travel() -> None:
    values = {
        "none": None,
        "yes": True,
        "whole": 3,
        "part": 0.5,
        "list": [1, {"a": "b"}],
        "secret": secret({"k": ["v"]}),
    }
    assert from_struct(to_struct(values)) == values
    assert isinstance(from_struct(to_struct(values))["whole"], int)
    assert reveal(values)["secret"] == {"k": ["v"]}
    assert mask({"a": secret(1), "b": [UNKNOWN]}) == {"a": "[secret]", "b": ["[unknown]"]}
    assert has_unknowns({"a": [{"b": UNKNOWN}]})
    assert not has_unknowns(values)


def test_output_values_become_what_they_hold() -> None:
    marks = {"4dabf18193072939515e22adb298388d": "d0e6a833031e9bbcd3f4e8bde6ca49a4"}
    found = from_struct(to_struct({"a": {**marks, "value": 1, "secret": True}, "b": marks}))
    assert found == {"a": secret(1), "b": UNKNOWN}


def test_answers_keep_the_secrets_of_questions() -> None:
    model = {"a": secret("x"), "b": {"c": secret(1)}, "d": [secret(1), 2]}
    assert mark_like({"a": "y", "b": {"c": 2, "e": 3}, "d": [1, 2, 3]}, model) == {
        "a": secret("y"),
        "b": {"c": secret(2), "e": 3},
        "d": [secret(1), 2, 3],
    }


@pytest.mark.parametrize("name", STATES)
def test_recorded_states_open_and_close(name: str) -> None:
    """A state read and written again says the same; only its secrets are sealed anew."""
    deployment = json.loads((RECORDED / name).read_text())["deployment"]
    state = open_state(deployment, "lab.sample", "sample")
    written = json.loads(state.text())["checkpoint"]["latest"]
    again = open_state(written, "lab.sample", "sample")
    assert [(found.fields, found.inputs, found.outputs) for found in again.resources] == [
        (found.fields, found.inputs, found.outputs) for found in state.resources
    ]
    assert "s3cret" not in state.text()
    assert written.keys() == deployment.keys() | {"resources"}
    plain = [found.outputs.get("key") for found in state.resources if found.id == "storage"]
    assert plain in ([], [secret("s3cret")])


def test_config(tmp_path: Path) -> None:
    """The recorded configuration opens with its passphrase, and with no other."""
    (tmp_path / "Pulumi.yaml").write_text(
        "name: sample\nruntime: python\nconfig:\n  level: {type: string, default: high}\n"
    )
    config = Config.load(Project.load(tmp_path), RECORDED / "Pulumi.lab.sample.yaml")
    config.unseal(Passphrase(PASSPHRASE, config.salt, "test"))
    assert config.values["sample:key"] == "s3cret"
    assert config.values["sample:level"] == "high"
    assert config.secret_keys == ["sample:key"]
    with pytest.raises(FatalError, match="the passphrase does not open its secrets"):
        Passphrase("wrong", config.salt, "test").verify()


def test_other_languages_are_refused(tmp_path: Path) -> None:
    (tmp_path / "Pulumi.yaml").write_text(yaml.safe_dump({"name": "x", "runtime": "go"}))
    with pytest.raises(FatalError, match="runtime 'go'; expected python"):
        Project.load(tmp_path)


def test_paths() -> None:
    assert parse('a.b[0]["c.d"].e') == ["a", "b", 0, "c.d", "e"]
    news, olds = {"a": {"b": [1, 2]}, "new": 1, "keep": 5}, {"a": {"b": [9, 8]}, "keep": 5, "old": 3}
    assert keep_ignored(news, olds, ["a.b[1]", "new", "old"]) == {"a": {"b": [1, 8]}, "keep": 5, "old": 3}
    assert news["a"] == {"b": [1, 2]}
    assert changed_paths(olds, news) == {
        "a.b[0]": {"old": 9, "new": 1},
        "a.b[1]": {"old": 8, "new": 2},
        "new": {"new": 1},
        "old": {"old": 3},
    }
    assert changed_paths(olds, news, ["keep"], {"keep": 99}) == {"keep": {"old": 99, "new": 5}}


def test_names() -> None:
    stack = make_urn("lab.wan", "observatory", "pulumi:pulumi:Stack", "observatory-lab.wan", "")
    site = make_urn("lab.wan", "observatory", "dpp:site:Site", "summit", stack)
    machine = make_urn("lab.wan", "observatory", "dpp:index:Machine", "rt01", site)
    assert machine == "urn:pulumi:lab.wan::observatory::dpp:site:Site$dpp:index:Machine::rt01"
    assert site == "urn:pulumi:lab.wan::observatory::dpp:site:Site::summit"
