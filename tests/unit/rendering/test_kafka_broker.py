"""What brokers and mirrors run with: one limit of messages, and processes that end when they do nothing any more."""

from __future__ import annotations

import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from dpp.model.declared import KAFKA_MESSAGE_BYTES
from dpp.model.environment import Environment
from dpp.model.folders import REPOSITORY
from dpp.model.principals import Principals
from dpp.model.surroundings import surroundings
from unit.model.test_role_arguments import inventory, specification

ROLE = REPOSITORY / "roles/kafka_broker"
PROGRAM = ROLE / "files/usr/local/bin/kafka-mirror"
SAYS = "WorkerSourceTask{id=MirrorSourceConnector-0} Task threw an uncaught and unrecoverable exception. "
FAILED = SAYS + "Task is being killed and will not recover until manually restarted"


def rendered(environment: str, host: str, template: str) -> str:
    """Return a template of the role as Ansible renders it on a host."""
    from ansible.template import Templar, trust_as_template

    loader, manager, variables, hostvars = inventory(environment)
    defaults = loader.load_from_file(str(ROLE / "defaults/main.yml"), trusted_as_template=True)
    own = loader.load_from_file(str(ROLE / "vars/main.yml"), trusted_as_template=True)
    known = defaults | variables.get_vars(host=manager.get_host(host), include_hostvars=False) | own
    known |= {"hostvars": hostvars, "kafka_broker_libs": "/opt/kafka/libs"}  # where a built Kafka would be
    text = trust_as_template((ROLE / "templates" / template).read_text())
    return str(Templar(loader=loader, variables=known).template(text))


def properties(text: str) -> dict[str, str]:
    pairs = [line.partition("=") for line in text.splitlines() if "=" in line and not line.startswith("#")]
    return {key: value for key, _, value in pairs}


# -- one limit ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("environment", "host"), [("lab", "svc01.ncsa"), ("production", "gw02.ncsa")])
def test_brokers_mirrors_and_clients_have_one_limit(environment: str, host: str) -> None:
    broker = properties(rendered(environment, host, "etc/kafka/server.properties.j2"))
    assert int(broker["message.max.bytes"]) == KAFKA_MESSAGE_BYTES
    mirror = properties(rendered(environment, host, "etc/kafka/mirror.properties.j2"))
    assert int(mirror["ncsa.producer.max.request.size"]) == 10 * KAFKA_MESSAGE_BYTES, "before compression"
    assert int(mirror["ncsa.producer.buffer.memory"]) >= int(mirror["ncsa.producer.max.request.size"])
    principals = Principals.load(Environment.load(environment))
    for name, sites in principals.present.items():
        for site in sites:
            told = surroundings(principals, name, site)["kafka"].values()
            assert {one["message_bytes"] for one in told} <= {KAFKA_MESSAGE_BYTES}


def test_a_mirrors_clients_are_set_by_the_names_of_clusters() -> None:
    """MirrorMaker passes over what begins with ``source.`` or ``target.`` in its file."""
    mirror = properties(rendered("lab", "svc01.ncsa", "etc/kafka/mirror.properties.j2"))
    assert not [key for key in mirror if key.startswith(("source.", "target."))]
    assert mirror["ncsa.producer.acks"] == "all"
    assert mirror["summit.consumer.auto.offset.reset"] == "earliest"


def test_the_limit_stands_in_no_other_place() -> None:
    assert "default" not in specification("kafka_broker")["kafka_broker_message_bytes"]
    places = [
        *REPOSITORY.glob("roles/**/*"),
        *REPOSITORY.glob("inventories/**/*.yml"),
        *REPOSITORY.glob("workloads/src/**/*.py"),
    ]
    numbers = (str(KAFKA_MESSAGE_BYTES), "8_000_000", "8000000")
    assert not [
        path for path in places if path.is_file() and any(one in path.read_text(errors="ignore") for one in numbers)
    ]


# -- a mirror whose task has failed ------------------------------------------------------------------------------------


def mirror(script: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(PROGRAM), "sh", "-c", script]
    return subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, timeout=60)


@pytest.mark.parametrize(
    "line",
    [
        f"ERROR WorkerTask: {FAILED}",
        "ERROR WorkerConnector: [Worker clientId=summit->ncsa] Error while starting connector",
        'Exception in thread "kafka-producer-network-thread" java.lang.OutOfMemoryError: Direct buffer memory',
    ],
)
@pytest.mark.parametrize("ending", ["exec sleep 1000", "trap '' TERM; exec 1>&- 2>&-; exit 0", "exit 0"])
def test_a_mirror_that_copies_nothing_any_more_ends(line: str, ending: str) -> None:
    done = mirror(f"echo before; echo '{line}' >&2; {ending}")
    assert done.returncode == 1
    assert done.stdout.splitlines()[:2] == ["before", line]
    assert "starts again" in done.stdout


