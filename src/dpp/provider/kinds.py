"""The kinds of resources, each declared once: its type, its inputs and outputs. Programs and the provider share them.

Programs give values that only another resource can tell (`Later`); the provider gets what they came to, or `Unknown` in a
preview.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from dpp.model.errors import FatalError

if TYPE_CHECKING:
    from pulumi import Input as Later
else:

    class Later:
        """A value that may be known only when another resource stands."""

        def __class_getitem__(cls, item: Any) -> Any:
            return Annotated[Any, BeforeValidator(lambda value: value)]


class Unknown:
    """A value that only an apply can tell; it stands in previews."""

    def __repr__(self) -> str:
        return "<known after apply>"


UNKNOWN: Final = Unknown()


_FIRST: Final = {"extra_forbidden": 0, "missing": 1}


class Kind(BaseModel):
    """The inputs of one kind of resource; the class says the rest of what programs, provider and engine agree on."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    token: ClassVar[str]
    """Type of the resource in programs and states."""
    replaces: ClassVar[frozenset[str]] = frozenset({"environment"})
    """Inputs whose change makes a new object."""
    outputs: ClassVar[frozenset[str]] = frozenset()
    """Names of what creating and updating add to the inputs."""
    update_changes: ClassVar[frozenset[str]] = frozenset()
    """Outputs that an update may change; the others are known in a preview."""

    environment: str

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Kind:
        """Return the inputs that `given` names.

        Raises
        ------
        FatalError
            If one is unknown, missing or of another type.
        """
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            raise FatalError(f"resource type {cls.token}", *cls._mistake(error)) from error

    @classmethod
    def _mistake(cls, error: ValidationError) -> tuple[str, str]:
        """Return what was found and what was expected: names first, for a wrong name explains a missing one."""
        mistakes = sorted(error.errors(), key=lambda one: _FIRST.get(one["type"], len(_FIRST)))
        name = ".".join(map(str, mistakes[0]["loc"]))
        if mistakes[0]["type"] == "extra_forbidden":
            return f"input {name!r}", f"one of {', '.join(sorted(cls.model_fields))}"
        if mistakes[0]["type"] == "missing":
            return f"no input {name!r}", "all inputs given"
        return f"input {name} is {mistakes[0]['input']!r}", str(mistakes[0]["msg"])

    def given(self) -> dict[str, Any]:
        """Return the inputs by name, as they were given."""
        return dict(self)

    @classmethod
    def schema_of(cls) -> dict[str, Any]:
        """Return the kind as the engine's schema of packages describes it."""
        of_any = {"$ref": "pulumi.json#/Any"}
        return {
            "inputProperties": dict.fromkeys(sorted(cls.model_fields), of_any),
            "requiredInputs": sorted(cls.model_fields),
            "properties": dict.fromkeys(sorted({*cls.model_fields, *cls.outputs}), of_any),
        }


class Machine(Kind):
    """A host of the inventory, standing and on its network.

    Where hosts are made, `image`, `volumes` and `recipe` (digest of how it is run) say what its container is made from;
    they are empty where hosts are found.
    """

    token: ClassVar[str] = "dpp:machines:Machine"  # noqa: S105 - a type's name
    replaces: ClassVar[frozenset[str]] = frozenset({"environment", "host"})
    outputs: ClassVar[frozenset[str]] = frozenset({"identity"})
    update_changes: ClassVar[frozenset[str]] = frozenset({"identity"})

    host: str
    site: str
    network: str
    address: str
    gateway: str
    functions: list[str]
    operations: bool
    image: str
    volumes: list[str]
    recipe: str


class Link(Kind):
    """A circuit of the lab: two shaped ends between two routers."""

    token: ClassVar[str] = "dpp:links:Link"  # noqa: S105 - a type's name
    replaces: ClassVar[frozenset[str]] = frozenset({"environment", "circuit"})

    circuit: str
    rate_mbps: float
    delay_ms: float
    loss_percent: float
    ends: Mapping[str, Any]


class Convergence(Kind):
    """Hosts of one layer converged to what inventory and roles say.

    `digests` are, per host, of all that decides what it becomes; `machines` are, per host, the machine's identity: a new
    machine is converged anew.
    """

    token: ClassVar[str] = "dpp:hosts:Convergence"  # noqa: S105 - a type's name
    replaces: ClassVar[frozenset[str]] = frozenset({"environment", "layer"})
    outputs: ClassVar[frozenset[str]] = frozenset({"changes"})
    update_changes: ClassVar[frozenset[str]] = frozenset({"changes"})

    layer: str
    digests: dict[str, str]
    machines: Mapping[str, Any]


class DeviceConfiguration(Kind):
    """The whole configuration that a router runs; `machine` is its identity: a new one is configured anew."""

    token: ClassVar[str] = "dpp:network:DeviceConfiguration"  # noqa: S105 - a type's name
    replaces: ClassVar[frozenset[str]] = frozenset({"environment", "host"})

    host: str
    configuration: str
    machine: Later[str]


class SiteImages(Kind):
    """Images in the registry of one site: built and brought there, never taken away."""

    replaces: ClassVar[frozenset[str]] = frozenset({"environment", "site"})
    outputs: ClassVar[frozenset[str]] = frozenset({"references"})
    update_changes: ClassVar[frozenset[str]] = frozenset({"references"})

    site: str
    registry: str


class PlatformImages(SiteImages):
    """The images that a site's cluster runs on; `recipes` are the digests of all that each is made from."""

    token: ClassVar[str] = "dpp:images:PlatformImages"  # noqa: S105 - a type's name

    recipes: dict[str, str]


class WorkloadImages(SiteImages):
    """The images of the workloads; `sources` are the digests of all that each is made from."""

    token: ClassVar[str] = "dpp:images:WorkloadImages"  # noqa: S105 - a type's name

    sources: dict[str, str]


class Manifests(Kind):
    """The objects of one service on one cluster: ``Kind namespace/name`` to the whole object."""

    token: ClassVar[str] = "dpp:clusters:Manifests"  # noqa: S105 - a type's name
    replaces: ClassVar[frozenset[str]] = frozenset({"environment", "cluster"})
    outputs: ClassVar[frozenset[str]] = frozenset({"owner"})

    cluster: str
    service: str
    objects: Later[dict[str, dict[str, Any]]]
