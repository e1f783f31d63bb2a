"""A device's log as its event, whatever its host's clock says."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from workloads.sal.logs import LogEvents


class _Link:
    """Keeps what is written of an event."""

    def __init__(self) -> None:
        self.written: list[dict[str, Any]] = []

    def event(self, _: str) -> _Link:
        return self

    def write(self, *, force: bool, **fields: Any) -> None:
        assert force
        self.written.append(fields)


@pytest.mark.parametrize(
    ("created", "written"), [(0.0, 0), (1451606400.0, 0), (1483228799.0, 0), (1483228800.0, 1), (1.8e9, 1)]
)
def test_messages_of_before_the_clock_was_set_stand_in_the_processs_own_log_alone(
    created: float, written: int, capsys: pytest.CaptureFixture[str]
) -> None:
    link = _Link()
    events = LogEvents(link)  # type: ignore[arg-type]  # of a link it asks for one event only
    record = logging.LogRecord("device", logging.WARNING, "device.py", 7, "looked at %s", ("it",), None)
    record.created = created
    events.emit(record)
    events.write(0.0)
    assert [(fields["message"], fields["timestamp"]) for fields in link.written] == [
        ("looked at it", created + 37)
    ] * written
    assert capsys.readouterr().err == ""
