"""A device commanded from outside through every state, fault, time-out and restart, on a real Kafka with its rights."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType

import sal_devices
from integration.miniature import HUNG_SECONDS, Miniature, bare, password_of
from workloads.ocs.interfaces import Interface
from workloads.ocs.remote import Answer, Remote, RemoteError
from workloads.ocs.surroundings import Surroundings

pytestmark = pytest.mark.root
WEEK = str(168 * 3600 * 1000)
PYTHONPATH = os.pathsep.join(path for path in sys.path if path)
DONE = Answer(303, "Done")


class Observatory:
    """Kafka and the registry of the summit, devices of component Test, and who commands them."""

    def __init__(self, miniature: Miniature) -> None:
        self.miniature = miniature
        self.configurations = miniature.folder / "configurations"
        self.configurations.mkdir()
        for name, content in {
            "_init.yaml": "{}",
            "slow.yaml": "telemetry_seconds: 1.0",
            "late.yaml": "fails: [end enable]",
            "wrong.yaml": "speed: 3",
        }.items():
            (self.configurations / name).write_text(f"{content}\n")

    @property
    def surroundings(self) -> Surroundings:
        return Surroundings.read(self.variables)

    @property
    def variables(self) -> dict[str, str]:
        """What the observatory's own client is given."""
        return {
            "LSST_KAFKA_BROKER_ADDR": f"127.0.0.1:{self.miniature.users_port}",
            "LSST_SCHEMA_REGISTRY_URL": f"http://127.0.0.1:{self.miniature.registry_port}",
            "LSST_KAFKA_SECURITY_USERNAME": sal_devices.CONTROL,
            "LSST_KAFKA_SECURITY_PASSWORD": password_of(sal_devices.CONTROL),
            "DPP_IDENTITY": "observer@control",
        }

    def begin(self, name: str, index: int) -> subprocess.Popen[bytes]:
        """Begin a device's process."""
        extra = {"DPP_DEVICE_CONFIG": str(self.configurations), "PYTHONPATH": PYTHONPATH}
        environment = self.miniature.environment(sal_devices.DEVICE, sal_devices.SITE) | extra
        command = [sys.executable, "-m", "integration.sal_device", str(index)]
        return self.miniature._launch(name, command, environment)

    def remote(self, index: int) -> Remote:
        return Remote(Interface.read("Test"), self.surroundings, index).start()

    @contextmanager
    def device(self, name: str, index: int) -> Iterator[Remote]:
        """Yield a remote of a device that was just begun and is in STANDBY; end the device afterwards."""
        remote = self.remote(index)
        before = remote.last.get("summaryState")
        process = self.begin(name, index)
        self.standby(remote, before)
        try:
            yield remote
        finally:
            remote.close()
            if process.poll() is None:
                self.miniature.end(name, signal.SIGKILL)

    def standby(self, remote: Remote, before: Any) -> None:
        """Wait until a device that was begun has told its state."""
        end = time.monotonic() + HUNG_SECONDS
        while remote.last.get("summaryState") is before or remote.state != "STANDBY":
            assert time.monotonic() < end, self.logs()
            remote.samples(0.2)

    def logs(self) -> str:
        return "\n".join(
            path.read_text(errors="replace")[-2000:] for path in (self.miniature.folder / "logs").iterdir()
        )

    def admin(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": f"127.0.0.1:{self.miniature.kafka_port}"})

    def topics(self) -> dict[str, str]:
        """Return the names in Kafka of the device's topics, by their own."""
        prefix = "Test."
        topics = self.miniature.principals.topics.values()
        return {one.role.removeprefix(prefix): one.name for one in topics if one.role.startswith(prefix)}


@pytest.fixture(scope="module")
def observatory() -> Iterator[Observatory]:
    with bare("sal", "kafka") as made:
        made.principals = sal_devices.principals()
        made._start_kafka()
        made.wait_port(made.kafka_port)
        made._bring_about_kafka()
        made.registry()
        yield Observatory(made)


@pytest.fixture
def device(observatory: Observatory) -> Iterator[Remote]:
    with observatory.device("one", 1) as remote:
        yield remote


@pytest.fixture
def enabled(device: Remote) -> Remote:
    for command in ("start", "enable"):
        assert device.command(command) == DONE
    return device


def test_topics_are_as_clients_expect_them(observatory: Observatory) -> None:
    admin, topics = observatory.admin(), observatory.topics()
    resources = [ConfigResource(ResourceType.TOPIC, name) for name in topics.values()]
    kept = {one.name: future.result() for one, future in admin.describe_configs(resources).items()}
    known = admin.list_topics(timeout=60).topics
    for name, topic in topics.items():
        event = name.startswith("logevent_")
        assert len(known[topic].partitions) == 1
        assert kept[topic]["cleanup.policy"].value == ("compact" if event else "delete"), name
        assert kept[topic]["min.compaction.lag.ms" if event else "retention.ms"].value == WEEK, name


def test_it_is_led_through_all_states(observatory: Observatory, device: Remote) -> None:
    seen = [device.state]
    for command in ("start", "enable", "disable", "enable", "disable", "standby", "exitControl"):
        assert device.command(command) == DONE
        seen.append(device.state)
    assert seen == ["STANDBY", "DISABLED", "ENABLED", "DISABLED", "ENABLED", "DISABLED", "STANDBY", "OFFLINE"]
    assert observatory.miniature._processes["one"].wait(HUNG_SECONDS) == 0


def test_what_is_told_at_the_start_is_there(device: Remote) -> None:
    told = device.last
    assert {
        "logLevel",
        "simulationMode",
        "softwareVersions",
        "summaryState",
        "errorCode",
        "configurationsAvailable",
    } <= set(told)
    assert told["configurationsAvailable"].fields["overrides"] == "late.yaml,slow.yaml,wrong.yaml"
    first = device.wait_for("heartbeat", 60.0)
    device.wait_for("heartbeat", 60.0, private_seqNum=first.fields["private_seqNum"] + 2)
    assert first.fields["private_identity"] == "Test:1"


@pytest.mark.parametrize("command", ["enable", "disable", "standby"])
def test_a_transition_from_the_wrong_state_fails(device: Remote, command: str) -> None:
    answer = device.command(command)
    assert (answer.name, answer.error) == ("FAILED", 1)
    assert answer.result.startswith(f"Failed: Test: {command} is not allowed in state STANDBY")
    assert device.state == "STANDBY"


def test_own_commands_have_parameters_events_and_telemetry(enabled: Remote) -> None:
    words = [
        "boolean0=true",
        "byte0=-5",
        "longLong0=-9223372036854775808",
        "unsignedInt0=4294967295",
        "double0=2.5",
        "string0=a b",
    ]
    assert enabled.command("setScalars", *words) == DONE
    scalars = enabled.wait_for("scalars", 60.0, string0="a b").fields
    assert [scalars[name] for name in ("boolean0", "byte0", "longLong0", "unsignedInt0", "double0", "int0")] == [
        True, -5, -(2**63), 2**32 - 1, 2.5, 0,
    ]  # fmt: skip
    sample = next(one for one in enabled.watch("arrays"))
    assert sample.fields["int0"] == [sample.fields["int0"][0]] * 5
    assert sample.fields["salIndex"] == 1


def test_what_takes_long_says_so_and_is_waited_for(enabled: Remote) -> None:
    answers = list(enabled.acknowledgements("wait", "duration=2.5", "announced=5", timeout=1.0))
    assert [(one.name, one.timeout) for one in answers] == [("INPROGRESS", 5.0), ("COMPLETE", 0.0)]
    assert answers[-1].result == "waited 2.5 s"


def test_who_says_nothing_is_given_up(enabled: Remote) -> None:
    assert enabled.command("wait", "duration=3600", timeout=0.5).name == "NOACK"


def test_a_handler_that_fails_or_runs_out_of_time_is_no_fault(enabled: Remote) -> None:
    failed = enabled.command("fail", "reason=nobody expects it")
    assert (failed.name, failed.result) == ("FAILED", "Failed: ZeroDivisionError: nobody expects it")
    assert enabled.command("wait", "duration=3600", "limit=0.2") == Answer(-304, "Timeout", 1)
    assert enabled.command("setScalars", "int0=1") == DONE
    assert enabled.state == "ENABLED"


def test_what_runs_is_aborted_where_it_leaves_enabled(observatory: Observatory, enabled: Remote) -> None:
    running = enabled.acknowledgements("wait", "duration=3600", "announced=3600")
    assert next(running).name == "INPROGRESS"
    other = observatory.remote(1)
    assert other.command("disable") == DONE
    other.close()
    assert next(running) == Answer(-303, "Aborted", 1)


def test_a_fault_is_told_with_its_error_and_left_by_standby(enabled: Remote) -> None:
    assert enabled.command("fault", "code=7", "report=a wheel came off") == DONE
    assert enabled.state == "FAULT"
    error, state = enabled.last["errorCode"].fields, enabled.last["summaryState"].fields
    assert (error["errorCode"], error["errorReport"]) == (7, "a wheel came off")
    assert error["private_sndStamp"] < state["private_sndStamp"]
    assert enabled.command("enable").name == "FAILED"
    assert enabled.command("standby") == DONE
    assert enabled.wait_for("errorCode", 60.0, errorCode=0)
    assert enabled.state == "STANDBY"


def test_overrides_are_applied_refused_and_may_fail_a_transition(device: Remote) -> None:
    answer = device.command("start", "configurationOverride=wrong.yaml")
    assert answer.name == "FAILED"
    assert "speed" in answer.result
    assert "expected one of late.yaml, slow.yaml" in device.command("start", "configurationOverride=fast.yaml").result
    assert device.state == "STANDBY"
    assert device.command("start", "configurationOverride=late.yaml") == DONE
    assert device.wait_for("configurationApplied", 60.0).fields["configurations"] == "_init.yaml,late.yaml"
    assert device.command("enable").result == "Failed: end enable fails, as it was told to"
    assert device.state == "DISABLED"
    assert device.command("standby") == DONE
    version = device.last["configurationsAvailable"].fields["version"]
    assert device.command("start", f"configurationOverride=:{version}") == DONE
    assert device.command("enable") == DONE


def test_its_log_is_told(observatory: Observatory, device: Remote) -> None:
    assert device.command("setLogLevel", "level=10") == DONE
    assert device.wait_for("logLevel", 60.0, level=10)
    assert device.command("start") == DONE
    assert device.command("enable") == DONE
    device.command("fail", "reason=for the log")
    message = device.wait_for("logMessage", 60.0, level=40, process=observatory.miniature._processes["one"].pid).fields
    assert "for the log" in message["traceback"]


def test_instances_are_apart(observatory: Observatory, enabled: Remote) -> None:
    with observatory.device("two", 2) as second:
        assert second.command("start") == DONE
        assert (enabled.state, second.state) == ("ENABLED", "DISABLED")


def test_a_twin_is_refused_both_ways(observatory: Observatory) -> None:
    with observatory.device("one", 1) as remote:
        assert remote.command("start") == DONE
        twin = observatory.begin("twin", 1)
        assert twin.wait(HUNG_SECONDS) != 0
        assert "Test:1: another one is alive" in observatory.miniature.log("twin")
        assert remote.command("enable") == DONE
    with observatory.device("twin", 1) as remote:
        assert remote.command("start") == DONE
        assert observatory.begin("one", 1).wait(HUNG_SECONDS) != 0
        assert remote.state == "DISABLED"


def test_of_two_that_begin_at_once_one_ends(observatory: Observatory) -> None:
    both = [observatory.begin("first", 5), observatory.begin("second", 5)]
    end = time.monotonic() + HUNG_SECONDS
    while all(process.poll() is None for process in both) and time.monotonic() < end:
        time.sleep(0.1)
    assert [process.poll() is None for process in both].count(True) == 1, observatory.logs()
    remote = observatory.remote(5)
    assert remote.command("start") == DONE
    remote.close()
    for process in both:
        process.kill()


def test_a_restart_begins_in_standby_and_old_commands_are_not_carried_out(observatory: Observatory) -> None:
    with observatory.device("one", 1) as remote:
        for command in ("start", "enable"):
            assert remote.command(command) == DONE
        observatory.miniature.end("one", signal.SIGKILL)
        old = [remote.send("disable"), remote.send("start")]
        before = remote.last["summaryState"]
        process = observatory.begin("one", 1)
        answers: dict[int, Answer] = {}
        end = time.monotonic() + HUNG_SECONDS
        while set(old) - set(answers) and time.monotonic() < end:
            if process.poll() is not None:  # it heard the last heartbeat of the one that was killed: a pod begins again
                process = observatory.begin("one", 1)
            remote.samples(0.2)
            answers |= {number: answer for number in old for answer in remote.answers(number)}
        assert {answers[number].name for number in old} == {"FAILED"}
        assert all("before this device began" in answers[number].result for number in old)
        observatory.standby(remote, before)
        assert remote.command("start") == DONE
        assert process.poll() is None


def test_a_client_starts_at_once_whatever_retention_took(observatory: Observatory, enabled: Remote) -> None:
    """The observatory's client waits for the record before the end of each event's topic, and for none of the others."""
    topics = observatory.topics()
    assert enabled.command("disable") == DONE
    options = {"bootstrap.servers": f"127.0.0.1:{observatory.miniature.kafka_port}", "group.id": "tests"}
    emptied = {name: topic for name, topic in topics.items() if not name.startswith("logevent_")}
    consumer = Consumer(options)
    ends = {topic: consumer.get_watermark_offsets(TopicPartition(topic, 0), 60)[1] for topic in topics.values()}
    gone = [TopicPartition(topic, 0, ends[topic]) for topic in emptied.values() if ends[topic]]
    assert {"ackcmd", "command_start", "arrays"} <= {name for name, topic in emptied.items() if ends[topic]}
    for future in observatory.admin().delete_records(gone).values():
        future.result(60)
    for name in sorted(set(topics) - set(emptied)):
        topic = topics[name]
        if ends[topic]:
            consumer.assign([TopicPartition(topic, 0, ends[topic] - 1)])
            message = consumer.poll(60)
            assert message is not None, name
            assert message.error() is None, name
    consumer.close()
    remote = observatory.remote(1)
    assert remote.state == "DISABLED"
    assert remote.command("enable") == DONE
    remote.close()


def test_nobody_else_writes_a_devices_topics(observatory: Observatory, device: Remote) -> None:
    """Who commands it may not write its events, and nobody may make topics."""
    from confluent_kafka import KafkaError, Producer
    from confluent_kafka.admin import NewTopic

    at = observatory.surroundings
    options = {"bootstrap.servers": at.brokers, **at.security}
    errors: list[KafkaError] = []
    producer = Producer(options)
    producer.produce(
        observatory.topics()["logevent_summaryState"], b"x", on_delivery=lambda error, _: errors.append(error)
    )
    producer.flush(60)
    assert [error.code() for error in errors] == [KafkaError.TOPIC_AUTHORIZATION_FAILED]
    (future,) = AdminClient(options).create_topics([NewTopic("lsst.sal.Test.logevent_more", 1, 1)]).values()
    with pytest.raises(Exception, match="Authorization failed"):
        future.result(60)
    assert device.state == "STANDBY"


def typed(observatory: Observatory, *words: str) -> tuple[int, list[dict[str, Any]], str]:
    """Type a command line, and return its code, what it printed and what it complained of."""
    command = [sys.executable, "-m", "workloads.ocs", *words]
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(Path.home()),
        "PYTHONPATH": PYTHONPATH,
        **observatory.variables,
    }
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=HUNG_SECONDS)
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr.strip()


