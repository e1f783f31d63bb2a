"""A device's topics that only remember what was told, held to the interface: for tests of what a device does besides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from workloads.sal.interfaces import EVENT, component


class Told:
    """Stands where a `Link` does; `rows` are the names of events with their fields, in order."""

    def __init__(self, name: str) -> None:
        self.component = component(name)
        self.index, self.identity, self.origin = 0, name, 1
        self.rows: list[tuple[str, dict[str, Any]]] = []
        self.reports: list[int] = []
        """How many were told together, each time."""

    def clock(self) -> float:
        return 1_800_000_000.0

    def event(self, name: str) -> _Event:
        return _Event(self, name)

    def of(self, name: str) -> list[dict[str, Any]]:
        """Return the fields of an event, each time that it was told."""
        return [fields for event, fields in self.rows if event == name]


class _Event:
    def __init__(self, told: Told, name: str) -> None:
        self._told, self._name = told, name
        self._fields = {field.name: field for field in told.component.topics[f"{EVENT}{name}"].own}

    def report(self, rows: Sequence[Mapping[str, Any]]) -> None:
        for row in rows:
            assert set(row) == set(self._fields), self._name
            assert not [problem for name, value in row.items() if (problem := self._fields[name].problem(value))]
            self._told.rows.append((self._name, dict(row)))
        self._told.reports.append(len(rows))

    def write(self, *, force: bool = False, **values: Any) -> bool:
        del force
        self._told.rows.append((self._name, values))
        return True
