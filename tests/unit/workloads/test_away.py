"""What is away is waited for, what refuses is not, and patience ends where waiting cannot help."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
import psycopg2
import pytest
from botocore.exceptions import EndpointConnectionError, ReadTimeoutError
from sqlalchemy import exc

from workloads.common import patience
from workloads.common.errors import AwayError, NonRetriableError, RetriableError
from workloads.common.patience import insist
from workloads.common.peers import asking

GONE = exc.OperationalError("INSERT", {}, psycopg2.OperationalError("server closed the connection"))
BARE = exc.DatabaseError("INSERT", {}, psycopg2.DatabaseError("error with status PGRES_TUPLES_OK"))
TWICE = exc.IntegrityError("INSERT", {}, psycopg2.IntegrityError("duplicate key value"))
UNREACHED = EndpointConnectionError(endpoint_url="http://store")
SILENT = ReadTimeoutError(endpoint_url="http://store")


def _wrapped(cause: Exception) -> Exception:
    """Return an error of pandas, which wraps what its driver raises."""
    error = pd.errors.DatabaseError("Execution failed on sql 'INSERT ...'")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize("error", [GONE, BARE, UNREACHED, SILENT, _wrapped(GONE), _wrapped(BARE)], ids=repr)
def test_a_peer_that_is_away_is_told_whoever_wraps_its_error(error: Exception) -> None:
    with pytest.raises(AwayError, match="registry: away: ") as caught, asking("registry"):
        raise error
    assert "Execution failed" not in str(caught.value)


@pytest.mark.parametrize(
    "error", [TWICE, _wrapped(TWICE), ValueError("no peer's"), NonRetriableError("ours")], ids=repr
)
def test_other_errors_pass_as_they_are(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, asking("registry"):
        raise error
    assert caught.value is error


class _Clock:
    """Told to wait, it notes for how long; it says stop after so many pauses."""

    def __init__(self, stops_after: int = 1_000_000) -> None:
        self.pauses: list[float] = []
        self._stops_after = stops_after

    def wait(self, seconds: float) -> bool:
        self.pauses.append(seconds)
        return len(self.pauses) >= self._stops_after


def _failing(errors: Iterator[Exception | None]) -> str:
    if error := next(errors, None):
        raise error
    return "done"


def _insist(clock: _Clock, errors: list[Exception], seconds: float = 240.0) -> str | None:
    left = iter(errors)
    return insist(lambda: _failing(left), clock, seconds)  # type: ignore[arg-type]


def test_what_is_away_is_waited_for_without_end() -> None:
    clock = _Clock()
    assert _insist(clock, [AwayError("store")] * 5000) == "done"
    assert sum(clock.pauses) > 100_000
    assert max(clock.pauses) == patience.PAUSES_SECONDS[-1]


def test_patience_ends_where_only_this_work_lacks_something() -> None:
    clock = _Clock()
    with pytest.raises(RetriableError, match="no template"):
        _insist(clock, [RetriableError("no template")] * 5000)
    assert 200 < sum(clock.pauses) <= 240


def test_an_outage_takes_nothing_from_the_patience_after_it() -> None:
    assert _insist(_Clock(), [*[AwayError("store")] * 100, *[RetriableError("no template")] * 5]) == "done"


def test_what_cannot_be_repeated_is_not_repeated() -> None:
    clock = _Clock()
    with pytest.raises(NonRetriableError):
        _insist(clock, [NonRetriableError("refused")])
    assert clock.pauses == []


def test_who_is_told_to_stop_leaves_the_work() -> None:
    assert _insist(_Clock(stops_after=3), [AwayError("store")] * 5000) is None
