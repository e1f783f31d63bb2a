"""A convergence: the roles of one layer of hosts, run by Ansible as site operators run them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dpp.adapters.ansible import Play
from dpp.lab.access import console_needed, write_access
from dpp.provider import kinds
from dpp.provider.resource import Observation, Progress, Properties, Resource, environment, folders


class Convergence(Resource[kinds.Convergence]):
    """Hosts converged to what inventory and roles say.

    While it works on hosts their names stand in a file of the state folder: whoever finds one there knows that they were
    left half way, whatever else is recorded of them.
    """

    kind = kinds.Convergence

    def create(self, urn: str, wanted: kinds.Convergence, progress: Progress) -> tuple[str, Properties]:
        """Run the playbook on the layer's hosts.

        Machines that were just made come from the base image, which is what the roles' install stages leave.

        Raises
        ------
        RetriableError
            If a task fails or a host cannot be reached.
        """
        del urn
        made = environment(wanted.environment).made
        return wanted.layer, self._converge(wanted, list(wanted.digests), progress, installed=made)

    def read(self, urn: str, identifier: str, state: Properties) -> Observation | None:
        """Run the playbook in check mode; a host that would change is named in place of its digest."""
        del urn, identifier
        model, hosts = environment(state["environment"]), list(state["digests"])
        write_access(model.folders, model)
        console = console_needed(model.folders, model, hosts)
        result = Play(model.name, model.folders).run(hosts, check=True, console=console)
        drifted = {host: [c for c in result.changes if c.startswith(f"{host}: ")] for host in hosts}
        digests = {
            host: "drifted: " + "; ".join(c.partition(": ")[2] for c in drifted[host]) if drifted[host] else digest
            for host, digest in state["digests"].items()
        }
        return Observation(self.seen(state, digests=digests), {"changes": state.get("changes", 0)})

    def probe(self, identifier: str, state: Properties) -> dict[str, str]:
        """Say which hosts were left half way."""
        del identifier
        left = _left(_mark(state["environment"], state["layer"]))
        return {"digests": f"not finished: {', '.join(left)}"} if left else {}

    def update(
        self, urn: str, identifier: str, state: Properties, wanted: kinds.Convergence, progress: Progress
    ) -> Properties:
        """Run the playbook on the hosts whose digest or machine changed, and on those that were left half way."""
        del urn, identifier
        left = _left(_mark(wanted.environment, wanted.layer))
        stale = [
            host
            for host, digest in wanted.digests.items()
            if host in left
            or state["digests"].get(host) != digest
            or state["machines"].get(host) != wanted.machines.get(host)
        ]
        return self._converge(wanted, stale, progress)

    def delete(self, urn: str, identifier: str, state: Properties) -> None:
        """Leave the hosts as they are: their machines go, or stay, with their own resources."""
        del urn, identifier, state

    def _converge(
        self, wanted: kinds.Convergence, hosts: Sequence[str], progress: Progress, *, installed: bool = False
    ) -> Properties:
        mark = _mark(wanted.environment, wanted.layer)
        changes = 0
        if hosts:
            model = environment(wanted.environment)
            mark.parent.mkdir(parents=True, exist_ok=True)
            mark.write_text("\n".join(hosts))
            write_access(model.folders, model)
            console = console_needed(model.folders, model, hosts)
            progress(f"{len(hosts)} hosts {'by console' if console else 'in band'}")
            result = Play(model.name, model.folders).run(hosts, console=console, installed=installed, progress=progress)
            changes = len(result.changes)
        mark.unlink(missing_ok=True)
        return {"changes": changes}


def _mark(environment_name: str, layer: str) -> Path:
    return folders(environment_name).state / "converging" / layer


def _left(mark: Path) -> list[str]:
    return mark.read_text().split() if mark.exists() else []
