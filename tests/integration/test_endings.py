"""Services end within seconds of SIGTERM, while they start and while they work, and nothing is lost by it."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from integration.conftest import System

SERVICES: dict[str, dict[str, str]] = {
    "forwarder": {"site": "summit"},
    "data_backbone": {"site": "ncsa"},
    "broker": {"site": "ncsa"},
    "alert_distribution": {"site": "ncsa", "PORT": "0"},
    "prompt_processing": {"site": "ncsa"},
}
LIMIT_SECONDS = dict.fromkeys(SERVICES, 5.0) | {"archiver": 5.0, "prompt_processing": 12.0}
"""How long each may take; an exposure in hand of prompt processing may be finished."""
STARTING_SECONDS = (0.1, 1.0, 3.0, 6.0)
"""Instants of a start: the interpreter, imports, connections, the first loop."""


def _start(system: System, service: str) -> str:
    system.miniature.workload(service, **SERVICES[service])
    return f"{service}-{SERVICES[service]['site']}"


def _end(system: System, name: str) -> float:
    """End a process and return how long that took, in seconds."""
    begun = time.monotonic()
    system.miniature.end(name)
    return time.monotonic() - begun


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_ends_in_time_whenever_it_is_told_to(system: System, service: str) -> None:
    taken = {"at work": _end(system, f"{service}-{SERVICES[service]['site']}")}
    for seconds in STARTING_SECONDS:
        name = _start(system, service)
        time.sleep(seconds)
        taken[f"after {seconds} s"] = _end(system, name)
    _start(system, service)
    assert max(taken.values()) < LIMIT_SECONDS[service], taken


@pytest.mark.parametrize("seconds", [1.0, 4.0])
def test_a_device_ends_in_time_while_it_starts(system: System, seconds: float) -> None:
    system.miniature.workload("archiver", "summit", name="archiver", DPP_DEVICE_CONFIG=str(system.config))
    time.sleep(seconds)
    assert _end(system, "archiver") < LIMIT_SECONDS["archiver"]


def test_a_night_loses_nothing_to_services_that_end_and_come_back(system: System) -> None:
    taken: dict[str, float] = {}

    def replace_all(_folder: Path) -> None:
        for service in SERVICES:
            time.sleep(4.0)
            taken[service] = _end(system, f"{service}-{SERVICES[service]['site']}")
            _start(system, service)

    report: dict[str, Any] = json.loads((system.night(3, during=replace_all) / "report.json").read_text())
    assert all(seconds < LIMIT_SECONDS[service] for service, seconds in taken.items()), taken
    assert report["exposures"]["lost"] == 0, report["exposures"]["losses"]
    assert report["exposures"]["archived"] == report["exposures"]["expected"] == 3
    alerts = report["alerts"]
    assert (alerts["missing"], alerts["duplicates"], alerts["undecodable"]) == (0, 0, 0), alerts
    assert alerts["received"] == alerts["made"] > 0
