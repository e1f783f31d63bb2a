"""For each service of the lab: what runs it, and the smallest proof through its own interface that it does its work."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy
from confluent_kafka import KafkaException

from dpp.adapters.vantage import Vantage
from dpp.operations.data_plane import write_settings
from lab.observatory import RETURN_SECONDS, Observatory
from workloads.broker.groups import GROUPS
from workloads.common.avro import Codec
from workloads.common.errors import WorkloadError
from workloads.common.kafka import Bus, Receiver
from workloads.common.ledger import TOPIC as LEDGER
from workloads.common.ledger import Ledger, Step, Subject
from workloads.common.names import ExposureName
from workloads.common.s3 import MissingObjectError, Store
from workloads.common.schemas import topics
from workloads.common.settings import Settings
from workloads.common.slots import slots

ARCHIVE, SUMMIT, BASE = "ncsa", "summit", "base"
BUCKET = "raw"
DAY = 20160101
"""Observing day of everything that is asked here: before the camera was built, so no night has it."""
PATIENCE_SECONDS = 45.0
"""How long an answer may take; the slowest question waits for a sweep that comes every 30 s."""


class UnansweredError(Exception):
    """A service did not do what was asked."""


# -- what runs a service -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Deployed:
    """A Deployment of a cluster."""

    cluster: str
    name: str

    @contextmanager
    def absent(self, observatory: Observatory) -> Iterator[None]:
        """Scale it to zero, and back to what it was."""
        replicas = self._field(observatory, "{.spec.replicas}")
        self._scale(observatory, "0")
        try:
            pods = ("get", "pods", f"--selector=app.kubernetes.io/name={self.name}", "--output=name")
            _until(lambda: not observatory.kubectl(self.cluster, *pods).stdout.strip(), f"no pod of {self.name}")
            yield
        finally:
            self._scale(observatory, replicas)
            _until(lambda: self._field(observatory, "{.status.readyReplicas}") == replicas, f"{self.name} is ready")

    def _scale(self, observatory: Observatory, replicas: str) -> None:
        done = observatory.kubectl(self.cluster, "scale", f"deployment/{self.name}", f"--replicas={replicas}")
        assert done.returncode == 0, done.stderr

    def _field(self, observatory: Observatory, path: str) -> str:
        done = observatory.kubectl(self.cluster, "get", f"deployment/{self.name}", f"--output=jsonpath={path}")
        assert done.returncode == 0, done.stderr
        return done.stdout


@dataclass(frozen=True)
class Unit:
    """A systemd unit of a host that a role has configured."""

    role: str
    site: str
    name: str

    @contextmanager
    def absent(self, observatory: Observatory) -> Iterator[None]:
        """Stop it, and start it again."""
        host = observatory.environment.hosts_of(self.site, self.role)[0].name
        observatory.on(host, f"systemctl stop {self.name}")
        try:
            yield
        finally:
            observatory.on(host, f"systemctl start {self.name}")


def _until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + RETURN_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"not within {RETURN_SECONDS:g} s: {what}"
        time.sleep(1.0)


# -- what is asked of it -----------------------------------------------------------------------------------------------


class _DeclaredSchemas:
    """A registry's answers without one: the project's schemas have declared ids, the same in every registry."""

    def latest(self, subject: str) -> int:
        return topics()[subject.removesuffix("-value")].id

    def schema(self, schema_id: int) -> dict[str, Any]:
        return next(one.definition for one in topics().values() if one.id == schema_id)


class DataPlane:
    """Asks services as their users do, from the archive's operations host.

    Parameters
    ----------
    observatory
        The standing lab.
    folder
        Where settings and credentials of workloads are written.
    """

    def __init__(self, observatory: Observatory, folder: Path) -> None:
        self._observatory = observatory
        write_settings(observatory.environment, ARCHIVE, observatory.folders, folder)
        self._settings = Settings(folder / "site.yml", folder / "secrets", folder / "ca.crt")
        self._vantage = Vantage.at(ARCHIVE, "lab", observatory.folders)

    def ask(self, question: Callable[[DataPlane, int], None], number: int) -> None:
        """Ask once; the same number is the same question.

        Raises
        ------
        UnansweredError
            If no answer came, or an error.
        """
        try:
            self._vantage.run(question, self, number)
        except (WorkloadError, KafkaException, sqlalchemy.exc.OperationalError) as error:
            raise UnansweredError(str(error)) from error

    def ask_again(self, question: Callable[[DataPlane, int], None], number: int) -> None:
        """Ask until it is answered, while what was stopped comes back; errors as in `ask`."""
        deadline = time.monotonic() + RETURN_SECONDS
        while time.monotonic() < deadline:
            with suppress(UnansweredError):
                return self.ask(question, number)
            time.sleep(1.0)
        return self.ask(question, number)

    def tidy(self) -> None:
        """Delete every object that was made by asking."""
        self._vantage.run(self._delete_objects)

    # -- one question per service --------------------------------------------------------------------------------------

    def schemas(self, _number: int) -> None:
        """Look a schema up by its subject and by its id."""
        wanted = topics()[LEDGER]
        latest = self._http("schema-registry:8081", f"subjects/{wanted.subject}/versions/latest")
        found = self._http("schema-registry:8081", f"schemas/ids/{latest['id']}")
        assert latest["id"] == wanted.id, latest
        assert json.loads(found["schema"])["name"] == wanted.definition["name"]

    def streams(self, _number: int) -> None:
        """Fetch the newest alert schema and how far every broker's group has read."""
        newest = list(self._http("alert-distribution:8080", "schemas"))[-1]
        assert self._http("alert-distribution:8080", f"schemas/{newest}")["name"].endswith("alert")
        if set(self._http("alert-distribution:8080", "streams")["lag"]) != set(GROUPS):
            raise UnansweredError("not every group's lag is known yet")

    def ingest(self, number: int) -> None:
        """Deliver a broken raw file: it must be put aside, with the reason beside it."""
        store = Store(self._settings, ARCHIVE)
        key = ExposureName(DAY, number).key(self._settings.site.camera.detectors[0].name)
        reason = f"quarantine/{key}.reason.json"
        if store.digest(BUCKET, reason) is None:
            store.put(BUCKET, key, b"no FITS file")
            _answer(lambda: store.digest(BUCKET, reason) is not None, f"a reason at {reason}")
        assert json.loads(store.get(BUCKET, reason))["key"] == key

    def forward(self, number: int) -> None:
        """Store an object at the summit: it must arrive at the base and at the archive, with its digest."""
        source = Store(self._settings, SUMMIT)
        targets = [Store(self._settings, site) for site in (BASE, ARCHIVE)]
        key = ExposureName(DAY, number).expected_sensors_key
        digest = source.put(BUCKET, key, json.dumps({"asked": number}).encode())
        _answer(lambda: all(store.digest(BUCKET, key) == digest for store in targets), f"{key} at both sites")

    def process(self, number: int) -> None:
        """Announce a raw image that no store has: its worker must say in the ledger that it has failed, and why."""
        bus, exposure = self._bus(), ExposureName(DAY, number)
        slot = next(one for one in slots(self._settings.site.camera) if one.lane == 0)
        record = {
            "obsId": exposure.obs_id, "exposure": exposure.exposure_id, "detector": slot.detector.id, "detectorName": slot.detector.name,
            "groupId": f"asked-{number}", "uri": f"s3://{BUCKET}/{exposure.key(slot.detector.name)}", "sha256": "0" * 64, "size": 0,
            "endOfReadout": 0.0, "ingested": 0.0,
        }  # fmt: skip
        receiver, sender = self._ledger(), bus.sender()
        try:
            bus.publish(sender, "dpp.raw.ingested", record, key=exposure.obs_id, partition=slot.partition)
            sender.flush()
            _stamped(receiver, exposure.obs_id, Step.FAILED)
        finally:
            receiver.close()

    def publish(self, number: int) -> None:
        """Write a record to a topic and read it back."""
        bus, obs_id = self._bus(), ExposureName(DAY, number).obs_id
        receiver, sender = self._ledger(), bus.sender()
        try:
            Ledger(bus, "tests", sender).stamp(Step.LATE, Subject(obs_id), reason="asked by a test")
            sender.flush()
            _stamped(receiver, obs_id, Step.LATE)
        finally:
            receiver.close()

    def store(self, number: int) -> None:
        """Store an object and read it back."""
        store, key, data = Store(self._settings, BASE), f"LSSTCam/{DAY}/asked-{number}", str(number).encode()
        store.put(BUCKET, key, data)
        assert store.get(BUCKET, key) == data

    def query(self, _number: int) -> None:
        """Count the instruments that the Butler knows."""
        self._settings.export_credentials()
        engine = sqlalchemy.create_engine(
            self._settings.database_url("butler"), poolclass=sqlalchemy.NullPool, connect_args={"connect_timeout": 10}
        )
        with engine.connect() as connection:
            assert connection.execute(sqlalchemy.text("SELECT count(*) FROM instrument")).scalar()

    # -- ways ----------------------------------------------------------------------------------------------------------

    def _http(self, service: str, path: str) -> Any:
        """Get a path of a service of the archive's cluster, by way of its API server."""
        raw = f"/api/v1/namespaces/workloads/services/{service}/proxy/{path}"
        done = self._observatory.kubectl(ARCHIVE, "get", f"--raw={raw}")
        if done.returncode:
            raise UnansweredError(f"{service}/{path}: {done.stderr.strip()}")
        return json.loads(done.stdout)

    def _bus(self) -> Bus:
        bus = Bus(self._settings)
        bus.codec = Codec(_DeclaredSchemas())  # type: ignore[arg-type]
        return bus

    def _ledger(self) -> Receiver:
        """Return a reader of what will be stamped from now on."""
        group = f"night-report-asked-{time.time_ns()}"
        return Receiver(self._settings, ARCHIVE, group, partitions=[(LEDGER, 0)], start="latest")

    def _delete_objects(self) -> None:
        for site in (SUMMIT, BASE, ARCHIVE):
            store = Store(self._settings, site)
            for prefix in ("", "quarantine/"):
                for item in list(store.list(BUCKET, f"{prefix}LSSTCam/{DAY}/")):
                    with suppress(MissingObjectError):
                        store.delete(BUCKET, item.key)