@pytest.mark.parametrize(
    ("ending", "code"), [("exit 0", 0), ("exit 143", 143), ("kill -9 $$", 137), ("kill -15 $$", 143)]
)
def test_what_a_mirror_says_otherwise_ends_nothing_and_its_code_is_its_own(ending: str, code: int) -> None:
    done = mirror(f"echo 'WARN: Task is slow'; printf 'no \\377 line'; {ending}")
    assert done.returncode == code
    assert done.stdout.startswith("WARN: Task is slow")


def test_the_unit_runs_the_mirror_by_this_program() -> None:
    unit = rendered("lab", "svc01.ncsa", "etc/systemd/system/kafka-mirror.service.j2")
    [start] = [line for line in unit.splitlines() if line.startswith("ExecStart=")]
    assert start.startswith("ExecStart=/usr/local/bin/kafka-mirror /usr/bin/java ")
    assert "Restart=always" in unit
    written = yaml.safe_load((ROLE / "tasks/configure.yml").read_text())
    [files] = [task["ansible.legacy.dpp_files"]["files"] for task in written if "ansible.legacy.dpp_files" in task]
    [program] = [one for one in files if one["path"] == "/usr/local/bin/kafka-mirror"]
    assert program["mode"] == "0755"


# -- a Java machine without memory -------------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", ["kafka", "kafka-mirror"])
@pytest.mark.parametrize(("environment", "host"), [("lab", "svc01.summit"), ("production", "svc01.summit")])
def test_every_java_machine_ends_when_it_has_no_memory(environment: str, host: str, unit: str) -> None:
    text = rendered(environment, host, f"etc/systemd/system/{unit}.service.j2")
    [start] = [line for line in text.splitlines() if line.startswith("ExecStart=")]
    assert "-XX:+ExitOnOutOfMemoryError" in start.split()
    assert "Restart=always" in text


def _class_that_fills_the_heap() -> bytes:
    """Return a class whose `main` makes a chain of arrays for ever, beside a thread that keeps the machine alive."""
    pool: list[bytes] = []

    def constant(tag: int, content: bytes) -> int:
        pool.append(bytes([tag]) + content)
        return len(pool)

    def text(value: str) -> int:
        return constant(1, struct.pack(">H", len(value)) + value.encode())

    def of_class(name: str) -> int:
        return constant(7, struct.pack(">H", text(name)))

    this, parent = of_class("Full"), of_class("java/lang/Object")
    main, kind, code_name = text("main"), text("([Ljava/lang/String;)V"), text("Code")
    chain = b"\x01\x4c"  # aconst_null, astore_1
    loop = (
        b"\x11\x27\x10" + b"\xbd" + struct.pack(">H", parent) + b"\x59\x03\x2b\x53\x4c"
    )  # array[0] = last; last = array
    body = chain + loop + b"\xa7" + struct.pack(">h", -len(loop))  # goto loop
    code = struct.pack(">HHI", 4, 2, len(body)) + body + struct.pack(">HH", 0, 0)
    method = struct.pack(">HHHH", 9, main, kind, 1) + struct.pack(">HI", code_name, len(code)) + code
    head = struct.pack(">IHHH", 0xCAFEBABE, 0, 49, len(pool) + 1) + b"".join(pool)
    return head + struct.pack(">HHHHH", 0x21, this, parent, 0, 0) + struct.pack(">H", 1) + method + struct.pack(">H", 0)


def test_a_real_java_machine_with_these_options_ends(tmp_path: Path) -> None:
    java = shutil.which("java")
    if java is None:
        pytest.skip("no Java on this machine")
    (tmp_path / "Full.class").write_bytes(_class_that_fills_the_heap())
    options: dict[str, Any] = yaml.safe_load((ROLE / "vars/main.yml").read_text())
    flags = [word for word in options["kafka_broker_java"].split() if word.startswith("-XX:")]
    command = [java, *flags, "-Xmx8m", "-XX:+UseSerialGC", "-cp", str(tmp_path), "Full"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert "Terminating due to java.lang.OutOfMemoryError" in done.stdout + done.stderr
    assert done.returncode == 3
