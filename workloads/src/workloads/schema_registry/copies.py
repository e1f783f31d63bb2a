"""Schemas that other sites registered: known here, because records come with the id of the site that they were written at.

What is copied stands in the log of this site: it is known through a cut of the way, and after a restart during one.
"""

from __future__ import annotations

import json
import logging
from typing import Any, Protocol

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, TopicPartition

from workloads.common.errors import RetriableError
from workloads.common.serve import Health, Stop
from workloads.common.settings import Settings
from workloads.schema_registry.log import GROUP, TOPIC
from workloads.schema_registry.store import RegistryError, State, canonical

LOG = logging.getLogger(__name__)
_AWAY_SECONDS = 5.0


class Appender(Protocol):
    """Where changes are written before they count."""

    def append(self, key: dict[str, Any], value: dict[str, Any]) -> None:
        """Write one record and return when it is applied."""


def follow(settings: Settings, site: str, log: Appender, state: State, stop: Stop, health: Health) -> None:
    """Copy what another site registers, whose topics are mirrored to this one, until told to stop."""
    topic = settings.site.topics[TOPIC].name
    options: dict[str, Any] = {"group.id": GROUP, "enable.auto.commit": False, "isolation.level": "read_committed"}
    consumer = Consumer(settings.kafka_options(site) | options)
    consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])  # from its beginning at each start: it is small
    while not stop:
        health.beat(f"log of {site}")
        try:
            message = consumer.poll(1.0)
        except KafkaException as error:
            LOG.warning("schemas of %s: %s", site, error)
            continue
        if message is None:
            continue
        if (problem := message.error()) is not None:
            LOG.warning("schemas of %s: %s", site, problem.str())
            stop.wait(_AWAY_SECONDS)
            continue
        key, value = bytes(message.key() or b""), bytes(message.value() or b"")
        while not stop and not _copied(site, key, value, log, state):
            health.beat(f"log of {site}")
            stop.wait(_AWAY_SECONDS)


def _copied(site: str, key: bytes, value: bytes, log: Appender, state: State) -> bool:
    """Copy one record; False if this site's own Kafka is away."""
    try:
        copy_record(site, key, value, log, state)
    except RetriableError as error:
        LOG.warning("schemas of %s wait: %s", site, error)
        return False
    return True


def copy_record(site: str, key: bytes, value: bytes, log: Appender, state: State) -> None:
    """Write a schema that `site` registered or copied into the own log, unless its id is known; other records are none.

    Raises
    ------
    RetriableError
        If the own log does not take it.
    """
    try:
        name, content = json.loads(key), json.loads(value)
        if name["kind"] not in ("schema", "copy"):
            return
        number = int(content["id"] if name["kind"] == "schema" else name["id"])
        schema = canonical(content["schema"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, RegistryError) as error:
        LOG.warning("schemas of %s: a record that is none: %r", site, error)
        return
    if number not in state.schemas:
        log.append({"kind": "copy", "site": site, "id": number}, {"schema": schema})
    elif state.schemas[number] != schema:
        LOG.error("schema %d: another one here than at %s; records of that site cannot be read", number, site)
