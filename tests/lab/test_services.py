"""A service that is said to run in the lab works, does not without its workload, and works again when that is back."""

from __future__ import annotations

import time

import pytest

from dpp.operations.health import Health
from lab.observatory import RETURN_SECONDS, Observatory
from lab.services import WORKLOADS

NUMBERS = 90_000


@pytest.mark.slow  # a minute each: long enough without an answer to call it none
@pytest.mark.parametrize("service", WORKLOADS)
def test_a_service_works_only_with_its_workload(observatory: Observatory, service: str) -> None:
    health, number = Health(observatory.environment, observatory.folders), int(time.time()) % NUMBERS
    _ask_again(health, service, number)
    with WORKLOADS[service].absent(observatory):
        assert health.ask(service, number + 1).reason
    _ask_again(health, service, number + 1)  # what was asked meanwhile is answered: nothing is lost


def _ask_again(health: Health, service: str, number: int) -> None:
    """Ask until it is answered, while what was stopped comes back."""
    deadline = time.monotonic() + RETURN_SECONDS
    while reason := health.ask(service, number).reason:
        assert time.monotonic() < deadline, reason
        time.sleep(1.0)


@pytest.mark.parametrize("cluster", ["summit", "ncsa"])
def test_all_workloads_are_back(observatory: Observatory, cluster: str) -> None:
    observatory.await_workloads(cluster)
