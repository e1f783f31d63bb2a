"""A stack's state in memory: resources and pending operations, in the order and form that checkpoints keep them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Literal

from dpp.engine.passphrase import Passphrase
from dpp.engine.values import Properties
from dpp.model.errors import FatalError

STACK_TYPE: Final = "pulumi:pulumi:Stack"
REFERENCE_TYPE: Final = "pulumi:pulumi:StackReference"
PROVIDER_TYPE: Final = "pulumi:providers:"
WRITER: Final = "v3.259.0"
"""The version of the checkpoint format's reference implementation; readers check its digest."""

OperationType = Literal["creating", "updating", "deleting", "reading"]


def now() -> str:
    """Return the current time as checkpoints write it."""
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


class Resource:
    """One resource of a checkpoint: its fields as they are in the file, its inputs and outputs with secrets opened.

    Fields that this engine does not know stay as they are.

    Parameters
    ----------
    fields
        The fields of the checkpoint; not changed afterwards.
    inputs, outputs
        The resource's properties, secrets marked and open.
    """

    __slots__ = ("_text", "fields", "inputs", "outputs")

    def __init__(self, fields: dict[str, Any], inputs: Properties, outputs: Properties) -> None:
        self.fields = {key: value for key, value in fields.items() if key not in {"inputs", "outputs"}}
        self.inputs = inputs
        self.outputs = outputs
        self._text: str | None = None

    def __repr__(self) -> str:
        return f"<{self.urn} {self.id}>"

    @property
    def urn(self) -> str:
        """Name of the resource, unique in all stacks but for halves of a replacement."""
        return str(self.fields["urn"])

    @property
    def type(self) -> str:
        """Type token."""
        return str(self.fields["type"])

    @property
    def id(self) -> str:
        """The provider's name of the object; empty if there is none."""
        return str(self.fields.get("id", ""))

    @property
    def custom(self) -> bool:
        """Whether a provider manages an object behind it."""
        return bool(self.fields.get("custom"))

    @property
    def external(self) -> bool:
        """Whether it was only read, so that nothing is ever deleted."""
        return bool(self.fields.get("external"))

    @property
    def protect(self) -> bool:
        """Whether deletion is refused."""
        return bool(self.fields.get("protect"))

    @property
    def condemned(self) -> bool:
        """Whether it is the old half of a replacement, to be deleted."""
        return bool(self.fields.get("delete"))

    @property
    def gone(self) -> bool:
        """Whether its object was deleted already and only the replacement is missing."""
        return bool(self.fields.get("pendingReplacement"))

    @property
    def provider(self) -> str:
        """Reference ``URN::ID`` of its provider."""
        return str(self.fields.get("provider", ""))

    @property
    def name(self) -> str:
        """Last part of the URN."""
        return self.urn.split("::", 3)[3]

    @property
    def parent(self) -> str:
        """URN of the parent; empty at the root."""
        return str(self.fields.get("parent", ""))

    @property
    def managed(self) -> bool:
        """Whether a provider process must delete it."""
        return self.custom and not self.external and not self.gone and not self.type.startswith(PROVIDER_TYPE)

    def needs(self) -> set[str]:
        """Return the URNs that must exist as long as this resource does."""
        urns = set(self.fields.get("dependencies", ()))
        urns.update(*self.fields.get("propertyDependencies", {}).values())
        urns.update((self.parent, self.provider.rpartition("::")[0], self.fields.get("deletedWith", "")))
        return urns - {"", self.urn}

    def with_fields(self, **changes: Any) -> Resource:
        """Return a copy in which `changes` hold; a value of ``None`` removes the field."""
        fields = {key: value for key, value in {**self.fields, **changes}.items() if value is not None}
        return Resource(fields, changes.get("inputs", self.inputs), changes.get("outputs", self.outputs))

    def encoded(self, secrets: Passphrase) -> dict[str, Any]:
        """Return the resource as a checkpoint carries it."""
        halves = {"inputs": self.inputs, "outputs": self.outputs}
        return self.fields | {
            half: secrets.encrypt(values, f"{self.urn}.{half}") for half, values in halves.items() if values
        }

    def text(self, secrets: Passphrase) -> str:
        """Return `encoded` as JSON, computed once."""
        if self._text is None:
            self._text = json.dumps(self.encoded(secrets), separators=(",", ":"))
        return self._text


