"""The data plane on loopback: real Kafka, PostgreSQL and object stores as plain processes, with the workloads beside them.

Random ports, one temporary folder, nothing left behind. Kafka and versitygw are the pinned tools of the cache.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import boto3
import psutil
import yaml
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from dpp.build.tools import tool
from dpp.model.environment import Environment
from dpp.model.folders import REPOSITORY
from dpp.model.principals import Principals
from ports import free_port

SITES = ("summit", "base", "ncsa")
_POSTGRES: Any = {"user": "postgres", "group": "postgres", "extra_groups": []}
"""PostgreSQL refuses to be root's."""
HUNG_SECONDS = 1800.0
"""What takes so long hangs: ten times the usual, on a machine that is busy with others as well."""


def missing(*tools: str) -> str:
    """Say what this machine lacks to run the miniature, or PostgreSQL and some tools alone; empty if nothing."""
    lacks = [name for name in tools or ("kafka", "versitygw") if not tool(name).built]
    if not list(Path("/usr/lib/postgresql").glob("*/bin/initdb")):
        lacks.append("postgresql")
    if os.geteuid() != 0:
        lacks.append("root (PostgreSQL runs as its own user)")
    return ", ".join(lacks)


class Miniature:
    """Kafka, PostgreSQL, three object stores and the workloads that a test starts.

    Parameters
    ----------
    folder
        Where everything is kept; world-traversable, because PostgreSQL runs as its own user.
    camera
        Settings of the camera where they differ from the lab's.
    """

    def __init__(self, folder: Path, camera: dict[str, Any] | None = None) -> None:
        self.folder = folder
        self.camera = camera or {"size": 512}
        folder.chmod(0o755)
        self.kafka_port, self.database_port, self.registry_port = free_port(), free_port(), free_port()
        self.camera_port = free_port()
        self.store_ports = {site: free_port() for site in SITES}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._launched: dict[str, tuple[list[str], Mapping[str, str], dict[str, Any]]] = {}
        self.site_files = {site: folder / f"site-{site}.yml" for site in SITES}
        (folder / "logs").mkdir()
        self._write_settings()

    # -- the surroundings ------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Bring Kafka, PostgreSQL and the stores up and make topics, buckets and databases."""
        self._start_kafka()
        self.start_database()
        self.wait_port(self.kafka_port)
        self._make_topics()
        for site in SITES:
            self.start_store(site)
        for site, port in self.store_ports.items():
            self.wait_port(port)
            for bucket in ("raw", "butler", "alerts") if site == "ncsa" else ("raw",):
                self.s3(site).create_bucket(Bucket=bucket)

    def stop(self) -> None:
        """End everything, workloads first; what holds data at once, as none of it is kept."""
        forked = [
            child
            for process in self._processes.values()
            if process.poll() is None
            for child in psutil.Process(process.pid).children(recursive=True)
        ]
        for name in reversed(list(self._processes)):
            with suppress(subprocess.TimeoutExpired):
                self.end(name, signal.SIGQUIT if name == "postgresql" else signal.SIGTERM)
        for child in forked:  # of what was told to end while it still prepared the night
            with suppress(psutil.NoSuchProcess):
                child.kill()

    def _write_settings(self) -> None:
        secrets = self.folder / "secrets"
        secrets.mkdir()
        for name in ("kafka-workloads", "postgresql-workloads", *(f"s3-{site}" for site in SITES)):
            (secrets / name).write_text("miniature-secret\n")
        for site in SITES:
            content: dict[str, Any] = {
                "environment": "miniature",
                "site": site,
                "kafka": {
                    home: {"bootstrap": f"127.0.0.1:{self.kafka_port}", "protocol": "PLAINTEXT"}
                    for home in ("summit", "ncsa")
                },
                "object_stores": {
                    name: {"endpoint": f"http://127.0.0.1:{port}"} for name, port in self.store_ports.items()
                },
                "postgresql": {"host": "127.0.0.1", "port": self.database_port, "sslmode": "disable"},
                "schema_registry": f"http://127.0.0.1:{self.registry_port}",
                "camera_url": f"http://127.0.0.1:{self.camera_port}",
                "camera": self.camera,
            }
            self.site_files[site].write_text(yaml.safe_dump(content))

    def _start_kafka(self) -> None:
        home, controller = self.folder / "kafka", free_port()
        home.mkdir()
        jars = f"{tool('kafka').folder}/libs/*"
        properties = home / "server.properties"
        properties.write_text(
            f"""process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{self.kafka_port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{self.kafka_port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={home}/data
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
default.replication.factor=1
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
message.max.bytes=8000000
offsets.topic.num.partitions=4
transaction.state.log.num.partitions=4
"""
        )
        java = ["java", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", jars]
        format_log = [*java, "kafka.tools.StorageTool", "format", "-t", "bWluaWF0dXJlLWthZmthMQ", "-c", str(properties)]
        subprocess.run(format_log, check=True, capture_output=True)
        self._launch("kafka", [*java, "kafka.Kafka", str(properties)], os.environ | {"LOG_DIR": str(home)})

    def start_database(self) -> None:
        """Bring PostgreSQL up, with the databases of the workloads."""
        binaries = max(Path("/usr/lib/postgresql").glob("*/bin"))
        home = self.folder / "postgresql"
        home.mkdir()
        shutil.chown(home, "postgres", "postgres")
        initialize = [str(binaries / "initdb"), "-D", str(home / "data"), "-A", "trust", "--no-sync"]
        subprocess.run(initialize, check=True, capture_output=True, **_POSTGRES)
        options = ["-p", str(self.database_port), "-h", "127.0.0.1", "-k", str(home), "-c", "fsync=off"]
        self._launch(
            "postgresql", [str(binaries / "postgres"), "-D", str(home / "data"), *options], os.environ, **_POSTGRES
        )
        self.wait_port(self.database_port)
        self._make_databases()

    @contextmanager
    def away(self, name: str) -> Iterator[None]:
        """Kill Kafka, the database or a store with all that it forked; afterwards it starts again on what it left."""
        process = self._processes[name]
        process.send_signal(signal.SIGSTOP)  # what is stopped forks no more
        for child in psutil.Process(process.pid).children(recursive=True):
            child.kill()
        process.kill()
        process.wait()
        try:
            yield
        finally:
            self._start_again(name)

    @contextmanager
    def restarting(self, *names: str) -> Iterator[None]:
        """Start these workloads again whenever they end by themselves, as a cluster does."""
        over = threading.Event()

        def watch() -> None:
            while not over.wait(0.5):
                for name in names:
                    if self._processes[name].poll() is not None:
                        self._start_again(name)

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join()

    def start_store(self, site: str) -> None:
        """Start the object store of a site, with what it held before."""
        home = self.folder / f"store-{site}"
        for name in ("data", "meta"):
            (home / name).mkdir(parents=True, exist_ok=True)
        command = [
            str(tool("versitygw").folder / "bin/versitygw"),
            "--port",
            f"127.0.0.1:{self.store_ports[site]}",
            "--quiet",
        ]
        command += ["--access", "workloads", "--secret", "miniature-secret", "--keep-alive"]
        if site == "ncsa":
            command += ["--event-kafka-url", f"127.0.0.1:{self.kafka_port}", "--event-kafka-topic", "dpp.raw.arrivals"]
        self._launch(
            f"store-{site}", [*command, "posix", "--sidecar", str(home / "meta"), str(home / "data")], os.environ
        )

    def _make_topics(self) -> None:
        admin = AdminClient({"bootstrap.servers": f"127.0.0.1:{self.kafka_port}"})
        declared = Principals.load(Environment.load("lab")).topics.values()
        topics = [NewTopic(topic.name, topic.partitions, 1) for topic in declared]
        for future in admin.create_topics(topics).values():
            future.result(timeout=60)

    def _make_databases(self) -> None:
        psql = [
            "psql",
            "-h",
            "127.0.0.1",
            "-p",
            str(self.database_port),
            "-U",
            "postgres",
            "-v",
            "ON_ERROR_STOP=1",
            "-q",
        ]
        statements = [
            "CREATE ROLE workloads LOGIN SUPERUSER",
            "CREATE DATABASE butler OWNER workloads",
            "CREATE DATABASE apdb OWNER workloads",
        ]
        for statement in statements:
            subprocess.run([*psql, "-c", statement], check=True, capture_output=True)
        subprocess.run([*psql, "-d", "butler", "-c", "CREATE EXTENSION btree_gist"], check=True, capture_output=True)

    # -- the workloads ---------------------------------------------------------------------------------------------

    def environment(self, site: str, **extra: str) -> dict[str, str]:
        """Return the environment of a workload at `site`."""
        return (
            os.environ
            | {
                "DPP_SITE_FILE": str(self.site_files[site]),
                "DPP_SECRETS": str(self.folder / "secrets"),
                "DPP_CA": str(self.folder / "no-authority"),
                "DPP_HEALTH_PORT": "0",
                "DPP_DATA": str(self.folder / "data" / site),
                "PYTHONPATH": str(REPOSITORY / "workloads/src"),
                "OMP_NUM_THREADS": "1",
            }
            | extra
        )

    def workload(
        self, service: str, site: str, *arguments: str, name: str = "", **extra: str
    ) -> subprocess.Popen[bytes]:
        """Start ``python -m workloads.SERVICE`` at `site`."""
        command = [sys.executable, "-m", f"workloads.{service}", *arguments]
        return self._launch(name or f"{service}-{site}", command, self.environment(site, **extra))

    def run(self, service: str, site: str, *arguments: str, **extra: str) -> None:
        """Run a workload to its end; raise with the end of its log if it fails."""
        name = f"{service}-{site}"
        process = self.workload(service, site, *arguments, **extra)
        code = process.wait(HUNG_SECONDS)
        self._processes.pop(name)
        if code:
            raise AssertionError(f"{name} ended with {code}:\n{self.log(name)[-3000:]}")

    def registry(self) -> None:
        """Start the schema registry and wait until it answers."""
        self.workload("schema_registry", "summit", PORT=str(self.registry_port))
        self.wait_port(self.registry_port)

    def log(self, name: str) -> str:
        """Return what a process wrote."""
        return (self.folder / "logs" / f"{name}.log").read_text(errors="replace")

    def ends(self, topic: str) -> dict[int, int]:
        """Return the offset after the last message of each partition of a topic."""
        consumer = self._consumer("tests")
        partitions = consumer.list_topics(topic, timeout=60).topics[topic].partitions
        found = {number: consumer.get_watermark_offsets(TopicPartition(topic, number), 60)[1] for number in partitions}
        consumer.close()
        return found

    def read_to_the_end(self, group: str, topic: str) -> bool:
        """Tell whether a group has committed that it is done with every message of a topic."""
        consumer = self._consumer(group)
        places = consumer.committed([TopicPartition(topic, number) for number in self.ends(topic)], 60)
        for place in places:
            place.offset = place.offset if place.offset >= 0 else OFFSET_BEGINNING
        consumer.assign(places)
        seen = [consumer.poll(60) for _ in places]
        consumer.close()
        return all(message is not None and message.error() is not None for message in seen)  # no message: its end

    def _consumer(self, group: str) -> Consumer:
        options = {"enable.partition.eof": True, "isolation.level": "read_committed", "enable.auto.commit": False}
        return Consumer({"bootstrap.servers": f"127.0.0.1:{self.kafka_port}", "group.id": group, **options})

    def children(self, name: str) -> list[int]:
        """Return the processes that a process has forked."""
        return [child.pid for child in psutil.Process(self._processes[name].pid).children()]

    def end(self, name: str, number: int = signal.SIGTERM) -> int:
        """Send a signal to a process and return its exit code; raise where it does not end by itself, and kill it then."""
        process = self._processes.pop(name)
        process.send_signal(number)
        try:
            return process.wait(HUNG_SECONDS)
        finally:
            process.kill()

    def s3(self, site: str) -> Any:
        """Return an S3 client for the store of `site`."""
        return boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{self.store_ports[site]}",
            region_name="us-east-1",
            aws_access_key_id="workloads",
            aws_secret_access_key="miniature-secret",  # noqa: S106 - of this test only
        )

    def _launch(
        self, name: str, command: list[str], environment: Mapping[str, str], **options: Any
    ) -> subprocess.Popen[bytes]:
        self._launched[name] = command, environment, options
        with (self.folder / "logs" / f"{name}.log").open("ab") as output:
            process = subprocess.Popen(
                command, stdout=output, stderr=output, env=environment, cwd=self.folder, **options
            )
        self._processes[name] = process
        return process

    def _start_again(self, name: str) -> None:
        command, environment, options = self._launched[name]
        self._launch(name, command, environment, **options)

    def wait_port(self, port: int) -> None:
        """Wait until something listens on a port."""
        deadline = time.monotonic() + HUNG_SECONDS
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                probe.settimeout(1)
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            dead = {name: process.returncode for name, process in self._processes.items() if process.poll()}
            if dead:
                raise AssertionError(f"ended early: {dead}; {self.log(next(iter(dead)))[-2000:]}")
            time.sleep(0.2)
        raise AssertionError(f"port {port}: nothing listens after {HUNG_SECONDS:g} s")
