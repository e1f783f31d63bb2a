"""The objects of one service on one cluster: applied server-side, waited for, compared, pruned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from dpp.adapters.kubernetes import Cluster, Difference, Manifest
from dpp.adapters.secrets import Secrets
from dpp.provider import kinds
from dpp.provider.resource import Observation, Progress, Properties, Resource, folders
from dpp.rendering.contracts import AUTHORITIES, SECRET

_READY_SECONDS = 900.0


class Manifests(Resource[kinds.Manifests]):
    """What one service consists of on a cluster."""

    kind = kinds.Manifests

    def create(self, urn: str, wanted: kinds.Manifests, progress: Progress) -> tuple[str, Properties]:
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

        objects = _resolved(wanted.environment, cast("dict[str, Manifest]", wanted.objects))
        _cluster(wanted.environment, wanted.cluster).apply(objects, urn, _READY_SECONDS, tell)
        return self.find(wanted), {"owner": urn}

    def find(self, wanted: kinds.Manifests) -> str:
        """Return the id, so that objects of an apply that was cut short are found."""
        return f"{wanted.cluster}/{wanted.service}"

    def read(self, urn: str, identifier: str, state: Properties) -> Observation | None:
        """Ask the API what an apply would change; such objects are shown as they differ."""
        del identifier
        wanted = _resolved(state["environment"], state["objects"])
        found = _cluster(state["environment"], state["cluster"]).diff(wanted, urn)
        objects = dict(state["objects"])
        for difference in found:
            _note(objects, difference)
        if not objects:
            return None
        return Observation(self.seen(state, objects=objects), {"owner": urn})

    def probe(self, identifier: str, state: Properties) -> dict[str, str]:
        """Say which objects are missing or not ready."""
        del identifier
        found = _cluster(state["environment"], state["cluster"]).unready(state["owner"])
        return {"objects": "; ".join(f"{key}: {reason}" for key, reason in found.items())} if found else {}

    def update(
        self, urn: str, identifier: str, state: Properties, wanted: kinds.Manifests, progress: Progress
    ) -> Properties:
        """Apply what changed and delete what is no longer named."""
        del identifier, state
        return self.create(urn, wanted, progress)[1]

    def delete(self, urn: str, identifier: str, state: Properties) -> None:
        """Delete the service's objects."""
        del identifier
        _cluster(state["environment"], state["cluster"]).delete(urn)


def _cluster(environment: str, name: str) -> Cluster:
    return Cluster(name, environment, folders(environment))


def _resolved(environment: str, objects: Mapping[str, Manifest]) -> list[Manifest]:
    """Return objects with their references to secrets and authorities resolved; what drift is noted as is none."""
    secrets = Secrets(folders(environment).secrets)
    return [_with_secrets(secrets, content) for content in objects.values() if "kind" in content]


def _with_secrets(secrets: Secrets, content: Manifest) -> Manifest:
    field = {"Secret": "stringData", "ConfigMap": "data"}.get(content["kind"])
    if field not in content:
        return content
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
