"""The objects of one service on one cluster: applied server-side, waited for, compared, pruned."""

from __future__ import annotations

from typing import Any, ClassVar

from dpp.adapters.kubernetes import Cluster, Difference, Manifest
from dpp.adapters.secrets import Secrets
from dpp.provider.resource import Observation, Progress, Properties, Resource
from dpp.rendering.clusters import AUTHORITIES, SECRET

_READY_SECONDS = 900.0


class Manifests(Resource):
    """What one service consists of on a cluster.

    Inputs: `objects` (``Kind namespace/name`` to the whole object).
    """

    token: ClassVar[str] = "dpp:clusters:Manifests"  # noqa: S105 - a type's name
    inputs = frozenset({"environment", "cluster", "service", "objects"})
    replaces = frozenset({"environment", "cluster"})
    outputs = frozenset({"owner"})

    def create(self, urn: str, wanted: Properties, progress: Progress) -> tuple[str, Properties]:
        """Make the cluster hold exactly these objects and wait until they are ready.

        Raises
        ------
        FatalError
            If the API refuses an object or another resource owns it.
        RetriableError
            If the API does not answer or something does not become ready.
        """
        told: list[str] = [""]

        def tell(line: str) -> None:
            if line != told[-1]:
                told.append(line)
                progress(line)

        self._cluster(wanted).apply(self._objects(wanted), urn, _READY_SECONDS, tell)
        return self.find(wanted), {"owner": urn}

    def find(self, wanted: Properties) -> str:
        """Return the id, so that objects of an apply that was cut short are found."""
        return f"{wanted['cluster']}/{wanted['service']}"

    def read(self, urn: str, identifier: str, state: Properties) -> Observation | None:
        """Ask the API what an apply would change; such objects are shown as they differ."""
        del identifier
        found = self._cluster(state).diff(self._objects(state), urn)
        objects = dict(state["objects"])
        for difference in found:
            _note(objects, difference)
        if not objects:
            return None
        seen = {key: state[key] for key in self.inputs if key in state} | {"objects": objects}
        return Observation(seen, {"owner": urn})

    def probe(self, identifier: str, state: Properties) -> dict[str, str]:
        """Say which objects are missing or not ready."""
        del identifier
        found = self._cluster(state).unready(state["owner"])
        return {"objects": "; ".join(f"{key}: {reason}" for key, reason in found.items())} if found else {}

    def update(
        self, urn: str, identifier: str, state: Properties, wanted: Properties, progress: Progress
    ) -> Properties:
        """Apply what changed and delete what is no longer named."""
        del identifier, state
        return self.create(urn, wanted, progress)[1]

    def delete(self, urn: str, identifier: str, state: Properties) -> None:
        """Delete the service's objects."""
        del identifier
        self._cluster(state).delete(urn)

    def _cluster(self, properties: Properties) -> Cluster:
        return Cluster(properties["cluster"], properties["environment"], self.folders)

    def _objects(self, properties: Properties) -> list[Manifest]:
        return [self._resolved(content) for content in properties["objects"].values() if "kind" in content]

    def _resolved(self, content: Manifest) -> Manifest:
        """Return an object with its references to secrets and authorities resolved."""
        field = {"Secret": "stringData", "ConfigMap": "data"}.get(content["kind"])
        if field not in content:
            return content
        secrets = Secrets(self.folders.secrets)
        return content | {field: {key: _resolve(secrets, value) for key, value in content[field].items()}}


def _resolve(secrets: Secrets, value: str) -> str:
    if value == AUTHORITIES:
        return secrets.bundle()
    return secrets.password(value.removeprefix(SECRET)) if value.startswith(SECRET) else value


def _note(objects: dict[str, Any], difference: Difference) -> None:
    """Write into `objects` what was found in place of what is recorded; values of Secrets are left out."""
    key = str(difference.key)
    if difference.action == "create":
        objects.pop(key, None)
    elif difference.action == "delete":
        objects[key] = {"found": "not named by the service"}
    else:
        hidden = difference.key.kind == "Secret"
        fields = {path: "changed" if hidden else found for path, (found, _) in difference.fields.items()}
        objects[key] = {"drifted": fields}
