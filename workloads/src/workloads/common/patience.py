"""Attempts at the same work while what it needs is away or missing."""

from __future__ import annotations

import logging
from collections.abc import Callable
from itertools import count
from typing import TypeVar

from workloads.common.errors import AwayError, RetriableError
from workloads.common.serve import Stop

LOG = logging.getLogger(__name__)
PAUSES_SECONDS = (2.0, 4.0, 8.0, 16.0, 30.0)
"""Pauses between attempts; the last is repeated."""
_T = TypeVar("_T")


def insist(work: Callable[[], _T], stop: Stop, patience: float) -> _T | None:
    """Call `work` until it succeeds, and return what it returned; None if told to stop between two attempts.

    Raises
    ------
    RetriableError
        The last one, when the pauses sum up to more than `patience` seconds. Those after an `AwayError` do not count.
    """
    waited = 0.0
    for attempt in count():
        try:
            return work()
        except RetriableError as error:
            pause = PAUSES_SECONDS[min(attempt, len(PAUSES_SECONDS) - 1)]
            waited += 0.0 if isinstance(error, AwayError) else pause
            if waited > patience:
                raise
            LOG.warning("attempt %d, again in %.0f s: %s", attempt + 1, pause, error)
            if stop.wait(pause):
                break
    return None
