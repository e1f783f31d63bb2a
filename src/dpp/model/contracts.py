"""Contracts: all that a workload of a service may touch, as `services/<service>.yml` declares it.

Each workload is a principal of its own. Names of topics, buckets and databases are names of roles; what stands for them in
an environment follows from its parameters and figures.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field

from dpp.model.types import Kebab, Model

OWN: Final = "own"
"""Stands for the site where a principal runs, each where there are several."""
EVERYWHERE: Final = "everywhere"
"""Stands for all sites that have what is asked for."""
SAL: Final = "sal"
"""Content of a device's topics: their schemas follow from `interfaces/`, and clients register them."""
Role = Annotated[
    str,
    Field(
        pattern=r"^([a-z][a-z0-9]*(-[a-z0-9]+)*|[A-Z][A-Za-z0-9]*\.[A-Za-z][A-Za-z0-9_]*)$",
        max_length=80,
        description="What contracts call a topic: a name of their own, or the device's and the topic's as DEVICE.TOPIC.",
    ),
]
DeviceName = Annotated[str, Field(pattern=r"^[A-Z][A-Za-z0-9]*$", description="A component of `interfaces/`.")]
GroupName = Annotated[
    str, Field(pattern=r"^[A-Za-z][A-Za-z0-9-]*\*?$", description="With `*` at its end, all that begin so.")
]
Prefix = Annotated[str, Field(pattern=r"^([A-Za-z0-9_{}-]+\*?/)*$", description="Of keys; braces hold parameters.")]
Verb = Literal["read", "write", "list", "delete"]


