"""A circuit of the lab: two shaped ends between two routers."""

from __future__ import annotations

from typing import ClassVar

from dpp.lab.links import Links
from dpp.lab.links.state import LinkState
from dpp.provider.resource import Observation, Progress, Properties, Resource, environment

_TOLERANCE = 0.02
"""Share by which the kernel's rounding of rates may differ from what was asked for."""


class Link(Resource):
    """A circuit that carries what the inventory declares; a cut or degraded one is drift."""

    token: ClassVar[str] = "dpp:links:Link"  # noqa: S105 - a type's name
    inputs = frozenset({"environment", "circuit", "rate_mbps", "delay_ms", "loss_percent", "ends"})
    replaces = frozenset({"environment", "circuit"})

    def create(self, urn: str, wanted: Properties, progress: Progress) -> tuple[str, Properties]:
        """Plug the circuit into both routers and shape it.

        Raises
        ------
        FatalError
            If another resource owns it, or a router is not there.
        """
        progress(f"drawing {wanted['circuit']}")
        self._links(wanted).ensure(wanted["circuit"], urn)
        return wanted["circuit"], {}

    def find(self, wanted: Properties) -> str:
        """Return the circuit's name."""
        return str(wanted["circuit"])

    def read(self, urn: str, identifier: str, state: Properties) -> Observation | None:
        """Return what the kernel and the delay line say of it."""
        found = self._links(state).read(identifier)
        if found is None or found.urn != urn:
            return None
        seen = {key: state[key] for key in self.inputs if key in state}
        if found.faults:
            seen["ends"] = {"faults": "; ".join(found.faults)}
        if found.actual:
            seen |= _condition(found, state)
        if found.cut:
            seen["loss_percent"] = 100
        return Observation(seen, {})

    def probe(self, identifier: str, state: Properties) -> dict[str, str]:
        """Say which parts are missing; what somebody cut on purpose is left to `refresh`."""
        found = self._links(state).read(identifier)
        if found is None:
            return {"ends": "gone"}
        return {"ends": "; ".join(found.faults)} if found.faults else {}

    def update(
        self, urn: str, identifier: str, state: Properties, wanted: Properties, progress: Progress
    ) -> Properties:
        """Make the circuit as declared."""
        del identifier, state
        return self.create(urn, wanted, progress)[1]

    def delete(self, urn: str, identifier: str, state: Properties) -> None:
        """Take the circuit away."""
        found = self._links(state).read(identifier)
        if found and found.urn in ("", urn):
            self._links(state).remove(identifier)

    def _links(self, properties: Properties) -> Links:
        return Links(self.folders, environment(properties["environment"]))


def _condition(found: LinkState, state: Properties) -> Properties:
    assert found.actual is not None  # noqa: S101 - the caller looked
    seen: Properties = {}
    for key, value in found.actual.model_dump().items():
        recorded = state.get(key, 0)
        same = abs(value - recorded) <= _TOLERANCE * max(abs(recorded), 1)
        seen[key] = recorded if same else value
    return seen