@dataclass
class Operation:
    """A step that has begun and whose end is not recorded yet."""

    resource: Resource
    type: OperationType
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass
class State:
    """A stack's checkpoint.

    Parameters
    ----------
    stack
        Name of the stack, ``environment.unit``.
    project
        Name of its project.
    secrets
        What its secrets are written with.
    resources
        In an order in which everything stands behind what it needs.
    """

    stack: str
    project: str
    secrets: Passphrase
    resources: list[Resource] = field(default_factory=list)
    pending: list[Operation] = field(default_factory=list)
    envelope: dict[str, Any] = field(default_factory=dict)
    deployment: dict[str, Any] = field(default_factory=dict)

    def find(self, urn: str) -> Resource | None:
        """Return the living resource of that URN."""
        return next((found for found in self.resources if found.urn == urn and not found.condemned), None)

    @property
    def outputs(self) -> Properties:
        """What the stack exports."""
        root = next((found for found in self.resources if found.type == STACK_TYPE), None)
        return root.outputs if root else {}

    def head(self) -> dict[str, Any]:
        """Return all of the deployment but resources and operations, with a fresh manifest."""
        manifest = {"time": now(), "magic": hashlib.sha256(WRITER.encode()).hexdigest(), "version": WRITER}
        providers = {"type": "passphrase", "state": {"salt": self.secrets.salt}}
        return {"metadata": {}, **self.deployment, "manifest": manifest, "secrets_providers": providers}

    def encoded(self) -> dict[str, Any]:
        """Return the deployment as checkpoints and exports carry it."""
        head = self.head()
        resources = [resource.encoded(self.secrets) for resource in self.resources]
        pending = [
            {**operation.extra, "resource": operation.resource.encoded(self.secrets), "type": operation.type}
            for operation in self.pending
        ]
        return {
            "manifest": head.pop("manifest"),
            "secrets_providers": head.pop("secrets_providers"),
            **({"resources": resources} if resources else {}),
            **({"pending_operations": pending} if pending else {}),
            **head,
        }

    def text(self) -> str:
        """Return the checkpoint file's text."""
        head = json.dumps(self.head(), separators=(",", ":"))[:-1]
        resources = ",".join(resource.text(self.secrets) for resource in self.resources)
        pending = ",".join(
            json.dumps({**operation.extra, "type": operation.type}, separators=(",", ":"))[:-1]
            + f',"resource":{operation.resource.text(self.secrets)}}}'
            for operation in self.pending
        )
        latest = f'{head},"resources":[{resources}]' + (f',"pending_operations":[{pending}]' if pending else "") + "}"
        envelope = {"stack": f"organization/{self.project}/{self.stack}", **self.envelope}
        return f'{{"version":3,"checkpoint":{json.dumps(envelope)[:-1]},"latest":{latest}}}}}'


def decode(deployment: dict[str, Any], secrets: Passphrase, state: State) -> State:
    """Fill `state` with what `deployment`, of a checkpoint or an export, says.

    Parameters
    ----------
    secrets
        Opens the secrets of `deployment`; `state` may be written with another salt.

    Raises
    ------
    FatalError
        If a secret does not open, or a resource needs one that is not there.
    """
    state.resources = [_resource(fields, secrets) for fields in deployment.get("resources") or ()]
    state.pending = [
        Operation(
            _resource(operation["resource"], secrets),
            operation["type"],
            {key: value for key, value in operation.items() if key not in {"resource", "type"}},
        )
        for operation in deployment.get("pending_operations") or ()
    ]
    known = {"manifest", "secrets_providers", "resources", "pending_operations"}
    state.deployment = {key: value for key, value in deployment.items() if key not in known}
    _check(state.resources, secrets.origin)
    return state


def _resource(fields: dict[str, Any], secrets: Passphrase) -> Resource:
    return Resource(fields, secrets.decrypt(fields.get("inputs") or {}), secrets.decrypt(fields.get("outputs") or {}))


def _check(resources: Iterable[Resource], origin: str) -> None:
    seen: set[str] = set()
    for resource in resources:
        if missing := resource.needs() - seen:
            raise FatalError(
                origin,
                f"{resource.urn} needs {', '.join(sorted(missing))}, which does not stand before it",
                "a state in which everything stands behind what it needs",
                "restore the last checkpoint from the backups folder",
            )
        seen.add(resource.urn)
