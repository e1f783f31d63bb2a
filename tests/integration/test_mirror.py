"""The real MirrorMaker between two brokers, with the role's configuration and program: one limit, and no mirror that only seems to live."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewTopic

from dpp.build.tools import tool
from dpp.model.declared import KAFKA_MESSAGE_BYTES
from dpp.model.environment import Environment
from dpp.model.principals import Principals
from ports import free_port
from unit.rendering.test_kafka_broker import PROGRAM, rendered
from workloads.common.sizes import largest

HUNG_SECONDS = 600.0
"""What takes so long hangs."""
HOST, SOURCE, TARGET = "svc01.ncsa", "summit", "ncsa"
SECRET = (".security.", ".sasl.", ".ssl.")
"""Settings of logins: brokers here have none."""
JAVA = ["java", "-Xmx320m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:+ExitOnOutOfMemoryError"]


class Broker:
    """A Kafka of one process, with the limit that brokers have."""

    def __init__(self, folder: Path, name: str) -> None:
        folder.mkdir()
        self.address = f"127.0.0.1:{free_port()}"
        controller = f"127.0.0.1:{free_port()}"
        properties = folder / "server.properties"
        properties.write_text(
            f"""process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{controller}
listeners=PLAINTEXT://{self.address},CONTROLLER://{controller}
advertised.listeners=PLAINTEXT://{self.address}
controller.listener.names=CONTROLLER
log.dirs={folder}/data
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
message.max.bytes={KAFKA_MESSAGE_BYTES}
"""
        )
        java, number = [*JAVA, "-cp", f"{tool('kafka').folder}/libs/*"], f"bWlycm9y{name[:6]:A<6}MDAwMDAwMQ"[:22]
        form = [*java, "kafka.tools.StorageTool", "format", "-t", number, "-c", str(properties)]
        subprocess.run(form, check=True, capture_output=True)
        with (folder / "log").open("wb") as log:
            command = [*java, "kafka.Kafka", str(properties)]
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | {"LOG_DIR": str(folder)})
        self.admin = AdminClient({"bootstrap.servers": self.address})
        until(self._answers, f"the broker of {name} answers")

    def _answers(self) -> bool:
        assert self.process.poll() is None
        try:
            return bool(self.admin.list_topics(timeout=2).brokers)
        except KafkaException:
            return False

    def topic(self, name: str, **config: str) -> None:
        self.admin.create_topics([NewTopic(name, 1, 1, config=config)])[name].result(60)

    def configure(self, topic: str, **config: str) -> None:
        changes = [
            ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET) for name, value in config.items()
        ]
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=changes)
        self.admin.incremental_alter_configs([resource])[resource].result(60)

    def write(self, topic: str, *values: bytes) -> None:
        """Write as workloads do."""
        options = {"message.max.bytes": KAFKA_MESSAGE_BYTES, "compression.type": "lz4", "linger.ms": 0}
        producer = Producer({"bootstrap.servers": self.address, **options})
        for value in values:
            producer.produce(topic, value)
        assert producer.flush(60) == 0

    def read(self, topic: str) -> list[bytes]:
        """Return what stands in a topic."""
        consumer = Consumer({"bootstrap.servers": self.address, "group.id": "test", "fetch.message.max.bytes": 2**24})
        where = TopicPartition(topic, 0, OFFSET_BEGINNING)
        _, end = consumer.get_watermark_offsets(where, 60)
        consumer.assign([where])
        values = list[bytes]()
        while len(values) < end:
            message = consumer.poll(60)
            assert message is not None
            assert message.error() is None, message.error()
            values.append(bytes(message.value() or b""))
        consumer.close()
        return values

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait until a condition holds; the time only ends what hangs."""
    deadline = time.monotonic() + HUNG_SECONDS
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.3)


class Mirror:
    """MirrorMaker as the role's unit runs it."""

    def __init__(self, folder: Path, source: Broker, target: Broker) -> None:
        self.log, self._number = folder / "mirror.log", 0
        addresses = {SOURCE: source.address, TARGET: target.address}
        lines = []
        for line in rendered("lab", HOST, "etc/kafka/mirror.properties.j2").splitlines():
            key = line.partition("=")[0]
            if any(word in key for word in SECRET):
                continue
            lines.append(f"{key}={addresses[key.split('.')[0]]}" if key.endswith(".bootstrap.servers") else line)
        properties, log = folder / "mirror.properties", folder / "log4j2.xml"
        properties.write_text("\n".join(lines) + "\n")
        log.write_text(rendered("lab", HOST, "etc/kafka/log4j2.xml.j2"))
        options = ["-cp", f"{tool('kafka').folder}/libs/*", f"-Dlog4j2.configurationFile={log}"]
        java = [*JAVA, *options, "org.apache.kafka.connect.mirror.MirrorMaker", str(properties)]
        self._command = [sys.executable, str(PROGRAM), *java]
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(self._command, stdout=output, stderr=output)

    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def end(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(HUNG_SECONDS)


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the passwords that the role's templates ask for away from a standing lab's."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def topic() -> str:
    return Principals.load(Environment.load("lab")).topics["forwarded"].name


@pytest.fixture
def brokers(tmp_path: Path) -> Iterator[tuple[Broker, Broker]]:
    if not tool("kafka").built:
        pytest.skip("this machine lacks kafka")
    source = Broker(tmp_path / SOURCE, SOURCE)
    try:
        target = Broker(tmp_path / TARGET, TARGET)
        yield source, target
        target.end()
    finally:
        source.end()


def test_what_one_broker_took_the_other_takes_and_a_mirror_that_fails_ends_and_goes_on(
    tmp_path: Path, brokers: tuple[Broker, Broker], topic: str
) -> None:
    source, target = brokers
    source.topic(topic)
    target.topic(topic)
    mirror = Mirror(tmp_path, source, target)
    whole = [os.urandom(largest(KAFKA_MESSAGE_BYTES)), b"small", bytes(largest(KAFKA_MESSAGE_BYTES)), b"last"]
    source.write(topic, *whole)
    try:
        mirror.start()
        until(lambda: target.read(topic) == whole or not mirror.alive(), "all is copied")
        assert target.read(topic) == whole, "the largest that a sender may send, whether it compresses or not"
        assert mirror.alive()

        target.configure(topic, **{"max.message.bytes": "1000000"})
        more = [b"before", os.urandom(2_000_000), b"behind"]
        source.write(topic, *more)
        assert mirror.process is not None
        assert mirror.process.wait(HUNG_SECONDS) == 1, "a mirror that copies nothing any more is no process"
        said = mirror.log.read_text(errors="replace")
        assert "RecordTooLargeException" in said
        assert "the mirror is ended because of this, and starts again" in said

        target.configure(topic, **{"max.message.bytes": str(KAFKA_MESSAGE_BYTES)})
        mirror.start()
        until(lambda: set(target.read(topic)) >= {*whole, *more} or not mirror.alive(), "nothing is lost")
        copied = target.read(topic)
        assert set(copied) == {*whole, *more}
        again = copied[copied.index(more[1]) :]
        assert again[-2:] == more[1:], "in order from where it failed, although what stood behind may have come before"
    finally:
        mirror.end()
