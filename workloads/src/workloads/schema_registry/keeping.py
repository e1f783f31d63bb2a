"""Whether the registry's log is kept as a log of ids must be: for ever, and in one order."""

from __future__ import annotations

from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType

from workloads.common.errors import NonRetriableError, RetriableError
from workloads.common.settings import Settings

POLICY, WANTED = "cleanup.policy", "compact"
_TIMEOUT_SECONDS = 30.0
_REMEDY = "ids would be forgotten and given anew; role kafka_broker sets it (dpp up, or playbooks/kafka_broker.yml)"


def require_kept(settings: Settings, role: str) -> None:
    """Refuse a log that loses records, or that has no one order.

    Raises
    ------
    NonRetriableError
        If that is so; the text is one sentence that says what to do.
    RetriableError
        If Kafka does not say how it keeps the topic.
    """
    site = settings.site.site
    topic = settings.written_topic(role, site)
    admin = AdminClient(settings.kafka_options(site))
    resource = ConfigResource(ResourceType.TOPIC, topic)
    try:
        (answer,) = admin.describe_configs([resource], request_timeout=_TIMEOUT_SECONDS).values()
        policy = answer.result(timeout=_TIMEOUT_SECONDS)[POLICY].value
        partitions = admin.list_topics(topic, timeout=_TIMEOUT_SECONDS).topics[topic].partitions
    except KafkaException as exception:
        error: Any = exception.args[0]
        raise RetriableError(f"topic {topic} of {site}, how it is kept: {error.str()}") from exception
    if complaint := complaint_about(policy, len(partitions)):
        raise NonRetriableError(f"topic {topic} of {site}: {complaint}")


def complaint_about(policy: str | None, partitions: int) -> str:
    """Return what is wrong with how a log is kept; nothing if it is right."""
    if policy != WANTED:
        return f"{POLICY} is {policy or 'not set'}, expected {WANTED}: {_REMEDY}"
    if partitions != 1:
        return f"{partitions} partitions, expected 1: a schema has its id from its place in the log; make it anew"
    return ""
