"""A service that is said to run in the lab works, does not without its workload, and works again when that is back."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from dpp.model.services import Catalogue
from lab.observatory import Observatory
from lab.services import PROOFS, DataPlane, UnansweredError

NUMBERS = 90_000


@pytest.fixture(scope="module")
def plane(observatory: Observatory, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DataPlane]:
    """Return the data plane; at the end every workload is back and nothing is left of what was asked."""
    made = DataPlane(observatory, tmp_path_factory.mktemp("settings"))
    yield made
    made.tidy()


@pytest.fixture
def number() -> int:
    """Return a number of an exposure that nobody has asked for."""
    return int(time.time()) % NUMBERS


def test_every_service_of_the_lab_has_a_proof() -> None:
    proved = {name for name, service in Catalogue.load().services.items() if service.status == "lab"}
    assert proved == set(PROOFS)


@pytest.mark.slow  # a minute each: long enough without an answer to call it none
@pytest.mark.parametrize("service", PROOFS)
def test_a_service_works_only_with_its_workload(
    observatory: Observatory, plane: DataPlane, number: int, service: str
) -> None:
    proof = PROOFS[service]
    plane.ask_again(proof.question, number)
    with proof.workload.absent(observatory), pytest.raises(UnansweredError):
        plane.ask(proof.question, number + 1)
    plane.ask_again(proof.question, number + 1)  # what was asked meanwhile is answered: nothing is lost


@pytest.mark.parametrize("cluster", ["summit", "ncsa"])
def test_all_workloads_are_back(observatory: Observatory, cluster: str) -> None:
    observatory.await_workloads(cluster)
