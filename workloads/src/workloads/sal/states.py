"""The observatory's numbers: states of devices, codes of acknowledgements, and which command leads from where to where."""

from __future__ import annotations

from enum import IntEnum


class SummaryState(IntEnum):
    """States of a device."""

    DISABLED = 1
    ENABLED = 2
    FAULT = 3
    OFFLINE = 4
    STANDBY = 5


class Ack(IntEnum):
    """Codes of acknowledgements that devices send."""

    INPROGRESS = 301
    COMPLETE = 303
    FAILED = -302
    ABORTED = -303
    TIMEOUT = -304


TRANSITIONS: dict[str, tuple[frozenset[SummaryState], SummaryState]] = {
    "start": (frozenset({SummaryState.STANDBY}), SummaryState.DISABLED),
    "enable": (frozenset({SummaryState.DISABLED}), SummaryState.ENABLED),
    "disable": (frozenset({SummaryState.ENABLED}), SummaryState.DISABLED),
    "standby": (frozenset({SummaryState.DISABLED, SummaryState.FAULT}), SummaryState.STANDBY),
    "exitControl": (frozenset({SummaryState.STANDBY}), SummaryState.OFFLINE),
}
"""From which states a command leads to which."""
