"""Services end by themselves when they are told to, while they start and while they work, and nothing is lost by it."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from integration.conftest import System, rows

SERVICES: dict[str, dict[str, str]] = {
    "forwarder": {"site": "summit"},
    "data_backbone": {"site": "ncsa"},
    "broker": {"site": "ncsa"},
    "alert_distribution": {"site": "ncsa", "PORT": "0"},
    "prompt_processing": {"site": "ncsa"},
}
DONE = {0, -signal.SIGALRM}
"""How a service ends that was told to: by itself, or cut off by its own alarm, for what is then done again."""


def _maps(pid: int, library: str) -> bool:
    return library in Path(f"/proc/{pid}/maps").read_text()


def _threads(pid: int) -> set[str]:
    return {file.read_text().strip() for file in Path(f"/proc/{pid}/task").glob("*/comm")}


MOMENTS: dict[str, Callable[[int], bool]] = {
    "before it imports": lambda _: True,
    "while it imports": lambda pid: _maps(pid, "_ssl"),
    "before it connects": lambda pid: _maps(pid, "confluent_kafka"),
    "while it connects": lambda pid: any(name.startswith("rdk:") for name in _threads(pid)),
}
"""Moments of a start, by what the kernel shows of the process."""


def _start(system: System, service: str) -> str:
    system.miniature.workload(service, **SERVICES[service])
    return f"{service}-{SERVICES[service]['site']}"


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("service", [*SERVICES, "archiver"])
def test_a_service_ends_when_it_is_told_to_while_it_starts(system: System, service: str, moment: str) -> None:
    if service == "prompt_processing" and moment == "while it connects":
        pytest.skip("its workers connect: they are told with it in the test below")
    options: Any = SERVICES.get(service) or {"site": "summit", "DPP_DEVICE_CONFIG": str(system.config)}
    process = system.miniature.workload(service, name="starting", **options)
    system.wait(lambda: MOMENTS[moment](process.pid), f"{service} {moment}")
    assert system.miniature.end("starting") in {*DONE, -signal.SIGTERM}


def test_a_night_loses_nothing_to_services_that_end_and_come_back(system: System) -> None:
    ended: dict[str, int] = {}

    def replace_all(folder: Path) -> None:
        for service, options in SERVICES.items():
            before = len(rows(folder / "ledger.jsonl"))
            system.wait(lambda before=before: len(rows(folder / "ledger.jsonl")) > before, "the night goes on")
            ended[service] = system.miniature.end(f"{service}-{options['site']}")
            _start(system, service)

    report: dict[str, Any] = json.loads((system.night(3, during=replace_all) / "report.json").read_text())
    assert set(ended.values()) <= DONE, ended
    assert report["exposures"]["lost"] == 0, report["exposures"]["losses"]
    assert report["exposures"]["archived"] == report["exposures"]["expected"] == 3
    alerts = report["alerts"]
    assert (alerts["missing"], alerts["duplicates"], alerts["undecodable"]) == (0, 0, 0), alerts
    assert alerts["received"] == alerts["made"] > 0
