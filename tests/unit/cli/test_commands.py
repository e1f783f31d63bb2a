"""What people see of `dpp` where no lab stands: help, exit codes, and errors that name object, found, expected, next step."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from dpp import cli

WITHOUT_JSON = {
    ("stack", "export"),
    ("stack", "env"),
    ("model", "data-flow"),
    ("model", "interfaces"),
    ("lab", "shell"),
    ("change", "break-glass"),
}
"""All but the last two print files for others; those are other programs."""


def verbs() -> Iterator[tuple[tuple[str, ...], Any]]:
    for area in cli.AREAS:
        app = importlib.import_module(f"dpp.cli.{area}").app
        if area in cli.VERBS:
            yield (area,), typer.main.get_command(app)
        else:
            yield from (((area, name), one) for name, one in typer.main.get_group(app).commands.items())


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Any:
    """Call `dpp` in an instance of which nothing stands; return its exit code and what it said on standard error."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("DPP_LAB", "nolab")

    def call(*words: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["dpp", *words])
        code = cli.main()
        return code, capfd.readouterr().err

    return call


@pytest.mark.parametrize(
    ("words", "verb"), list(verbs()), ids=lambda value: " ".join(value) if isinstance(value, tuple) else ""
)
def test_every_verb_says_what_it_does_and_speaks_json(words: tuple[str, ...], verb: Any) -> None:
    assert verb.help
    assert all(parameter.help for parameter in verb.params if not getattr(parameter, "hidden", False))
    options = {option for parameter in verb.params for option in parameter.opts}
    assert ("--json" in options) is (words not in WITHOUT_JSON)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["bogus"], 2, "No such command 'bogus'"),
        (["lab", "up", "--bogus"], 2, "No such option: --bogus"),
        (["stack", "preview", "labwan"], 2, "dpp: stack: 'labwan'; expected <environment>.<unit>; for example lab.wan"),
        (["up", "lab", "--only", "wam"], 2, "dpp: --only: 'wam'; expected one of wan, chilean-itc"),
        (["lab", "open", "console"], 2, "dpp: TARGET: console; expected HOST:PORT, such as svc01.ncsa:5000, or report"),
        (["lab", "shell", "svc09.ncsa"], 1, "dpp: host svc09.ncsa: not in inventories/lab; expected such as svc01.ncsa"),
        (["lab", "shell", "svc01.ncsa"], 1, "/nolab/ssh_config; expected a standing lab; run dpp lab up"),
        pytest.param(["lab", "restart", "svc01.ncsa"], 1, "dpp: machine svc01.ncsa: there is none; expected a machine of this instance", marks=pytest.mark.root),
        (["lab", "cut", "base-nsca"], 1, "dpp: circuit base-nsca: not in inventories/lab; expected one of summit-base-primary"),
        pytest.param(["lab", "cut", "base-ncsa-primary"], 1, "dpp: circuit base-ncsa-primary: not there; expected a standing lab", marks=pytest.mark.root),
        (["lab", "open", "svc01.ncsa:5000"], 1, "/nolab/ssh_config; expected a standing lab; run dpp lab up"),
        (["lab", "kubeconfig", "ncsa"], 1, "/nolab/kubeconfig/ncsa; expected a cluster that stands; run dpp lab up"),
        (["lab", "open", "report"], 1, "expected a night that ran; run dpp night run"),
        (["stack", "outputs", "lab.wan"], 1, "dpp: lab.wan: never applied"),
        (["model", "check", "prod"], 1, "dpp: environment prod: no file"),
        (["service", "show", "nothing"], 1, "dpp: service nothing: not in services/"),
        (["service", "check", "nothing"], 1, "dpp: service nothing: not in services/"),
        (["service", "check", "telemetry-gateway"], 2, "dpp: service telemetry-gateway: no question to it; expected one of schema-registry"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_errors_say_what_is_wrong_and_what_to_do(run: Any, words: list[str], code: int, said: str) -> None:
    found, text = run(*words)

    assert (found, said in text) == (code, True), text
    assert "Traceback" not in text


def test_an_instance_of_a_bad_name_is_refused(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DPP_LAB", "my-very-own-lab")

    code, text = run("lab", "shell", "svc01.ncsa")
    assert code == 2
    assert "dpp: DPP_LAB: instance name 'my-very-own-lab'; expected one to eight of a-z and 0-9" in text


@pytest.mark.parametrize("debug", [False, True])
def test_tracebacks_are_for_those_who_ask(run: Any, debug: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DPP_DEBUG", raising=False)
    words = ["--debug"] if debug else []
    if debug:
        monkeypatch.setenv("DPP_DEBUG", "1")

    _, text = run(*words, "service", "show", "nothing")
    assert ("Traceback" in text) is debug


def test_an_interrupt_ends_without_a_traceback(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("dpp.cli.service.Catalogue.load", interrupted)

    code, text = run("service", "list")
    assert (code, text) == (cli.INTERRUPTED, "dpp: interrupted; run it again: it goes on where it was\n")
