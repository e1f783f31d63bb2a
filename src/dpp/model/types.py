"""The nouns of an inventory: what each ``dpp_`` key may say, one frozen model per noun.

Rates are in Mbit/s, delays one-way in milliseconds, capacities in GiB, as the field names say.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Annotated, Final, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from dpp.model.names import kebab

Kebab = Annotated[str, Field(pattern=r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$", max_length=40)]
"""A name that becomes DNS, Kubernetes and stack names."""
HostName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9]*[0-9]{2,3}\.[a-z][a-z0-9]*$", max_length=40)]
"""``<function><nn>.<site>``."""
Interface = Annotated[str, Field(pattern=r"^[a-z][a-z0-9]{0,14}$")]
SCIENCE_RAFTS: Final = tuple(
    f"R{row}{column}" for row in range(5) for column in range(5) if f"{row}{column}" not in ("00", "04", "40", "44")
)
"""Of a 5 x 5 grid the corners carry guiders and wavefront sensors."""
FIRST_ASN: Final = 64512
"""First of the private system numbers (RFC 6996)."""
SCHEMA_IDS: Final = 2_000_000
"""Ids of schemas that each site may give: with 1,023 system numbers, all are below 2**31. Those below are declared."""
Positive = Annotated[int, Field(gt=0)]


class Model(BaseModel):
    """Strict and frozen: unknown keys are refused, numbers are not guessed from text."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Observing(Model):
    """Where a telescope stands, and when it observes: nothing there is changed then."""

    latitude_degrees: float = Field(ge=-90, le=90, description="Geodetic (WGS 84), north positive.")
    longitude_degrees: float = Field(ge=-180, le=180, description="East positive.")
    height_metres: float = Field(ge=-500, le=9000)
    sun_below_degrees: float = Field(
        ge=-18, le=0, description="It observes while the centre of the sun is lower: evening to morning twilight."
    )


class Site(Model):
    """A place that keeps running when its links are cut."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9]{0,11}$", description="Last part of the names of its hosts.")]
    title: str = Field(description="Name for people.")
    asn: int = Field(ge=FIRST_ASN, le=65534, description="Private BGP autonomous system number.")
    time_zone: str = Field(description="IANA zone of the people there; hosts themselves run on UTC.")
    transit_for: tuple[str, ...] = Field(
        default=(), description="Neighbouring sites whose traffic with the rest of the observatory this one carries."
    )
    observing: Observing | None = Field(default=None, description="Of a site with a telescope.")

    @property
    def schema_ids(self) -> tuple[int, int]:
        """The first and the last id that its schema registry gives to schemas of others: no other site gives one of these.

        Records are mirrored with the id of the site that they come from. Sites are told apart by their system number.
        """
        first = SCHEMA_IDS * (1 + self.asn - FIRST_ASN)
        return first, first + SCHEMA_IDS - 1


class Routing(Model):
    """How border routers find out that a path is dead, and what they are."""

    bfd_interval_ms: int = Field(default=300, ge=10, le=60000, description="Between two signs of life, each way.")
    bfd_multiplier: int = Field(default=3, ge=2, le=255, description="Signs of life that may be missed.")
    platform: str = Field(default="frr", description="What routers are, unless `platforms` says otherwise.")
    platforms: dict[str, str] = Field(default={}, description="By host.")


class Provisioning(Model):
    """Where hosts come from, and whether stacks of the environment may be applied, by whom, or only previewed."""

    hosts: Literal["made", "found"] = Field(
        default="found", description="made: machines and circuits of this one machine; found: reached, or refused."
    )
    apply: bool = True
    because: str = Field(default="", description="What keeps it from being applied.")
    changes: Literal["free", "authorised"] = Field(
        default="free",
        description="authorised: only `dpp change apply` of an authorised change, or breaking the glass.",
    )


class Retired(Model):
    """What no contract owns any more and whose data may go, by its name in Kafka, the stores and the database servers.

    Whatever else is no longer declared stays with its data.
    """

    topics: tuple[str, ...] = ()
    buckets: tuple[str, ...] = ()
    databases: tuple[str, ...] = ()


class Network(Model):
    """A local network of a site."""

    name: Kebab
    site: str
    purpose: Literal["hosts"] = Field(description="What is attached to it.")
    prefix: IPv4Network
    gateway: IPv4Address = Field(description="Held by the site's border router, by VRRP where there are two.")


class CircuitEnd(Model):
    """Where a circuit is attached."""

    host: HostName = Field(description="A border router.")
    interface: Interface
    address: IPv4Address


class Circuit(Model):
    """A wide-area point-to-point link."""

    name: Kebab
    path: Literal["primary", "secondary"] = Field(description="Primary carries traffic while it is up.")
    rate_mbps: Positive = Field(description="Production rate in Mbit/s; the lab scales it by dpp_circuit_scale.")
    delay_ms: float = Field(ge=0, le=1000, description="One way, in milliseconds.")
    loss_percent: float = Field(ge=0, lt=100, description="Of packets, each way.")
    prefix: IPv4Network
    a: CircuitEnd
    b: CircuitEnd

    def end(self, host: str) -> tuple[CircuitEnd, CircuitEnd]:
        """Return the end at `host` and the far end; ``KeyError`` where the circuit does not touch it."""
        for near, far in ((self.a, self.b), (self.b, self.a)):
            if near.host == host:
                return near, far
        raise KeyError(host)


class Cluster(Model):
    """A Kubernetes cluster."""

    name: Kebab
    site: str
    endpoint: HostName = Field(description="Host whose port 6443 serves the API.")
    control_plane: tuple[HostName, ...] = Field(min_length=1)
    nodes: tuple[HostName, ...] = Field(
        description="Workers; where there are none the control plane carries workloads."
    )
    pod_prefix: IPv4Network
    service_prefix: IPv4Network

    @property
    def hosts(self) -> tuple[str, ...]:
        """Control plane and workers."""
        return (*self.control_plane, *self.nodes)


class Pool(Model):
    """A class of Kubernetes nodes, bought and sized for one purpose; its hosts are the inventory group of its name."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*_pool$")]
    purpose: str
    cores: Positive = Field(description="Per node.")
    memory_gib: Positive = Field(description="Per node.")
    prompt_workers: int = Field(ge=0, description="Warm prompt processing workers (one detector each) per node.")


