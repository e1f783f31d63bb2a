"""The data plane on loopback: real Kafka, PostgreSQL and object stores as plain processes, with the workloads beside them.

Random ports, one temporary folder, nothing left behind. Kafka and versitygw are the pinned tools of the cache. Users, rights,
policies and grants are those that follow from the contracts, brought about by the modules that the roles use; only TLS is left
out, and one Kafka stands for those of all sites.
"""

from __future__ import annotations

import json
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
from tempfile import TemporaryDirectory
from typing import Any

import boto3
import psutil
import psycopg
import pytest
import yaml
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from dpp.build.tools import tool
from dpp.model import rights
from dpp.model.declared import KAFKA_MESSAGE_BYTES
from dpp.model.environment import Environment
from dpp.model.folders import REPOSITORY
from dpp.model.names import kebab
from dpp.model.principals import Principals
from dpp.model.surroundings import surroundings
from ports import free_port
from workloads.common.settings import Camera, Settings
from workloads.common.slots import slots

SITES = ("summit", "base", "ncsa")
_POSTGRES: Any = {"user": "postgres", "group": "postgres", "extra_groups": []}
"""PostgreSQL refuses to be root's."""
HUNG_SECONDS = 1800.0
"""What takes so long hangs: ten times the usual, on a machine that is busy with others as well."""
MODULES = REPOSITORY / "src/dpp/adapters/ansible_plugins/modules"
ROOT, ADMIN_SECRET = "root", "miniature-secret"
"""Owner of the buckets; the secret of those who administer."""
_HBA = """
local all postgres trust
host all postgres 127.0.0.1/32 trust
host all +principals 127.0.0.1/32 scram-sha-256
"""


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
        self.principals = Principals.load(Environment.load("lab"))
        self.kafka_port, self.users_port = free_port(), free_port()
        """Of Kafka: for the tests themselves, without a password, and for everybody else."""
        self.database_port, self.registry_port = free_port(), free_port()
        self.camera_port = free_port()
        self.store_ports = {site: free_port() for site in SITES}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._launched: dict[str, tuple[list[str], Mapping[str, str], dict[str, Any]]] = {}
        (folder / "logs").mkdir()

    # -- the surroundings ------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Bring Kafka, PostgreSQL and the stores up, with topics, buckets, databases and all rights."""
        self._start_kafka()
        self.start_database()
        self.wait_port(self.kafka_port)
        self._bring_about_kafka()
        for site in SITES:
            self.start_store(site)

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

    def settings(self, principal: str, site: str) -> dict[str, str]:
        """Write what a principal at `site` is told, with the addresses that things have here; return where it finds it."""
        place = self.folder / "settings" / site / principal
        if not place.exists():
            (place / "secrets").mkdir(parents=True)
            for name in rights.secrets_of(self.principals, principal, site):
                (place / "secrets" / name).write_text(f"{password_of(principal)}\n")
            (place / "site.yml").write_text(yaml.safe_dump(self._told(principal, site)))
        return {
            "DPP_SITE_FILE": str(place / "site.yml"),
            "DPP_SECRETS": str(place / "secrets"),
            "DPP_CA": str(self.folder / "no-authority"),
        }

    def told(self, principal: str, site: str) -> Settings:
        """Return what a principal at `site` is told, as its code reads it."""
        place = self.settings(principal, site)
        return Settings(*(Path(place[name]) for name in ("DPP_SITE_FILE", "DPP_SECRETS", "DPP_CA")))

    def _told(self, principal: str, site: str) -> dict[str, Any]:
        content = surroundings(self.principals, principal, site)
        broker = {
            "bootstrap": f"127.0.0.1:{self.users_port}",
            "protocol": "SASL_PLAINTEXT",
            "message_bytes": KAFKA_MESSAGE_BYTES,
        }
        database = {"host": "127.0.0.1", "port": self.database_port, "sslmode": "disable"}
        ports = {"schema-registry": self.registry_port, "camera": self.camera_port}
        return content | {
            "kafka": dict.fromkeys(content["kafka"], broker),
            "object_stores": {name: {"endpoint": f"http://127.0.0.1:{self.store_ports[name]}"} for name in content["object_stores"]},
            "databases": {name: one | database for name, one in content["databases"].items()},
            "services": {name: f"http://127.0.0.1:{ports[name]}" for name in content["services"]},
            "camera": self.camera,
        }  # fmt: skip

    def _start_kafka(self) -> None:
        home, controller = self.folder / "kafka", free_port()
        home.mkdir()
        jars = f"{tool('kafka').folder}/libs/*"
        properties = home / "server.properties"
        properties.write_text(
            f"""process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=TESTS://127.0.0.1:{self.kafka_port},USERS://127.0.0.1:{self.users_port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=TESTS://127.0.0.1:{self.kafka_port},USERS://127.0.0.1:{self.users_port}
controller.listener.names=CONTROLLER
inter.broker.listener.name=TESTS
listener.security.protocol.map=TESTS:PLAINTEXT,USERS:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT
sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.users.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:admin;User:ANONYMOUS
log.dirs={home}/data
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
default.replication.factor=1
group.initial.rebalance.delay.ms=0
group.consumer.min.heartbeat.interval.ms=3000
group.consumer.heartbeat.interval.ms=3000
group.consumer.min.session.timeout.ms=15000
group.consumer.session.timeout.ms=15000
auto.create.topics.enable=false
message.max.bytes={KAFKA_MESSAGE_BYTES}
offsets.topic.num.partitions=4
transaction.state.log.num.partitions=4
"""
        )
        java = ["java", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", jars]
        format_log = [*java, "kafka.tools.StorageTool", "format", "-t", "bWluaWF0dXJlLWthZmthMQ", "-c", str(properties)]
        format_log += ["--add-scram", f"SCRAM-SHA-512=[name=admin,password={ADMIN_SECRET}]"]
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
        (home / "data/pg_hba.conf").write_text(_HBA)
        options = ["-p", str(self.database_port), "-h", "127.0.0.1", "-k", str(home), "-c", "fsync=off"]
        self._launch(
            "postgresql", [str(binaries / "postgres"), "-D", str(home / "data"), *options], os.environ, **_POSTGRES
        )
        self.wait_port(self.database_port)
        host = self.principals.environment.hosts_of("ncsa", "postgresql")[0].name
        databases = rights.databases_on(self.principals, host)
        module(
            "dpp_databases",
            socket=str(home),
            port=self.database_port,
            databases={one.name: one._asdict() for one in databases},
            users={user: password_of(user) for user in rights.database_users(databases)},
        )

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
            self.start_again(name)

    @contextmanager
    def restarting(self, *names: str) -> Iterator[None]:
        """Start these workloads again whenever they end by themselves, as a cluster does."""
        over = threading.Event()

        def watch() -> None:
            while not over.wait(0.5):
                for name in names:
                    if self._processes[name].poll() is not None:
                        self.start_again(name)

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join()

    def start_store(self, site: str, *, notifies: bool = True) -> None:
        """Start the object store of a site, with what it held before, its buckets and their policies."""
        home, users = self.folder / f"store-{site}", rights.store_users(self.principals, site)
        for name in ("data", "meta", "iam"):
            (home / name).mkdir(parents=True, exist_ok=True)
        account = {"role": "user", "userID": 0, "groupID": 0, "projectID": 0}
        accounts = {user: {"access": user, "secret": password_of(user), **account} for user in users}
        (home / "iam/users.json").write_text(json.dumps({"accessAccounts": accounts}))
        endpoint = f"127.0.0.1:{self.store_ports[site]}"
        command = [str(tool("versitygw").folder / "bin/versitygw"), "--port", endpoint, "--quiet", "--keep-alive"]
        command += ["--access", ROOT, "--secret", ADMIN_SECRET, "--iam-dir", str(home / "iam")]
        arrivals = self.principals.arrivals_at(site)
        if notifies and arrivals:
            command += ["--event-kafka-url", f"127.0.0.1:{self.kafka_port}", "--event-kafka-topic", arrivals[0]]
        self._launch(
            f"store-{site}", [*command, "posix", "--sidecar", str(home / "meta"), str(home / "data")], os.environ
        )
        self.wait_port(self.store_ports[site])
        module(
            "dpp_buckets",
            endpoint=f"http://{endpoint}",
            access=ROOT,
            secret=ADMIN_SECRET,
            buckets=list(rights.buckets_at(self.principals, site)),
            policies=rights.bucket_policies(self.principals, site),
        )

    def _bring_about_kafka(self) -> None:
        """Make topics, users and rights of all sites: here they have one Kafka."""
        found, users, topics = set[rights.KafkaRight](), set[str](), dict[str, dict[str, int | None]]()
        for site in SITES:
            found |= set(rights.kafka_rights(self.principals, site))
            users |= set(rights.kafka_users(self.principals, site))
            topics |= rights.topics_at(self.principals, site)
        topics[self.name("ingested")]["partitions"] = len(slots(Camera.model_validate(self.camera)))
        module(
            "dpp_kafka",
            bootstrap=f"127.0.0.1:{self.users_port}",
            admin_password=ADMIN_SECRET,
            users={user: password_of(user) for user in users},
            rights=[right._asdict() for right in sorted(found)],
            topics=topics,
        )

    # -- the workloads ---------------------------------------------------------------------------------------------

    def environment(self, principal: str, site: str, **extra: str) -> dict[str, str]:
        """Return the environment of a program that is this principal at `site`."""
        return (
            os.environ
            | self.settings(principal, site)
            | {
                "DPP_HEALTH_PORT": "0",
                "DPP_UNKNOWN_SCHEMA_SECONDS": "5",
                "DPP_DATA": str(self.folder / "data" / site),
                "PYTHONPATH": str(REPOSITORY / "workloads/src"),
                "OMP_NUM_THREADS": "1",
            }
            | extra
        )

    def sql(self, principal: str, database: str, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Return the rows of a query that a principal asks."""
        who = {"user": principal, "password": password_of(principal), "dbname": database}
        with psycopg.connect(host="127.0.0.1", port=self.database_port, **who) as connection:
            return connection.execute(query, values or None).fetchall()  # type: ignore[arg-type]

    def client(self, principal: str, site: str) -> dict[str, str]:
        """Return the environment of others' programs that use PostgreSQL and the store of `site` as this principal."""
        store = f"http://127.0.0.1:{self.store_ports[site]}"
        return self.environment(principal, site) | {
            "S3_ENDPOINT_URL": store, "AWS_ACCESS_KEY_ID": principal, "AWS_SECRET_ACCESS_KEY": password_of(principal),
            "LSST_DISABLE_BUCKET_VALIDATION": "1", "AWS_DEFAULT_REGION": "us-east-1",
            "PGUSER": principal, "PGPASSWORD": password_of(principal),
        }  # fmt: skip

    def workload(
        self, service: str, site: str, *arguments: str, name: str = "", **extra: str
    ) -> subprocess.Popen[bytes]:
        """Start ``python -m workloads.SERVICE`` at `site`."""
        command = [sys.executable, "-m", f"workloads.{service}", *arguments]
        return self._launch(name or f"{service}-{site}", command, self.environment(kebab(service), site, **extra))

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

    def name(self, role: str) -> str:
        """Return what a topic is called in Kafka."""
        return self.principals.topics[role].name

    def ends(self, role: str) -> dict[int, int]:
        """Return the offset after the last message of each partition of a topic."""
        topic = self.name(role)
        consumer = self._consumer("tests")
        partitions = consumer.list_topics(topic, timeout=60).topics[topic].partitions
        found = {number: consumer.get_watermark_offsets(TopicPartition(topic, number), 60)[1] for number in partitions}
        consumer.close()
        return found

    def read_to_the_end(self, group: str, role: str) -> bool:
        """Tell whether a group has committed that it is done with every message of a topic."""
        consumer = self._consumer(group)
        places = consumer.committed([TopicPartition(self.name(role), number) for number in self.ends(role)], 60)
        for place in places:
            place.offset = place.offset if place.offset >= 0 else OFFSET_BEGINNING
        consumer.assign(places)
        seen = [consumer.poll(60) for _ in places]
        consumer.close()
        return all(message is not None and message.error() is not None for message in seen)  # no message: its end

    def _consumer(self, group: str) -> Consumer:
        options = {"enable.partition.eof": True, "isolation.level": "read_committed", "enable.auto.commit": False}
        return Consumer({"bootstrap.servers": f"127.0.0.1:{self.kafka_port}", "group.id": group, **options})

    def pids(self) -> dict[str, int]:
        """Return the processes that run, by name."""
        return {name: process.pid for name, process in self._processes.items() if process.poll() is None}

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
        """Return an S3 client for the store of `site` that may do everything."""
        return boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{self.store_ports[site]}",
            region_name="us-east-1",
            aws_access_key_id=ROOT,
            aws_secret_access_key=ADMIN_SECRET,
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

    def start_again(self, name: str) -> None:
        """Start a process that has ended as it was started before."""
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


@contextmanager
def bare(name: str, *tools: str) -> Iterator[Miniature]:
    """Yield a miniature of which nothing runs yet, and end what was started; skip where this machine lacks what it needs."""
    if lacks := missing(*tools):
        pytest.skip(f"this machine lacks {lacks}")
    with TemporaryDirectory(prefix=f"dpp-{name}-") as folder:  # not pytest's own: PostgreSQL must get in
        made = Miniature(Path(folder))
        try:
            yield made
        finally:
            made.stop()


def password_of(principal: str) -> str:
    """Return the password that a principal has everywhere here."""
    return f"{principal}-secret"


def module(name: str, **arguments: Any) -> list[str]:
    """Run a module of the roles as Ansible does, and return what it changed."""
    given = json.dumps({"ANSIBLE_MODULE_ARGS": arguments})
    command = [sys.executable, str(MODULES / f"{name}.py")]
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=False, timeout=HUNG_SECONDS)
    result: dict[str, Any] = (
        json.loads(done.stdout) if done.stdout.strip().startswith("{") else {"msg": done.stdout + done.stderr}
    )
    assert not result.get("failed", "changes" not in result), result
    changes: list[str] = result["changes"]
    return changes
