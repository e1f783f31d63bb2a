"""A broker that carries records for those who may, refuses others, and is repaired when somebody changed it."""

import json
import re

import pytest

CLIENT = """
import json, sys, uuid
from confluent_kafka import Consumer, KafkaError, Producer
common = {"bootstrap.servers": "svc01.ncsa:9094", "security.protocol": "SASL_SSL", "sasl.mechanism": "SCRAM-SHA-512",
          "sasl.username": "workloads", "sasl.password": sys.argv[1], "ssl.ca.location": "/etc/dpp/tls/ca.crt"}
topic, mark = "lsst-alerts-v11", uuid.uuid4().hex.encode()
producer = Producer({**common, "enable.idempotence": True, "transactional.id": mark.decode()})
producer.init_transactions(30)
producer.begin_transaction()
producer.produce(topic, mark * 2000)
producer.commit_transaction(30)
consumer = Consumer({**common, "group.id": mark.decode(), "auto.offset.reset": "earliest", "isolation.level": "read_committed"})
consumer.subscribe([topic])
found = 0
for _ in range(60):
    message = consumer.poll(1)
    if message is not None and not message.error() and message.value() == mark * 2000:
        found = 1
        break
consumer.close()
refused = []
def report(error, message):
    refused.append(str(error))
stranger = Producer({"bootstrap.servers": "127.0.0.1:9092", "message.timeout.ms": 8000})
stranger.produce("lsst-alerts-v11", b"x", on_delivery=report)
stranger.produce("dpp.raw.arrivals", b"x", on_delivery=report)
stranger.flush(15)
print(json.dumps({"found": found, "local": refused}))
"""


@pytest.fixture(scope="module")
def password(host):
    arguments = host.file("/etc/kafka/format.args").content_string
    return re.search(r"name=workloads,password=(\w+)", arguments)[1]


def kafka(host, command):
    libs = host.check_output("ls -d /opt/kafka/*").split()[-1]
    connection = "--bootstrap-server svc01.ncsa:9094 --command-config /etc/kafka/admin.properties"
    return host.check_output(f"java -Xmx128m -cp '{libs}/*' {command} {connection} 2>/dev/null")


def test_service_runs_and_survives_a_restart(host):
    service = host.service("kafka")
    assert service.is_running
    assert service.is_enabled


def test_records_pass_in_a_transaction_and_strangers_are_refused(host, password):
    result = json.loads(host.check_output("PYTHONPATH=$(ls -d /opt/kafka-client/*) python3 -c %s %s", CLIENT, password))
    assert result["found"] == 1
    refused, accepted = sorted(result["local"])
    assert accepted == "None", "this host may write notifications"
    assert "authorization failed" in refused.lower()


def test_topics_are_as_declared_after_a_drift(host):
    described = kafka(host, "org.apache.kafka.tools.TopicCommand --describe")
    assert re.search(r"Topic: dpp.raw.ingested\s.*PartitionCount: 9\s", described)
    assert re.search(r"Topic: dpp.raw.arrivals\s.*retention.ms=604800000", described)
    assert "auto.create.topics.enable=false" in host.file("/etc/kafka/server.properties").content_string


def test_no_plain_listener_leaves_the_host(host):
    assert not host.socket("tcp://0.0.0.0:9092").is_listening
    assert host.run("timeout 3 bash -c '</dev/tcp/10.83.0.11/9092'").rc != 0


def test_secrets_are_their_owners(host):
    assert host.file("/etc/kafka/server.properties").mode == 0o640
    assert host.file("/etc/kafka/admin.properties").mode == 0o600
