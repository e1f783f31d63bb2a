"""Roles treat hosts with care: measuring is paced, brokers restart one after the other, files that shut people out are checked."""

from __future__ import annotations

from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from dpp.model.folders import REPOSITORY

# -- summit storage is measured on the store that takes images ---------------------------------------------------------


class Clock:
    """Seconds that pass where somebody works or rests."""

    def __init__(self) -> None:
        self.now, self.rested = 0.0, 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.rested += seconds


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    loader = SourceFileLoader("summit_storage", str(REPOSITORY / "roles/summit_storage/files/summit-storage"))
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    spec = spec_from_loader("summit_storage", loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    return module


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("seconds", [0.000_1, 0.03, 2.0], ids=["a quick disk", "a slow one", "one that hangs"])
def test_measuring_takes_its_share_of_the_time_whatever_an_object_costs(
    program: ModuleType, monkeypatch: pytest.MonkeyPatch, share: float, seconds: float
) -> None:
    clock, worked = Clock(), 0.0
    monkeypatch.setattr(program, "time", clock)
    for _ in program.paced(range(int(10 / seconds)), share):
        clock.now += seconds
        worked += seconds
    assert worked / clock.now <= share * 1.05
    assert (clock.rested == 0.0) is (share == 1.0), "who waits for it gets it at once"


def test_what_is_measured_is_what_is_there(program: ModuleType, tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / f"raw/{number}").mkdir(parents=True)
        (tmp_path / f"raw/{number}/object").write_bytes(bytes(5000))
    found = program.measure({"folder": str(tmp_path), "capacity_bytes": 10**6, "nights": 10})
    used = sum(path.stat().st_blocks * 512 for path in tmp_path.rglob("object"))
    assert (found["objects"], found["used_bytes"]) == (5, used)
    assert found["nights_left"] == pytest.approx((10**6 - used) / 10**5)


# -- brokers -----------------------------------------------------------------------------------------------------------


def _plays() -> list[tuple[str, dict[str, Any]]]:
    files = sorted((REPOSITORY / "playbooks").glob("*.yml"))
    return [(file.name, play) for file in files for play in yaml.safe_load(file.read_text())]


def test_brokers_are_dealt_with_one_after_the_other_by_every_playbook() -> None:
    own = [(file, play) for file, play in _plays() if "kafka_broker" in str(play.get("roles", ""))]
    assert own
    assert {(file, play["serial"]) for file, play in own} == {("kafka_broker.yml", 1)}


# -- files with a mistake in them shut people out ----------------------------------------------------------------------

CHECKED = {"/etc/nftables.conf": "nft", "/etc/ssh/sshd_config.d/": "sshd", "/etc/sudoers.d/": "visudo"}


def _files(role: Path) -> list[dict[str, Any]]:
    tasks = yaml.safe_load((role / "tasks/configure.yml").read_text()) or []
    lists = [task[module].get("files", []) for task in tasks for module in task if str(module).endswith("dpp_files")]
    return [file for files in lists if isinstance(files, list) for file in files]


@pytest.mark.parametrize("place", CHECKED)
def test_a_file_that_can_shut_people_out_is_checked_before_it_is_in_its_place(place: str) -> None:
    roles = [path for path in sorted((REPOSITORY / "roles").iterdir()) if (path / "tasks/configure.yml").exists()]
    found = [file for role in roles for file in _files(role) if str(file["path"]).startswith(place)]
    assert found, f"no role writes {place} any more"
    assert all(CHECKED[place] in file.get("validate", "") and "%s" in file["validate"] for file in found)