def test_what_observers_type(observatory: Observatory, device: Remote) -> None:
    assert typed(observatory, "Test:1", "state")[1][0]["state"] == "STANDBY"
    code, (answer,), _ = typed(observatory, "Test:1", "send", "start", "configurationOverride=slow.yaml")
    assert (code, answer["ack"], answer["state"]) == (0, "COMPLETE", "DISABLED")
    code, (answer,), _ = typed(observatory, "Test:1", "send", "start")
    assert (code, answer["ack"]) == (1, "FAILED")
    code, _, said = typed(observatory, "Test:1", "send", "wait", "duration=long")
    assert (code, said) == (2, "duration=long: expected a number (second)")
    code, _, said = typed(observatory, "Test", "state")
    assert (code, said) == (2, "Test: index 0; expected one above 0, as NAME:INDEX")
    code, (applied,), _ = typed(observatory, "Test:1", "events", "configurationApplied")
    assert (code, applied["configurations"]) == (0, "_init.yaml,slow.yaml")
    code, beats, _ = typed(observatory, "Test:1", "watch", "heartbeat", "--count=2")
    assert (code, [one["topic"] for one in beats]) == (0, ["heartbeat", "heartbeat"])
    code, (answer,), _ = typed(observatory, "Test:9", "send", "start", "--timeout=1")
    assert (code, answer["ack"], answer["result"]) == (1, "NOACK", "no answer in 1 s; is Test running?")
    assert device.state


def test_a_registry_that_is_away_is_named(observatory: Observatory) -> None:
    at = observatory.surroundings
    broken = Surroundings(at.brokers, "http://127.0.0.1:1", at.subname, at.security, at.identity)
    with pytest.raises(RemoteError, match=r"registry http://127\.0\.0\.1:1: "):
        Remote(Interface.read("Test"), broken, 1).start()
