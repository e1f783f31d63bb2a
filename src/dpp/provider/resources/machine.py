"""A machine: a systemd container where hosts are made; elsewhere a reachable host that is adopted."""

from __future__ import annotations

import socket

from dpp.adapters.vantage import Vantage
from dpp.lab.machine_spec import READY, MachineSpec
from dpp.lab.machines import Machines
from dpp.model.errors import FatalError, RetriableError
from dpp.provider import kinds
from dpp.provider.resource import Observation, Progress, Properties, Resource, environment, folders

_SSH_PORT = 22
_SSH_SECONDS = 5.0


class Machine(Resource[kinds.Machine]):
    """A host of the inventory, standing and on its network."""

    kind = kinds.Machine

    def create(self, urn: str, wanted: kinds.Machine, progress: Progress) -> tuple[str, Properties]:
        """Make the machine or adopt the host that answers.

        Raises
        ------
        FatalError
            If the machine belongs to another resource.
        RetriableError
            If it does not boot or, where hosts are found, does not answer.
        """
        if not environment(wanted.environment).made:
            _reach(wanted.environment, wanted.host, wanted.site, wanted.address)
            return wanted.host, {"identity": wanted.host}
        progress(f"starting {wanted.host}")
        state = self._machines(wanted.environment).ensure(_spec(urn, wanted))
        return state.name, {"identity": state.container}

    def find(self, wanted: kinds.Machine) -> str:
        """Return the container's name; where hosts are found nothing is made that could be left."""
        made = environment(wanted.environment).made
        return self._machines(wanted.environment).name(wanted.host) if made else ""

    def read(self, urn: str, identifier: str, state: Properties) -> Observation | None:
        """Return what the machine's container says of itself."""
        if not environment(state["environment"]).made:
            _reach(state["environment"], state["host"], state["site"], state["address"])
            return Observation(self.seen(state), {"identity": identifier})
        found = self._machines(state["environment"]).read(state["host"])
        if found is None or found.urn != urn:
            return None
        spec = found.spec
        seen = self.seen(
            state,
            **{key: getattr(spec, key) for key in ("site", "network", "address", "image", "recipe")},
            gateway=spec.gateway or "",
            volumes=list(spec.volumes),
        )
        if found.system not in READY or not found.plugged:
            seen["address"] = f"{spec.address} ({_illness(found.system, plugged=found.plugged)})"
        return Observation(seen, {"identity": found.container})

    def probe(self, identifier: str, state: Properties) -> dict[str, str]:
        """Say whether a machine that was made is off, off its network or gone."""
        del identifier
        if not environment(state["environment"]).made:
            return {}
        illness = self._machines(state["environment"]).illness(state["host"], state.get("identity", ""))
        return {"identity": illness} if illness else {}

    def refuse(self, state: Properties, wanted: kinds.Machine) -> None:
        """Refuse a change of volumes that would leave data behind."""
        if environment(wanted.environment).made and state.get("volumes") != wanted.volumes:
            self._machines(wanted.environment).refuse_loss(wanted.host, wanted.volumes)

    def update(
        self, urn: str, identifier: str, state: Properties, wanted: kinds.Machine, progress: Progress
    ) -> Properties:
        """Mend the machine; a change of image, address or recipe makes its container anew, its volumes stay."""
        del identifier, state
        return self.create(urn, wanted, progress)[1]

    def delete(self, urn: str, identifier: str, state: Properties) -> None:
        """Remove the machine that was made; a host that was found is left as it is."""
        del identifier
        if environment(state["environment"]).made:
            self._machines(state["environment"]).remove(state["host"], urn)

    @staticmethod
    def _machines(environment_name: str) -> Machines:
        return Machines(folders(environment_name))


def _illness(system: str, *, plugged: bool) -> str:
    return f"systemd is {system}" if system not in READY else "" if plugged else "eth0 is off its network"


def _spec(urn: str, wanted: kinds.Machine) -> MachineSpec:
    return MachineSpec(
        host=wanted.host,
        site=wanted.site,
        network=wanted.network,
        address=wanted.address,
        gateway=wanted.gateway or None,
        image=wanted.image,
        urn=urn,
        operations=wanted.operations,
        volumes=tuple(wanted.volumes),
        recipe=wanted.recipe,
    )


def _reach(environment_name: str, host: str, site: str, interface: str) -> None:
    """Fail unless a host answers on its SSH port from its site's operations host."""
    address = interface.partition("/")[0]

    def connect() -> bytes:
        with socket.create_connection((address, _SSH_PORT), timeout=_SSH_SECONDS) as connection:
            return connection.recv(64)

    try:
        greeting = Vantage.at(site, environment_name).run(connect)
    except OSError as error:
        raise RetriableError(
            f"machine {host}", f"{address} does not answer: {error}", "SSH on port 22", "install or start it"
        ) from error
    if not greeting.startswith(b"SSH-"):
        raise FatalError(f"machine {host}", f"{address} answers {greeting!r}", "an SSH server")
