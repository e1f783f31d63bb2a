"""A border router's whole configuration: shown as a difference, applied on trial, confirmed from another site."""

from __future__ import annotations

import re

from dpp.adapters.devices import DeviceConfigurations
from dpp.lab.access import console_needed
from dpp.model.errors import FatalError
from dpp.provider import kinds
from dpp.provider.resource import Observation, Progress, Properties, Resource, environment

_AUTONOMOUS_SYSTEM = re.compile(r"^(?:! stray: )?router bgp (\d+)$", re.MULTILINE)


class DeviceConfiguration(Resource[kinds.DeviceConfiguration]):
    """The configuration that a router runs; stray lines are drift."""

    kind = kinds.DeviceConfiguration

    def refuse(self, state: Properties, wanted: kinds.DeviceConfiguration) -> None:
        """Refuse another AS number than the router has: its sessions are up again only once all neighbours follow.

        Routers change one by one, and each takes back what leaves a session down. A number that a person has brought to the
        router is there once `read` has seen it.
        """
        known = _AUTONOMOUS_SYSTEM.findall(state["configuration"])
        for number in _AUTONOMOUS_SYSTEM.findall(wanted.configuration):
            if known and number not in known:
                raise FatalError(
                    f"router {wanted.host}",
                    f"AS number {number} in place of {known[-1]}",
                    "the number that it has: a change cuts its site off until all neighbours know it",
                    "in a maintenance, change it at the console of the site's routers and their neighbours, refresh, apply again",
                )

    def create(self, urn: str, wanted: kinds.DeviceConfiguration, progress: Progress) -> tuple[str, Properties]:
        """Make the router's configuration exactly the wanted one.

        Raises
        ------
        RetriableError
            If the router cannot be reached.
        FatalError
            If it refuses the text, or something that worked before stayed down; the router took the change back.
        """
        del urn
        applied = _devices(wanted.environment, wanted.host, progress).push(wanted.host, wanted.configuration)
        for line in applied.change.text().splitlines():
            progress(line)
        return wanted.host, {}

    def read(self, urn: str, identifier: str, state: Properties) -> Observation | None:
        """Note below the recorded configuration which lines the router has beside it, and which it lacks."""
        del urn
        change = _devices(state["environment"], state["host"]).diff(identifier, state["configuration"])
        if not change:
            return Observation(self.seen(state), {})
        strays = [f"! stray: {line}" for line in change.delete]
        lacks = [f"! missing: {line}" for line in change.add]
        configuration = "\n".join([state["configuration"].rstrip("\n"), *strays, *lacks, ""])
        return Observation(self.seen(state, configuration=configuration), {})

    def update(
        self, urn: str, identifier: str, state: Properties, wanted: kinds.DeviceConfiguration, progress: Progress
    ) -> Properties:
        """Make the router's configuration exactly the wanted one."""
        del identifier, state
        return self.create(urn, wanted, progress)[1]

    def delete(self, urn: str, identifier: str, state: Properties) -> None:
        """Leave the router as it is: a router without configuration would cut its site off."""
        del urn, identifier, state


def _devices(environment_name: str, host: str, progress: Progress = lambda _: None) -> DeviceConfigurations:
    model = environment(environment_name)
    console = console_needed(model.folders, model, [host])
    return DeviceConfigurations(model, model.folders, console=console, progress=progress)
