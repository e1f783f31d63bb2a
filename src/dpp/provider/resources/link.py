"""A circuit of the lab: two shaped ends between two routers."""

from __future__ import annotations

from dpp.lab.links import Links
from dpp.lab.links.state import LinkState
from dpp.provider import kinds
from dpp.provider.resource import Observation, Progress, Properties, Resource, environment

_TOLERANCE = 0.02
"""Share by which the kernel's rounding of rates may differ from what was asked for."""


class Link(Resource[kinds.Link]):
    """A circuit that carries what the inventory declares; a cut or degraded one is drift."""

    kind = kinds.Link

    def create(self, urn: str, wanted: kinds.Link, progress: Progress) -> tuple[str, Properties]:
        """Plug the circuit into both routers and shape it.

        Raises
        ------
        FatalError
            If another resource owns it, or a router is not there.
        """
        progress(f"drawing {wanted.circuit}")
        _links(wanted.environment).ensure(wanted.circuit, urn)
        return wanted.circuit, {}

    def find(self, wanted: kinds.Link) -> str:
        """Return the circuit's name."""
        return wanted.circuit

    def read(self, urn: str, identifier: str, state: Properties) -> Observation | None:
        """Return what the kernel and the delay line say of it."""
        found = _links(state["environment"]).read(identifier)
        if found is None or found.urn != urn:
            return None
        seen = self.seen(state)
        if found.faults:
            seen["ends"] = {"faults": "; ".join(found.faults)}
        if found.actual:
            seen |= _condition(found, state)
        if found.cut:
            seen["loss_percent"] = 100
        return Observation(seen, {})

    def probe(self, identifier: str, state: Properties) -> dict[str, str]:
        """Say which parts are missing; what somebody cut on purpose is left to `refresh`."""
        found = _links(state["environment"]).read(identifier)
        if found is None:
            return {"ends": "gone"}
        return {"ends": "; ".join(found.faults)} if found.faults else {}

    def update(
        self, urn: str, identifier: str, state: Properties, wanted: kinds.Link, progress: Progress
    ) -> Properties:
        """Make the circuit as declared."""
        del identifier, state
        return self.create(urn, wanted, progress)[1]

    def delete(self, urn: str, identifier: str, state: Properties) -> None:
        """Take the circuit away."""
        found = _links(state["environment"]).read(identifier)
        if found and found.urn in ("", urn):
            _links(state["environment"]).remove(identifier)


def _links(environment_name: str) -> Links:
    model = environment(environment_name)
    return Links(model.folders, model)


def _condition(found: LinkState, state: Properties) -> Properties:
    assert found.actual is not None  # noqa: S101 - the caller looked
    seen: Properties = {}
    for key, value in found.actual.model_dump().items():
        recorded = state.get(key, 0)
        same = abs(value - recorded) <= _TOLERANCE * max(abs(recorded), 1)
        seen[key] = recorded if same else value
    return seen
