"""One site's Kafka as the workloads use it, and what they ask it about its topics."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient

from workloads.common.avro import Codec
from workloads.common.consumer import Receiver
from workloads.common.errors import AwayError
from workloads.common.producer import Sender
from workloads.common.received import TIMEOUT_SECONDS
from workloads.common.registry import RegistryClient
from workloads.common.settings import Settings


def partitions(settings: Settings, site: str, group: str, *roles: str) -> list[tuple[str, int]]:
    """Return all partitions of some topics: what a consumer takes that must not lose its place when Kafka restarts."""
    topics = {role: settings.read_topic(role, site, group) for role in roles}
    admin = AdminClient(settings.kafka_options(site))
    try:
        known = admin.list_topics(timeout=TIMEOUT_SECONDS).topics
    except KafkaException as exception:
        raise AwayError(f"Kafka of {site}, its topics: {exception.args[0].str()}") from exception
    if missing := [topic for topic in topics.values() if topic not in known]:
        raise AwayError(f"Kafka of {site}: no topic {', '.join(missing)}; expected from role kafka_broker")
    return [(role, number) for role, topic in topics.items() for number in sorted(known[topic].partitions)]


def held(settings: Settings, site: str, group: str) -> set[tuple[str, int]]:
    """Return the partitions that members of a group have at this moment."""
    client = AdminClient(settings.kafka_options(site))  # the answer goes with it
    try:
        [answer] = client.describe_consumer_groups([group], request_timeout=TIMEOUT_SECONDS).values()
        members = answer.result(timeout=TIMEOUT_SECONDS).members
    except KafkaException as exception:
        raise AwayError(f"Kafka of {site}, group {group}: {exception.args[0].str()}") from exception
    return {(str(one.topic), int(one.partition)) for member in members for one in member.assignment.topic_partitions}


def topic_identity(settings: Settings, site: str, group: str, role: str) -> str:
    """Return what tells a topic from one of the same name that was deleted: offsets of the two mean different records."""
    name = settings.read_topic(role, site, group)
    client = AdminClient(settings.kafka_options(site))  # the answer goes with it
    try:
        [answer] = client.describe_topics(TopicCollection([name])).values()
        return str(answer.result(timeout=TIMEOUT_SECONDS).topic_id)
    except KafkaException as exception:
        raise AwayError(f"Kafka of {site}, topic {name}: {exception.args[0].str()}") from exception


class Bus:
    """One site's Kafka with the codec of the site's registry: what most services hold.

    Parameters
    ----------
    settings
        The workload's settings.
    site
        Whose Kafka; by default the site that this runs at.
    """

    def __init__(self, settings: Settings, site: str | None = None) -> None:
        self.settings = settings
        self.site = site or settings.site.site

    @cached_property
    def codec(self) -> Codec:
        """What encodes and decodes records; the registry is asked where the contract calls it."""
        site = self.settings.site
        names = {role: topic.name for role, topic in site.topics.items()}
        called = "schema-registry" in site.services
        return Codec(names, RegistryClient(self.settings.service("schema-registry")) if called else None)

    def sender(self, *roles: str, transactional_id: str | None = None) -> Sender:
        """Return a producer for topics."""
        return Sender(self.settings, self.site, *roles, transactional_id=transactional_id)

    def sender_at_home(self, role: str) -> Sender:
        """Return a producer for a topic at the site where it is written."""
        topic = self.settings.site.topics.get(role)
        return Sender(self.settings, topic.written_at if topic and topic.written_at else self.site, role)

    def receiver(self, group: str, *roles: str, start: str = "earliest") -> Receiver:
        """Return a consumer of topics."""
        return Receiver(self.settings, self.site, group, roles, start=start)

    def publish(
        self, sender: Sender, role: str, record: dict[str, Any], *, key: str = "", partition: int | None = None
    ) -> None:
        """Encode and send one record."""
        sender.send(role, self.codec.encode(role, record), key=key, partition=partition)
