"""The keeper's memory: the stamps that the ledger has of the last days, read when the service starts."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from workloads.common.errors import NonRetriableError, RetriableError, UnknownSchemaError
from workloads.common.kafka import Bus
from workloads.common.ledger import TOPIC
from workloads.common.settings import Settings
from workloads.common.times import tai_now, tai_to_utc
from workloads.data_backbone.keeper import REMEMBERED_SECONDS, Keeper

LOG = logging.getLogger(__name__)
GROUP = "data-backbone-keeper"
_TIMEOUT_SECONDS, _BATCH = 30.0, 1000


def remember(keeper: Keeper, bus: Bus, beat: Callable[[], None]) -> int:
    """Give the keeper the stamps of the last days; return how many. `beat` is called as it goes on.

    Raises
    ------
    RetriableError
        If Kafka or the registry does not answer: a keeper without its memory would stamp what is stamped.
    """
    number = 0
    for value in _since(bus.settings, bus.site, tai_to_utc(tai_now() - REMEMBERED_SECONDS)):
        beat()
        try:
            keeper.recall(bus.codec.decode(TOPIC, value))
        except (NonRetriableError, UnknownSchemaError, ValueError, KeyError, TypeError) as error:
            LOG.warning("%s: a record that is no stamp: %r", TOPIC, error)
        else:
            number += 1
    return number


def _since(settings: Settings, site: str, begin: float) -> Iterator[bytes]:
    """Yield the committed records of the ledger from `begin` (Unix seconds) to its present end."""
    options: dict[str, Any] = {
        "group.id": GROUP,
        "enable.auto.commit": False,
        "enable.partition.eof": True,
        "isolation.level": "read_committed",
        "auto.offset.reset": "earliest",
    }
    consumer = Consumer(settings.kafka_options(site) | options)
    topic = settings.read_topic(TOPIC, site, GROUP)
    try:
        wanted = [TopicPartition(topic, 0, int(begin * 1000))]  # one partition, as the contract says
        consumer.assign(consumer.offsets_for_times(wanted, _TIMEOUT_SECONDS))
        while messages := consumer.consume(_BATCH, _TIMEOUT_SECONDS):
            for message in messages:
                if (error := message.error()) is None:
                    yield bytes(message.value() or b"")
                elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - librdkafka names its own codes so
                    return
                else:
                    raise RetriableError(f"{topic}, its last days: {error.str()}")
        raise RetriableError(f"{topic}, its last days: Kafka gives nothing in {_TIMEOUT_SECONDS:g} s")
    except KafkaException as exception:
        raise RetriableError(f"{topic}, its last days: {exception.args[0].str()}") from exception
    finally:
        consumer.close()
