"""Two clocks, converted here and nowhere else: SAL time stamps and exposures are TAI, everything else is UTC.

All functions take and give Unix-like seconds; a TAI value is ahead of UTC by the leap seconds.
"""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime, timedelta

TAI_MINUS_UTC = 37.0
"""Seconds, valid since 2017-01-01; no further leap second is planned before 2035."""

LOG = logging.getLogger(__name__)
_CLOCK_SECONDS = 1.0
"""Pause before a clock is looked at again that is not set."""
_VALID_FROM = 1483228800.0
_MJD_UNIX_EPOCH = 40587.0
_DAY = 86400.0


def is_of_a_set_clock(utc: float) -> bool:
    """Say whether Unix seconds can be of a clock that is set: those before 2017 are of one that is not yet."""
    return utc >= _VALID_FROM


def utc_to_tai(utc: float) -> float:
    """Return TAI seconds for Unix (UTC) seconds.

    Raises
    ------
    ValueError
        Before 2017, where another offset held.
    """
    if not is_of_a_set_clock(utc):
        raise ValueError(f"time {utc}: before 2017-01-01, where TAI-UTC was not {TAI_MINUS_UTC:g} s")
    return utc + TAI_MINUS_UTC


def tai_to_utc(tai: float) -> float:
    """Return Unix (UTC) seconds for TAI seconds."""
    return tai - TAI_MINUS_UTC


def tai_now() -> float:
    """Return the present in TAI seconds.

    A clock of before 2017 is not set yet: it is waited for, and that is said once. Nothing may be stamped until then.
    """
    said = False
    while not is_of_a_set_clock(now := time.time()):
        if not said:
            LOG.warning("waiting for this host's clock: it says %s, which cannot be; see its time service", iso(now))
            said = True
        time.sleep(_CLOCK_SECONDS)
    return utc_to_tai(now)


def mjd(seconds: float) -> float:
    """Return the modified Julian date, in days and in the time scale of `seconds`."""
    return _MJD_UNIX_EPOCH + seconds / _DAY


def iso(seconds: float) -> str:
    """Return an ISO 8601 date and time with milliseconds and without zone, in the time scale of `seconds`."""
    return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None).isoformat(timespec="milliseconds")


def from_iso(text: str) -> float:
    """Return the seconds of what `iso` wrote, in the same time scale."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def day_obs(tai: float) -> int:
    """Return the observing day as YYYYMMDD: the date in UTC-12, so that a night in Chile has one."""
    local = datetime.fromtimestamp(tai_to_utc(tai), UTC) - timedelta(hours=12)
    return local.year * 10000 + local.month * 100 + local.day


def recent_nights() -> tuple[int, int]:
    """Return this observing day and the last: what sweeps look at each time, the others being looked at in turn."""
    now = tai_now()
    return day_obs(now), day_obs(now - _DAY)
