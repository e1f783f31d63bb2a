"""A convergence: the roles of one layer of hosts, run by Ansible as site operators run them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from dpp.adapters.ansible import Play
from dpp.lab.access import console_needed, write_access
from dpp.provider.resource import Observation, Progress, Properties, Resource, environment


class Convergence(Resource):
    """Hosts converged to what inventory and roles say.

    Inputs: `digests` (per host, of all that decides what it becomes), `machines` (per host, the machine's identity: a
    new machine is converged anew).
    """

    token: ClassVar[str] = "dpp:hosts:Convergence"  # noqa: S105 - a type's name
    inputs = frozenset({"environment", "layer", "digests", "machines"})
    replaces = frozenset({"environment", "layer"})
    outputs = frozenset({"changes"})
    update_changes = frozenset({"changes"})

    def create(self, urn: str, wanted: Properties, progress: Progress) -> tuple[str, Properties]:
        """Run the playbook on the layer's hosts.

        Raises
        ------
        RetriableError
            If a task fails or a host cannot be reached.
        """
        del urn
        return str(wanted["layer"]), self._converge(wanted, list(wanted["digests"]), progress)

    def read(self, urn: str, identifier: str, state: Properties) -> Observation | None:
        """Run the playbook in check mode; a host that would change is named in place of its digest."""
        del urn, identifier
        hosts = list(state["digests"])
        write_access(self.folders, environment(state["environment"]))
        console = console_needed(self.folders, environment(state["environment"]), hosts)
        result = Play(state["environment"], self.folders).run(hosts, check=True, console=console)
        drifted = {host: [c for c in result.changes if c.startswith(f"{host}: ")] for host in hosts}
        seen = {key: state[key] for key in self.inputs if key in state}
        seen["digests"] = {
            host: "drifted: " + "; ".join(c.partition(": ")[2] for c in drifted[host]) if drifted[host] else digest
            for host, digest in state["digests"].items()
        }
        return Observation(seen, {"changes": state.get("changes", 0)})

    def update(
        self, urn: str, identifier: str, state: Properties, wanted: Properties, progress: Progress
    ) -> Properties:
        """Run the playbook on the hosts whose digest or machine changed."""
        del urn, identifier
        stale = [
            host
            for host, digest in wanted["digests"].items()
            if state["digests"].get(host) != digest or state["machines"].get(host) != wanted["machines"].get(host)
        ]
        return self._converge(wanted, stale, progress)

    def delete(self, urn: str, identifier: str, state: Properties) -> None:
        """Leave the hosts as they are: their machines go, or stay, with their own resources."""
        del urn, identifier, state

    def _converge(self, wanted: Properties, hosts: Sequence[str], progress: Progress) -> Properties:
        if not hosts:
            return {"changes": 0}
        write_access(self.folders, environment(wanted["environment"]))
        console = console_needed(self.folders, environment(wanted["environment"]), hosts)
        way = "by console" if console else "in band"
        progress(f"{len(hosts)} hosts {way}")
        result = Play(wanted["environment"], self.folders).run(hosts, console=console, progress=progress)
        return {"changes": len(result.changes)}
