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
import yaml
from confluent_kafka.admin import AdminClient, NewTopic

from dpp.build.tools import tool
from dpp.model.environment import Environment
from dpp.model.folders import REPOSITORY
from dpp.model.principals import Principals

SITES = ("summit", "base", "ncsa")
_POSTGRES: Any = {"user": "postgres", "group": "postgres", "extra_groups": []}
"""PostgreSQL refuses to be root's."""


def free_port() -> int:
    """Return a TCP port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def missing(*tools: str) -> str:
    """Say what this machine lacks to run the miniature, or PostgreSQL and some tools alone; empty if nothing."""
    lacks = [name for name in tools or ("kafka", "versitygw") if not tool(name).built]
    if not list(Path("/usr/lib/postgresql").glob("*/bin/initdb")):
        lacks.append("postgresql")
    if os.geteuid() != 0:
        lacks.append("root (PostgreSQL runs as its own user)")
    return ", ".join(lacks)


def _children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _descendants(pid: int) -> Iterator[int]:
    for child in _children(pid):
        yield from _descendants(child)
        yield child


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
        self.wait_port(self.kafka_port, 240)
        self._make_topics()
        for site in SITES:
            self.start_store(site)
        for site, port in self.store_ports.items():
            self.wait_port(port, 60)
            for bucket in ("raw", "butler", "alerts") if site == "ncsa" else ("raw",):
                self.s3(site).create_bucket(Bucket=bucket)

    def stop(self) -> None:
        """End everything, workloads first; what holds data at once, as none of it is kept."""
        for name in reversed(list(self._processes)):
            self.end(name, signal.SIGQUIT if name == "postgresql" else signal.SIGTERM)

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
        self.wait_port(self.database_port, 30)
        self._make_databases()

    @contextmanager
    def away(self, name: str) -> Iterator[None]:
        """Kill Kafka, the database or a store with all that it forked; afterwards it starts again on what it left."""
        process = self._processes[name]
        process.send_signal(signal.SIGSTOP)  # what is stopped forks no more
        for pid in (*_descendants(process.pid), process.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait(20)
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

    def run(self, service: str, site: str, *arguments: str, timeout: float = 300, **extra: str) -> None:
        """Run a workload to its end; raise with the end of its log if it fails."""
        name = f"{service}-{site}"
        process = self.workload(service, site, *arguments, **extra)
        code = process.wait(timeout)
        self._processes.pop(name)
        if code:
            raise AssertionError(f"{name} ended with {code}:\n{self.log(name)[-3000:]}")

    def registry(self) -> None:
        """Start the schema registry and wait until it answers."""
        self.workload("schema_registry", "summit", PORT=str(self.registry_port))
        self.wait_port(self.registry_port, 180)

    def log(self, name: str) -> str:
        """Return what a process wrote."""
        return (self.folder / "logs" / f"{name}.log").read_text(errors="replace")

    def children(self, name: str) -> list[int]:
        """Return the processes that a process has forked."""
        return _children(self._processes[name].pid)

    def end(self, name: str, number: int = signal.SIGTERM) -> int:
        """Send a signal to a process and wait for its end."""
        process = self._processes.pop(name)
        if process.poll() is None:
            process.send_signal(number)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
        return process.wait(20)

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

    def wait_port(self, port: int, seconds: float) -> None:
        """Wait until something listens on a port."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                probe.settimeout(1)
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            dead = {name: process.returncode for name, process in self._processes.items() if process.poll()}
            if dead:
                raise AssertionError(f"ended early: {dead}; {self.log(next(iter(dead)))[-2000:]}")
            time.sleep(0.2)
        raise AssertionError(f"port {port}: nothing listens after {seconds:g} s")