def _answer(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise UnansweredError(f"not within {PATIENCE_SECONDS:g} s: {what}")
        time.sleep(0.5)


def _stamped(receiver: Receiver, obs_id: str, step: Step) -> None:
    codec = Codec(_DeclaredSchemas())  # type: ignore[arg-type]

    def seen() -> bool:
        records = [codec.decode(message.value) for message in receiver.receive(timeout=0.5)]
        return any(record["obsId"] == obs_id and record["step"] == step for record in records)

    _answer(seen, f"{obs_id} {step} in the ledger")


@dataclass(frozen=True)
class Proof:
    """What must be there for a service to work, and the question that shows whether it does."""

    workload: Deployed | Unit
    question: Callable[[DataPlane, int], None]


PROOFS = {
    "schema-registry": Proof(Deployed(ARCHIVE, "schema-registry"), DataPlane.schemas),
    "alert-distribution": Proof(Deployed(ARCHIVE, "alert-distribution"), DataPlane.streams),
    "data-backbone": Proof(Deployed(ARCHIVE, "data-backbone"), DataPlane.ingest),
    "main-camera-archiving": Proof(Deployed(SUMMIT, "forwarder"), DataPlane.forward),
    "main-camera-prompt-processing": Proof(Deployed(ARCHIVE, "prompt-processing"), DataPlane.process),
    "object-storage": Proof(Unit("object_store", BASE, "object-store"), DataPlane.store),
    "relational-databases": Proof(Unit("postgresql", ARCHIVE, "postgresql@15-main"), DataPlane.query),
    "event-streaming": Proof(Unit("kafka_broker", ARCHIVE, "kafka"), DataPlane.publish),
}
"""By service, those last whose absence disturbs others."""
