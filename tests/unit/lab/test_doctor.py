"""What a machine lacks is named, and installed without taking anything away."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dpp.lab import doctor


def test_what_a_package_brings_says_whether_it_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = tmp_path / "keys.gpg"
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(doctor, "PACKAGES", {"no-such-program": "one", str(keys): "two"})
    assert doctor.missing_packages() == ["one", "two"]
    keys.touch()  # no program, and none is wanted
    (tmp_path / "no-such-program").touch(mode=0o755)
    assert doctor.missing_packages() == []


def test_an_interrupted_installation_is_finished_before_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []

    def record(command: list[str], **how: Any) -> None:
        assert how["timeout"] > 0
        assert how["env"] == {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
        commands.append(command)

    monkeypatch.setattr(doctor, "run", record)
    doctor.install_packages(["runc"])
    assert commands[:2] == [["dpkg", "--configure", "-a"], ["apt-get", "update"]]
    assert commands[2][:2] == ["apt-get", "install"]
    assert {"--no-remove", "runc"} <= set(commands[2])