class OwnedTopic(Model):
    """A topic as its owner declares it: written at its home only, so that nothing loops."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9._{}-]+$")] = Field(
        description="In Kafka; words in braces are parameters of the environment."
    )
    home: str = Field(description="Site whose brokers it is written to; `own`: one at each site where the owner runs.")
    mirrors: tuple[str, ...] = Field(default=(), description="Sites that get a copy under the same name.")
    content: Literal["avro", "alert-packets", "arrivals", "registry-log", "sal"] = Field(
        description="What its records are; `avro` ones have a schema file named after the topic's role."
    )
    retention_hours: Annotated[int, Field(gt=0)] | None = Field(
        default=None, description="How long records are kept; without it the newest of each key, for ever."
    )
    compacted_after_hours: Annotated[int, Field(gt=0)] | None = Field(
        default=None, description="Where the newest of each key is kept: how long all the others are as well."
    )
    partitions: str = Field(min_length=10, description="What a partition means, and so what an order may be relied on.")
    arrivals_in: str | None = Field(
        default=None, description="Bucket of whose new objects the store at its home tells here."
    )


class DeviceTopics(Model):
    """Where the topics of a device are: its interface says which they are."""

    home: str = Field(description="Site whose brokers they are written to.")
    mirrors: tuple[str, ...] = Field(default=(), description="Sites that get a copy under the same names.")


class OwnedBucket(Model):
    """A bucket as its owner declares it."""

    sites: Literal["everywhere"] | tuple[str, ...] = Field(description="Whose stores have it.")


class OwnedDatabase(Model):
    """A database as its owner declares it."""

    site: str = Field(description="Whose server has it.")
    extensions: tuple[str, ...] = ()


class Store(Model):
    """What a principal may do with the objects of a bucket."""

    bucket: str
    may: tuple[Verb, ...] = Field(
        min_length=1,
        description="`list` is of the whole bucket; only to whom may do so is an object missing, to others forbidden.",
    )
    prefixes: tuple[Prefix, ...] = Field(default=("",), description="What the keys begin with.")
    sites: Literal["own"] | tuple[str, ...] = Field(default=OWN, description="At whose stores.")


class Port(Model):
    """A port that a principal serves."""

    port: int = Field(gt=0, lt=65536)
    to: Literal["callers", "everyone"] | tuple[Kebab, ...] = Field(
        description="`callers`: those whose contracts say that they call it; `everyone`: from anywhere; or by name."
    )


class ApiRight(Model):
    """What a workload may do at the API of its cluster, with objects of its own namespace."""

    group: str = Field(default="", description="API group; empty is the core.")
    resources: tuple[Annotated[str, Field(pattern=r"^[a-z]+(/[a-z]+)?$")], ...] = Field(min_length=1)
    verbs: tuple[Literal["get", "list", "watch", "create", "update", "patch", "delete"], ...] = Field(min_length=1)


class Volume(Model):
    """What a principal keeps on a disk of its node, whatever becomes of its pod."""

    path: Annotated[str, Field(pattern=r"^/")] = Field(description="Where its pod finds it.")
    because: str = Field(min_length=10, description="What would be lost with it.")


class Contract(Model):
    """All that one principal may touch."""

    name: Kebab
    about: str = Field(min_length=10)
    group: str | None = Field(
        default=None, description="Inventory group on whose hosts it runs; without it, it is a folder of k8s/."
    )
    stands_in_for: str | None = Field(
        default=None,
        description="What it plays, where that is no part of the facility; where it is real, it runs outside.",
    )
    topics: dict[Role, OwnedTopic] = Field(
        default={}, description="Topics that it owns; those of a device follow from it."
    )
    devices: dict[DeviceName, DeviceTopics] = Field(
        default={}, description="Devices that it is: it owns their topics, reads their commands and writes all else."
    )
    commands: dict[DeviceName, tuple[GroupName, ...]] = Field(
        default={}, description="Devices that it commands and watches, each with consumer groups."
    )
    publishes: tuple[Role, ...] = ()
    consumes: dict[Role, tuple[GroupName, ...]] = Field(
        default={}, description="Topics, each with its consumer groups."
    )
    follows: tuple[Kebab, ...] = Field(
        default=(),
        description="Topics that each site has for itself and that it also reads at the home of what is mirrored to its own.",
    )
    observes: tuple[GroupName, ...] = Field(default=(), description="Groups of others whose offsets it may read.")
    transactions: tuple[GroupName, ...] = Field(default=(), description="Transactional ids.")
    mirrors: bool = Field(
        default=False, description="Whether it copies to its site every topic that is mirrored there."
    )
    catalogues: bool = Field(
        default=False, description="Whether it knows the name of every topic, without any right to it."
    )
    buckets: dict[Kebab, OwnedBucket] = Field(default={}, description="Buckets that it owns.")
    stores: tuple[Store, ...] = Field(default=(), description="What it may do in which bucket.")
    databases: dict[Kebab, OwnedDatabase] = Field(default={}, description="Databases that it owns.")
    writes: tuple[Kebab, ...] = Field(default=(), description="Databases in which it may read, write and make tables.")
    reads: tuple[Kebab, ...] = Field(default=(), description="Databases that it may read.")
    volumes: dict[Kebab, Volume] = Field(default={}, description="By name.")
    serves: dict[Kebab, Port] = Field(default={}, description="Ports by name.")
    kubernetes: tuple[ApiRight, ...] = Field(
        default=(), description="Rights at the Kubernetes API; none, unless named."
    )
    calls: dict[Kebab, Kebab] = Field(
        default={}, description="Principals whose ports it calls: the port's name by theirs."
    )

    @property
    def streams(self) -> bool:
        """Whether it logs in to Kafka."""
        return bool(self.publishes or self.consumes or self.observes or self.mirrors)

    @property
    def groups(self) -> tuple[str, ...]:
        """All its consumer groups."""
        return tuple(dict.fromkeys(group for groups in self.consumes.values() for group in groups))


def overlap(one: str, other: str) -> bool:
    """Say whether two names, each perhaps ending in ``*``, can name the same thing."""
    return one == other or any(
        wide.endswith("*") and narrow.removesuffix("*").startswith(wide.removesuffix("*"))
        for wide, narrow in ((one, other), (other, one))
    )
