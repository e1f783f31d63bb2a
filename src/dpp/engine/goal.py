"""What a program asks for: one registered resource, and the refusal of everything that this engine does not do."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from pulumi.runtime.proto import resource_pb2

from dpp.engine.state import PROVIDER_TYPE, STACK_TYPE, Resource
from dpp.engine.values import Properties, from_struct
from dpp.model.errors import FatalError

_REFUSED = {
    "remote": "remote components",
    "importId": "import",
    "aliases": "aliases",
    "aliasURNs": "aliases",
    "replace_with": "replace_with",
    "replacement_trigger": "replacement_trigger",
    "transforms": "transforms",
    "packageRef": "parameterized packages",
    "envVarMappings": "environment variable mappings",
    "state_migrations": "state migrations",
    "replaceOnChanges": "replace_on_changes",
}
_SUFFIX_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True)
class Goal:
    """A resource as the program wants it.

    Parameters
    ----------
    urn
        Its name, unique in all stacks.
    inputs
        Its properties, secrets marked and open; unknowns in previews.
    fields
        What its checkpoint entry says beside inputs, outputs, identity and times.
    """

    urn: str
    type: str
    name: str
    custom: bool
    inputs: Properties
    fields: dict[str, Any]
    provider: str = ""
    ignore_changes: list[str] = field(default_factory=list)
    delete_before_replace: bool | None = None
    timeouts: dict[str, float] = field(default_factory=dict)
    secret_outputs: list[str] = field(default_factory=list)

    @property
    def package(self) -> str:
        """Package of the provider: the first part of the type."""
        return self.type.removeprefix(PROVIDER_TYPE) if self.is_provider else self.type.partition(":")[0]

    @property
    def is_provider(self) -> bool:
        """Whether the resource is a provider itself."""
        return self.type.startswith(PROVIDER_TYPE)

    @property
    def protect(self) -> bool:
        """Whether deletion is refused."""
        return bool(self.fields.get("protect"))

    def resource(
        self, old: Resource | None, id_: str, inputs: Properties, outputs: Properties, **more: Any
    ) -> Resource:
        """Return the checkpoint entry of the resource; fields of `old` that this engine does not know stay."""
        kept = {key: value for key, value in old.fields.items() if key not in _OURS} if old else {}
        identity = {"urn": self.urn, "custom": self.custom, **({"id": id_} if id_ else {}), "type": self.type}
        fields = {key: value for key, value in {**identity, **kept, **self.fields, **more}.items() if value is not None}
        return Resource(fields, inputs, outputs)


_OURS = frozenset(
    {
        *("urn", "custom", "id", "type", "parent", "protect", "dependencies", "propertyDependencies", "provider"),
        *("additionalSecretOutputs", "customTimeouts", "retainOnDelete", "deletedWith", "ignoreChanges", "hideDiff"),
        *(
            "sourcePosition",
            "stackTrace",
            "created",
            "modified",
            "initErrors",
            "delete",
            "pendingReplacement",
            "external",
        ),
    }
)
"""Fields that a registration decides anew."""


def make_urn(stack: str, project: str, type_: str, name: str, parent: str) -> str:
    """Return the URN of a resource; the parent's types stand before its own, but for the stack itself."""
    chain = parent.split("::", 3)[2] if parent else ""
    qualified = type_ if chain in {"", STACK_TYPE} else f"{chain}${type_}"
    return f"urn:pulumi:{stack}::{project}::{qualified}::{name}"


def of_request(request: resource_pb2.RegisterResourceRequest, stack: str, project: str, root: Path) -> Goal:
    """Return what a registration asks for.

    Raises
    ------
    FatalError
        If it asks for something that this engine does not do.
    """
    urn = make_urn(stack, project, request.type, request.name, request.parent)
    _refuse(request, urn)
    dependencies = {key: list(value.urns) for key, value in request.propertyDependencies.items()}
    timeouts = _timeouts(request)
    fields = {
        "parent": request.parent or None,
        "protect": request.protect or None,
        "dependencies": list(request.dependencies) or None,
        "propertyDependencies": dependencies or None,
        "additionalSecretOutputs": list(request.additionalSecretOutputs) or None,
        "customTimeouts": timeouts or None,
        "retainOnDelete": request.retainOnDelete or None,
        "deletedWith": request.deletedWith or None,
        "ignoreChanges": list(request.ignoreChanges) or None,
        "hideDiff": list(request.hideDiffs) or None,
        "sourcePosition": _position(request.sourcePosition, root),
    }
    return Goal(
        urn,
        request.type,
        request.name,
        request.custom,
        from_struct(request.object),
        fields,
        request.provider,
        list(request.ignoreChanges),
        request.deleteBeforeReplace if request.deleteBeforeReplaceDefined else None,
        timeouts,
        list(request.additionalSecretOutputs),
    )


def _refuse(request: resource_pb2.RegisterResourceRequest, urn: str) -> None:
    asked = [words for name, words in _REFUSED.items() if _is_set(request, name)]
    if any(len(hooks) for _, hooks in request.hooks.ListFields()):
        asked.append("resource hooks")
    if asked:
        raise FatalError(
            urn,
            f"the program asks for {asked[0]}, which the offline engine does not do",
            "options that it does",
            "use the pulumi command for this stack, or do without",
        )


def _is_set(request: resource_pb2.RegisterResourceRequest, name: str) -> bool:
    return any(field.name == name for field, _ in request.ListFields())


def _timeouts(request: resource_pb2.RegisterResourceRequest) -> dict[str, float]:
    given = {str(name.name): value for name, value in request.customTimeouts.ListFields()}
    return {name: _seconds(value) for name, value in given.items()}


def _seconds(text: str) -> float:
    number = text.rstrip("mhs")
    try:
        return float(number) * _SUFFIX_SECONDS[text[len(number) :] or "s"]
    except (KeyError, ValueError) as error:
        raise FatalError("customTimeouts", text, "a number and one of ms, s, m, h") from error


def _position(position: Any, root: Path) -> str | None:
    path = unquote(urlsplit(position.uri).path)
    try:
        return f"project:///{Path(path).relative_to(root)}#{position.line}" if path else None
    except ValueError:
        return None
