"""A border router's whole configuration: shown as a difference, applied on trial, confirmed from another site."""

from __future__ import annotations

from typing import ClassVar

from dpp.adapters.devices import DeviceConfigurations
from dpp.lab.access import console_needed
from dpp.provider.resource import Observation, Progress, Properties, Resource, environment


class DeviceConfiguration(Resource):
    """The configuration that a router runs; stray lines are drift.

    Inputs: `configuration` (the whole text), `machine` (the router's identity: a new machine is configured anew).
    """

    token: ClassVar[str] = "dpp:network:DeviceConfiguration"  # noqa: S105 - a type's name
    inputs = frozenset({"environment", "host", "configuration", "machine"})
    replaces = frozenset({"environment", "host"})

    def create(self, urn: str, wanted: Properties, progress: Progress) -> tuple[str, Properties]:
        """Make the router's configuration exactly the wanted one.

        Raises
        ------
        RetriableError
            If the router cannot be reached.
        FatalError
            If it refuses the text, or something that worked before stayed down; the router took the change back.
        """
        del urn
        applied = self._devices(wanted, progress).push(wanted["host"], wanted["configuration"])
        for line in applied.change.text().splitlines():
            progress(line)
        return wanted["host"], {}

    def read(self, urn: str, identifier: str, state: Properties) -> Observation | None:
        """Note below the recorded configuration which lines the router has beside it, and which it lacks."""
        del urn
        change = self._devices(state).diff(identifier, state["configuration"])
        seen = {key: state[key] for key in self.inputs if key in state}
        if change:
            strays = [f"! stray: {line}" for line in change.delete]
            lacks = [f"! missing: {line}" for line in change.add]
            seen["configuration"] = "\n".join([state["configuration"].rstrip("\n"), *strays, *lacks, ""])
        return Observation(seen, {})

    def update(
        self, urn: str, identifier: str, state: Properties, wanted: Properties, progress: Progress
    ) -> Properties:
        """Make the router's configuration exactly the wanted one."""
        del identifier, state
        return self.create(urn, wanted, progress)[1]

    def delete(self, urn: str, identifier: str, state: Properties) -> None:
        """Leave the router as it is: a router without configuration would cut its site off."""
        del urn, identifier, state

    def _devices(self, properties: Properties, progress: Progress = lambda _: None) -> DeviceConfigurations:
        model = environment(properties["environment"])
        console = console_needed(self.folders, model, [properties["host"]])
        return DeviceConfigurations(model, self.folders, console=console, progress=progress)
