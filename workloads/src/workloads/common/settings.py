"""Settings of a workload: `/etc/dpp/site.yml` (what exists, where) and one file per secret.

``DPP_SITE_FILE``, ``DPP_SECRETS`` and ``DPP_CA`` name other places; nothing else changes them.
"""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from workloads.common.errors import NonRetriableError


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class KafkaCluster(_Strict):
    """One site's Kafka."""

    bootstrap: str
    protocol: Literal["SASL_SSL", "PLAINTEXT"] = "SASL_SSL"


class ObjectStore(_Strict):
    """One site's S3 endpoint."""

    endpoint: str


class Database(_Strict):
    """A PostgreSQL server."""

    host: str
    port: int = 5432
    sslmode: Literal["verify-full", "disable"] = "verify-full"
    user: str = "workloads"


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

    `visits_in_flight` visits are worked on at once: as many workers wait for each detector.
    """

    size: int = 1024
    visits_in_flight: int = 1
    seed: int = 20160401
    detectors: list[Detector] = science_raft()


class Site(_Strict):
    """The contents of site.yml."""

    environment: str
    site: str
    kafka: dict[str, KafkaCluster]
    object_stores: dict[str, ObjectStore]
    postgresql: Database
    schema_registry: str = "http://schema-registry:8081"
    camera_url: str = "http://camera:8080"
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

    def kafka_options(self, site: str) -> dict[str, Any]:
        """Return the connection options of librdkafka for the Kafka of `site`."""
        if site not in self.site.kafka:
            raise NonRetriableError(f"Kafka of site {site}: not declared; expected one of {', '.join(self.site.kafka)}")
        cluster = self.site.kafka[site]
        options: dict[str, Any] = {"bootstrap.servers": cluster.bootstrap, "security.protocol": cluster.protocol}
        if cluster.protocol == "SASL_SSL":
            options |= {
                "sasl.mechanism": "SCRAM-SHA-512",
                "sasl.username": "workloads",
                "sasl.password": self.secret("kafka-workloads"),
                "ssl.ca.location": str(self.authority),
            }
        return options

    def database_url(self, database: str) -> str:
        """Return the SQLAlchemy URL of a database, without its password (that is in the environment: `PGPASSWORD`)."""
        server = self.site.postgresql
        query = f"sslmode={server.sslmode}" + (f"&sslrootcert={self.authority}" if server.sslmode != "disable" else "")
        return f"postgresql+psycopg2://{server.user}@{server.host}:{server.port}/{database}?{query}"

    def export_credentials(self) -> None:
        """Put into the environment what PostgreSQL and S3 clients of other people's libraries read from there."""
        os.environ["PGPASSWORD"] = self.secret("postgresql-workloads")
        store = self.site.object_stores[self.site.site]
        os.environ["S3_ENDPOINT_URL"] = store.endpoint
        os.environ["AWS_ACCESS_KEY_ID"] = "workloads"
        os.environ["AWS_SECRET_ACCESS_KEY"] = self.secret(f"s3-{self.site.site}")
        os.environ["AWS_DEFAULT_REGION"] = "us-east-1"
        os.environ["AWS_CONFIG_FILE"] = str(Path(__file__).with_name("aws.config"))
        os.environ["LSST_DISABLE_BUCKET_VALIDATION"] = "1"
        if store.endpoint.startswith("https"):
            os.environ["AWS_CA_BUNDLE"] = str(self.authority)
