"""A machine: in the lab a systemd container that is made; elsewhere a reachable host that is adopted."""

from __future__ import annotations

import socket
from typing import ClassVar

from dpp.adapters.vantage import Vantage
from dpp.lab.machine_spec import READY, MachineSpec, volumes_of
from dpp.lab.machines import Machines
from dpp.model.errors import FatalError, RetriableError
from dpp.provider.resource import Observation, Progress, Properties, Resource

_SSH_PORT = 22
_SSH_SECONDS = 5.0


class Machine(Resource):
    """A host of the inventory, standing and on its network."""

    token: ClassVar[str] = "dpp:machines:Machine"  # noqa: S105 - a type's name
    inputs = frozenset(
        {"environment", "host", "site", "network", "address", "gateway", "functions", "image", "operations"}
    )
    replaces = frozenset({"environment", "host"})
    outputs = frozenset({"identity"})
    update_changes = frozenset({"identity"})

    def create(self, urn: str, wanted: Properties, progress: Progress) -> tuple[str, Properties]:
        """Make the lab's machine or adopt the host that answers.

        Raises
        ------
        FatalError
            If the machine belongs to another resource.
        RetriableError
            If it does not boot or, outside the lab, does not answer.
        """
        if wanted["environment"] != "lab":
            return self._adopt(wanted)
        progress(f"starting {wanted['host']}")
        state = Machines(self.folders).ensure(_spec(urn, wanted))
        return state.name, {"identity": state.container}

    def find(self, wanted: Properties) -> str:
        """Return the container's name; outside the lab nothing is made that could be left."""
        return Machines(self.folders).name(wanted["host"]) if wanted["environment"] == "lab" else ""

    def read(self, urn: str, identifier: str, state: Properties) -> Observation | None:
        """Return what the machine's container says of itself."""
        if state["environment"] != "lab":
            _reach(state)
            return Observation(_inputs(self, state), {"identity": identifier})
        found = Machines(self.folders).read(state["host"])
        if found is None or found.urn != urn:
            return None
        seen = _inputs(self, state) | {
            "site": found.spec.site,
            "network": found.spec.network,
            "address": found.spec.address,
            "gateway": found.spec.gateway or "",
            "image": found.spec.image,
        }
        if found.system not in READY or not found.plugged:
            seen["address"] = f"{found.spec.address} ({_illness(found.system, plugged=found.plugged)})"
        return Observation(seen, {"identity": found.container})

    def probe(self, identifier: str, state: Properties) -> dict[str, str]:
        """Say whether the lab's machine is off, off its network or gone."""
        del identifier
        if state.get("environment") != "lab":
            return {}
        found = Machines(self.folders).read(state["host"])
        if found is None:
            return {"identity": "gone"}
        if found.system == "off" or not found.plugged:
            return {"identity": _illness(found.system, plugged=found.plugged)}
        if state.get("identity", found.container) != found.container:
            return {"identity": found.container}
        return {}

    def update(
        self, urn: str, identifier: str, state: Properties, wanted: Properties, progress: Progress
    ) -> Properties:
        """Mend the machine; a change of image or address makes its container anew, its volumes stay."""
        del identifier, state
        return self.create(urn, wanted, progress)[1]

    def delete(self, urn: str, identifier: str, state: Properties) -> None:
        """Remove the lab's machine; a host outside the lab is left as it is."""
        del identifier
        if state["environment"] == "lab":
            Machines(self.folders).remove(state["host"], urn)

    def _adopt(self, wanted: Properties) -> tuple[str, Properties]:
        _reach(wanted)
        return wanted["host"], {"identity": wanted["host"]}


def _inputs(kind: Resource, state: Properties) -> Properties:
    return {key: state[key] for key in kind.inputs if key in state}


def _illness(system: str, *, plugged: bool) -> str:
    return f"systemd is {system}" if system not in READY else "" if plugged else "eth0 is off its network"


def _spec(urn: str, wanted: Properties) -> MachineSpec:
    return MachineSpec(
        host=wanted["host"],
        site=wanted["site"],
        network=wanted["network"],
        address=wanted["address"],
        gateway=wanted["gateway"] or None,
        image=wanted["image"],
        urn=urn,
        operations=wanted["operations"],
        volumes=volumes_of(wanted["functions"]),
    )


def _reach(wanted: Properties) -> None:
    """Fail unless the host answers on its SSH port from its site's operations host."""
    address = wanted["address"].partition("/")[0]

    def connect() -> bytes:
        with socket.create_connection((address, _SSH_PORT), timeout=_SSH_SECONDS) as connection:
            return connection.recv(64)

    try:
        greeting = Vantage.at(wanted["site"], wanted["environment"]).run(connect)
    except OSError as error:
        raise RetriableError(
            f"machine {wanted['host']}", f"{address} does not answer: {error}", "SSH on port 22", "install or start it"
        ) from error
    if not greeting.startswith(b"SSH-"):
        raise FatalError(f"machine {wanted['host']}", f"{address} answers {greeting!r}", "an SSH server")
