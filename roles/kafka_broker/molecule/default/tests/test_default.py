"""A broker that carries records for those who may, refuses others, and is repaired when somebody changed it."""

import json
import re

import pytest

from dpp.adapters.secrets import Secrets
from dpp.model.folders import Folders

CLIENT = """
import json, sys, uuid
from confluent_kafka import Consumer, KafkaException, Producer
def common(user, password):
    return {"bootstrap.servers": "svc01.ncsa:9094", "security.protocol": "SASL_SSL", "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.username": user, "sasl.password": password, "ssl.ca.location": "/etc/dpp/tls/ca.crt"}
passwords = json.loads(sys.argv[1])
topic, mark = "lsst-alerts-v11", uuid.uuid4().hex.encode()
worker, broker = (common(user, passwords[user]) for user in ("prompt-processing", "broker"))
producer = Producer({**worker, "enable.idempotence": True, "transactional.id": "prompt-processing-probe"})
producer.init_transactions(30)
producer.begin_transaction()
producer.produce(topic, mark * 2000)
producer.commit_transaction(30)
consumer = Consumer({**broker, "group.id": "broker-1", "auto.offset.reset": "earliest", "isolation.level": "read_committed"})
consumer.subscribe([topic])
found = 0
for _ in range(60):
    message = consumer.poll(1)
    if message is not None and not message.error() and message.value() == mark * 2000:
        found = 1
        break
consumer.close()
refused = {}
def tried(name, options, topic):
    producer = Producer({**options, "message.timeout.ms": 8000})
    producer.produce(topic, b"x", on_delivery=lambda error, message: refused.update({name: error.name() if error else None}))
    producer.flush(15)
local = {"bootstrap.servers": "127.0.0.1:9092"}
tried("a local program, another topic", local, topic)
tried("a local program, its topic", local, "dpp.raw.arrivals")
tried("a reader writes", broker, topic)
print(json.dumps({"found": found, "refused": refused}))
"""


@pytest.fixture(scope="module")
def passwords():
    secrets = Secrets(Folders.current().secrets)
    return json.dumps({user: secrets.password(f"kafka-{user}") for user in ("prompt-processing", "broker")})


def kafka(host, command):
    libs = host.check_output("ls -d /opt/kafka/*").split()[-1]
    connection = "--bootstrap-server svc01.ncsa:9094 --command-config /etc/kafka/admin.properties"
    return host.check_output(f"java -Xmx128m -cp '{libs}/*' {command} {connection} 2>/dev/null")


def test_service_runs_and_survives_a_restart(host):
    service = host.service("kafka")
    assert service.is_running
    assert service.is_enabled


def test_records_pass_in_a_transaction_and_who_may_not_is_refused(host, passwords):
    result = json.loads(
        host.check_output("PYTHONPATH=$(ls -d /opt/kafka-client/*) python3 -c %s %s", CLIENT, passwords)
    )
    assert result["found"] == 1
    assert result["refused"] == {
        "a local program, another topic": "TOPIC_AUTHORIZATION_FAILED",
        "a local program, its topic": None,
        "a reader writes": "TOPIC_AUTHORIZATION_FAILED",
    }


def test_users_and_rights_that_nobody_declares_are_gone(host):
    assert "stranger" not in kafka(host, "kafka.admin.ConfigCommand --describe --entity-type users")
    rights = kafka(host, "org.apache.kafka.tools.AclCommand --list")
    assert "principal=User:prompt-processing" in rights
    assert "principal=User:*" not in rights


def test_topics_are_as_declared_after_a_drift(host):
    described = kafka(host, "org.apache.kafka.tools.TopicCommand --describe")
    assert re.search(r"Topic: dpp.raw.ingested\s.*PartitionCount: 9\s", described)
    assert re.search(r"Topic: dpp.raw.arrivals\s.*retention.ms=604800000", described)
    assert re.search(r"Topic: _schemas\s.*cleanup.policy=compact", described)
    assert "auto.create.topics.enable=false" in host.file("/etc/kafka/server.properties").content_string


def test_no_plain_listener_leaves_the_host(host):
    assert not host.socket("tcp://0.0.0.0:9092").is_listening
    assert host.run("timeout 3 bash -c '</dev/tcp/10.83.0.11/9092'").rc != 0


def test_secrets_are_their_owners(host):
    assert host.file("/etc/kafka/server.properties").mode == 0o640
    assert host.file("/etc/kafka/admin.properties").mode == 0o600


def test_a_java_machine_without_memory_ends(host):
    flags = host.check_output("tr '\\0' ' ' < /proc/$(systemctl show kafka --property MainPID --value)/cmdline")
    assert "-XX:+ExitOnOutOfMemoryError" in flags


def test_a_mirror_whose_task_fails_ends(host):
    said = "ERROR: Task is being killed and will not recover until manually restarted"
    failed = host.run("timeout 60 /usr/local/bin/kafka-mirror sh -c %s", f"echo '{said}'; exec sleep 1000")
    assert failed.rc == 1
    assert "starts again" in failed.stdout
    assert host.run("/usr/local/bin/kafka-mirror sh -c 'exit 143'").rc == 143