class Detector(NamedTuple):
    """A science sensor: its id and name, and its offset from the boresight counted in detectors."""

    id: int
    name: str
    column: int
    row: int


class Camera(Model):
    """The detectors that the facility processes, and how fast they come."""

    instrument: str
    component: str = Field(description="Its name among the observatory's components, which topics are named after.")
    rafts: tuple[Annotated[str, Field(pattern="^R(0[1-3]|[1-3][0-4]|4[1-3])$")], ...] = Field(
        min_length=1, description="Science rafts of nine detectors each."
    )
    detectors_off: tuple[Annotated[str, Field(pattern="^R[0-9]{2}_S[0-9]{2}$")], ...] = Field(
        default=(), description="Detectors that are switched off or masked: nothing of them is expected or processed."
    )
    detector_pixels: Positive = Field(description="Along each side of a (square) detector.")
    visit_seconds: float = Field(gt=0, description="Shortest time from one visit to the next, in seconds.")
    visits_in_flight: Positive = Field(description="Visits that prompt processing must hold at once to keep up.")
    spare_workers: Positive = Field(
        description="Warm prompt workers beyond one for each detector and visit in flight: they take over from those that are lost."
    )

    @property
    def detectors(self) -> tuple[Detector, ...]:
        """The science detectors, numbered and named as the camera numbers and names them."""
        return tuple(_detector(raft, place) for raft in self.rafts for place in range(9))


def _detector(raft: str, place: int) -> Detector:
    row, column = divmod(place, 3)
    return Detector(
        id=9 * SCIENCE_RAFTS.index(raft) + place,
        name=f"{raft}_S{row}{column}",
        column=3 * (int(raft[2]) - 2) + column - 1,
        row=3 * (int(raft[1]) - 2) + row - 1,
    )


class StorageSite(Model):
    """The object store of a site."""

    site: str
    hosts: tuple[HostName, ...] = Field(min_length=1, description="The first one's name is the endpoint.")
    port: int = Field(gt=0, lt=65536)
    capacity_gib: Positive = Field(description="Usable, over all hosts, in GiB.")
    nights: Positive | None = Field(
        default=None, description="Goal: nights of raw data that fit while the links are cut."
    )

    @property
    def endpoint(self) -> str:
        """URL of the S3 service."""
        return f"https://{self.hosts[0]}:{self.port}"


class TopicFigures(Model):
    """How large a topic is here; a contract says everything else of it."""

    role: str = Field(description="Its name in the contracts.")
    partitions: Positive
    retention_hours: Positive | None = Field(default=None, description="Where it is not what the contract says.")


class VolumeFigures(Model):
    """Where a volume lies, and how large it is; a contract says everything else of it."""

    name: Kebab = Field(description="`<workload>-<volume>`.")
    node: HostName = Field(description="Node that has it, and so the pod.")
    gib: Positive


class Outside(Model):
    """A workload that the facility does not run, but deals with."""

    name: Kebab = Field(description="Its name in the contracts.")
    site: str = Field(description="Site at which it comes in.")
    address: IPv4Address | None = Field(default=None, description="Where its ports are, if it is called.")


class Host(Model):
    """A machine or router."""

    name: HostName
    site: str
    address: IPv4Address
    groups: frozenset[str] = Field(description="Inventory groups; those under `functions` are its roles.")

    @property
    def slug(self) -> str:
        """The name as one DNS label: ``svc01-summit``."""
        return kebab(self.name.replace(".", "-"))


class Attachment(Model):
    """How a host is attached to its local network."""

    network: Network
    interface: Interface
    address: IPv4Interface
    gateway: IPv4Address
