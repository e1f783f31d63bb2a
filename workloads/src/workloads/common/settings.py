"""Settings of a workload: `/etc/dpp/site.yml` (its contract, with names and addresses) and one file per secret.

Code knows topics, buckets, databases and services by the names of their roles. Whoever asks for one that its contract does
not name is refused here, at start; what gets round this is refused by the real system.

``DPP_SITE_FILE``, ``DPP_SECRETS`` and ``DPP_CA`` name other places; nothing else changes them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from workloads.common.errors import ContractError, NonRetriableError


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class KafkaCluster(_Strict):
    """One site's Kafka; `message_bytes` is its limit, that of its mirrors and of all of its clients."""

    bootstrap: str
    message_bytes: int
    protocol: Literal["SASL_SSL", "SASL_PLAINTEXT"] = "SASL_SSL"


class Topic(_Strict):
    """A topic of the contract: its name in Kafka, at which sites it is read and written, and in which groups.

    `followed_at` are other sites whose own topic of that name is read too. A name of a group that ends in ``*`` means all
    that begin so.
    """

    name: str
    read_at: str | None = None
    written_at: str | None = None
    followed_at: list[str] = []
    groups: list[str] = []


class ObjectStore(_Strict):
    """One site's S3 endpoint."""

    endpoint: str


Verb = Literal["read", "write", "list", "delete"]


class Grant(_Strict):
    """What may be done at a site with the objects of a bucket whose keys begin so."""

    bucket: str
    site: str
    prefix: str
    may: list[Verb]


class Database(_Strict):
    """A database of the contract, on a PostgreSQL server."""

    host: str
    port: int
    may: Literal["read", "write"]
    sslmode: Literal["verify-full", "disable"] = "verify-full"


class Detector(_Strict):
    """One sensor of the focal plane: its Butler id, its name and its offset from the boresight in detectors."""

    id: int
    name: str
    column: int
    row: int


def science_raft(raft: str = "R22", first: int = 90) -> list[Detector]:
    """Return the nine detectors of one raft, the central one by default."""
    return [
        Detector(id=first + 3 * row + column, name=f"{raft}_S{row}{column}", column=column - 1, row=row - 1)
        for row in range(3)
        for column in range(3)
    ]


class Camera(_Strict):
    """What the camera is made of: pixels along a side of a detector, and the seed of its hardware and of the static sky.

    `visits_in_flight` visits are worked on at once: as many workers wait for each detector, and `spare_workers` more wait
    for one of these to be lost. Nothing is expected of the
    `detectors_off`, and what comes of them all the same is archived and not processed.
    """

    size: int = 1024
    visits_in_flight: int = 1
    spare_workers: int = 1
    detectors_off: list[str] = []
    seed: int = 20160401
    detectors: list[Detector] = science_raft()


class Site(_Strict):
    """The contents of site.yml."""

    environment: str
    site: str
    principal: str
    kafka: dict[str, KafkaCluster] = {}
    topics: dict[str, Topic] = {}
    observes: list[str] = []
    transactions: list[str] = []
    catalogue: dict[str, str] = {}
    schema_ids: list[int] = []
    object_stores: dict[str, ObjectStore] = {}
    buckets: list[Grant] = []
    databases: dict[str, Database] = {}
    services: dict[str, str] = {}
    camera: Camera = Camera()

    def detector(self, name: str) -> Detector:
        """Return the detector called `name`.

        Raises
        ------
        NonRetriableError
            If the camera has none of that name.
        """
        for detector in self.camera.detectors:
            if detector.name == name:
                return detector
        known = ", ".join(detector.name for detector in self.camera.detectors)
        raise NonRetriableError(f"detector {name}: unknown; expected one of {known}")


class Settings:
    """What a workload knows about its surroundings.

    Parameters
    ----------
    site_file
        Path of site.yml.
    secrets
        Folder with one file per secret.
    authority
        File with the certificates of all sites' authorities.
    """

    def __init__(self, site_file: Path, secrets: Path, authority: Path) -> None:
        self._site_file = site_file
        self._secrets = secrets
        self.authority = authority

    @classmethod
    def load(cls) -> Settings:
        """Return the settings of this process."""
        return cls(
            Path(os.environ.get("DPP_SITE_FILE", "/etc/dpp/site.yml")),
            Path(os.environ.get("DPP_SECRETS", "/etc/dpp/secrets")),
            Path(os.environ.get("DPP_CA", "/etc/dpp/tls/ca.crt")),
        )

    @cached_property
    def site(self) -> Site:
        """The parsed and checked site.yml."""
        try:
            content: Any = yaml.safe_load(self._site_file.read_text())
            return Site.model_validate(content)
        except (OSError, yaml.YAMLError, ValidationError) as error:
            raise NonRetriableError(f"{self._site_file}: cannot be used: {error}") from error

    def secret(self, name: str) -> str:
        """Return the secret called `name`.

        Raises
        ------
        NonRetriableError
            If there is no such file.
        """
        path = self._secrets / name
        try:
            return path.read_text().strip()
        except OSError as error:
            raise NonRetriableError(f"secret {name}: {path} cannot be read ({error.strerror})") from error

    # -- the contract --------------------------------------------------------------------------------------------------

    def _refused(self, noun: str, name: str, found: str, known: Iterable[str]) -> ContractError:
        expected = f"one of {', '.join(sorted(set(known))) or 'none'}"
        return ContractError(f"{noun} {name}", found, expected, self.site.principal)

    def read_topic(self, role: str, site: str, group: str) -> str:
        """Return the name in Kafka of a topic that is read at `site` in a consumer group.

        Raises
        ------
        ContractError
            If the contract does not say so.
        """
        readable = {name for name, topic in self.site.topics.items() if topic.read_at == site}
        if role not in readable:
            raise self._refused("topic", role, f"not to be read at {site}", readable)
        topic = self.site.topics[role]
        if not _matches(group, topic.groups):
            raise self._refused("consumer group", group, f"none of its groups of topic {role}", topic.groups)
        return topic.name

    def written_topic(self, role: str, site: str) -> str:
        """Return the name in Kafka of a topic that is written at `site`; `ContractError` as in `read_topic`."""
        writable = {name for name, topic in self.site.topics.items() if topic.written_at == site}
        if role not in writable:
            raise self._refused("topic", role, f"not to be written at {site}", writable)
        return self.site.topics[role].name

    def require_transactions(self, name: str) -> None:
        """Refuse, by a `ContractError`, a transactional id that the contract does not name."""
        if not _matches(name, self.site.transactions):
            raise self._refused("transactional id", name, "none of its own", self.site.transactions)

    def require_bucket(self, bucket: str, site: str, verb: Verb | None = None, key: str | None = None) -> None:
        """Refuse, by a `ContractError`, a bucket at a site, or what is to be done in it to an object.

        ``list`` is of the whole bucket.
        """
        own = [one for one in self.site.buckets if (one.bucket, one.site) == (bucket, site)]
        if not own:
            raise self._refused("bucket", f"{site}:{bucket}", "none of its own", (f"{one.site}:{one.bucket}" for one in self.site.buckets))  # fmt: skip
        if verb is not None:
            able = [one for one in own if verb in one.may]
            if not any(verb == "list" or key is None or fnmatchcase(key, f"{one.prefix}*") for one in able):
                found = f"not to {verb}" if not able else f"key {key} not to {verb}"
                raise self._refused("bucket", f"{site}:{bucket}", found, (f"{'|'.join(one.may)} {one.prefix}*" for one in own))  # fmt: skip

    def database(self, name: str) -> Database:
        """Return where a database is; `ContractError` where the contract does not name it."""
        if name not in self.site.databases:
            raise self._refused("database", name, "none of its own", self.site.databases)
        return self.site.databases[name]

    def service(self, name: str) -> str:
        """Return the URL of a service that is called; `ContractError` where the contract does not name it."""
        if name not in self.site.services:
            raise self._refused("service", name, "not to be called", self.site.services)
        return self.site.services[name]

    # -- how clients connect -------------------------------------------------------------------------------------------

    def kafka_options(self, site: str) -> dict[str, Any]:
        """Return the connection options of librdkafka for the Kafka of `site`."""
        if site not in self.site.kafka:
            raise self._refused("Kafka of site", site, "none of its own", self.site.kafka)
        cluster = self.site.kafka[site]
        options: dict[str, Any] = {
            "bootstrap.servers": cluster.bootstrap,
            "security.protocol": cluster.protocol,
            "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.username": self.site.principal,
            "sasl.password": self.secret("kafka"),
        }
        return options | ({"ssl.ca.location": str(self.authority)} if cluster.protocol == "SASL_SSL" else {})

    def database_url(self, name: str) -> str:
        """Return the SQLAlchemy URL of a database without what differs between those who use it: that is in the environment.

        Repositories keep the URL. Users have names of their own, and authorities lie elsewhere on each host.
        """
        server = self.database(name)
        return f"postgresql+psycopg2://{server.host}:{server.port}/{name}?sslmode={server.sslmode}"

    def export_credentials(self) -> None:
        """Put into the environment what PostgreSQL and S3 clients of other people's libraries read from there."""
        if self.site.databases:
            os.environ["PGUSER"], os.environ["PGPASSWORD"] = self.site.principal, self.secret("postgresql")
            os.environ["PGSSLROOTCERT"] = str(self.authority)
        if self.site.site not in self.site.object_stores:
            return
        store = self.site.object_stores[self.site.site]
        os.environ["S3_ENDPOINT_URL"] = store.endpoint
        os.environ["AWS_ACCESS_KEY_ID"] = self.site.principal
        os.environ["AWS_SECRET_ACCESS_KEY"] = self.secret(f"s3-{self.site.site}")
        os.environ["AWS_DEFAULT_REGION"] = "us-east-1"
        os.environ["AWS_CONFIG_FILE"] = str(Path(__file__).with_name("aws.config"))
        os.environ["LSST_DISABLE_BUCKET_VALIDATION"] = "1"
        if store.endpoint.startswith("https"):
            os.environ["AWS_CA_BUNDLE"] = str(self.authority)


def _matches(name: str, patterns: Iterable[str]) -> bool:
    """Say whether a name is one of `patterns`, or begins as one that ends in ``*``."""
    return any(name == one or (one.endswith("*") and name.startswith(one[:-1])) for one in patterns)
