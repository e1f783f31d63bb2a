"""Hears from the archive which copies are bad, and sends good ones in their place."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from workloads.common.errors import NonRetriableError, RetriableError
from workloads.common.kafka import Received, Receiver
from workloads.common.serve import Health, Stop
from workloads.forwarder.forward import Forwarder

LOG = logging.getLogger(__name__)
TOPIC, GROUP = "bad-replicas", "forwarder-replacements"
AWAY_SECONDS = 5.0
"""Pause before what is away is asked again: the archive's Kafka, a store, the registry."""


def hear(
    forwarder: Forwarder, requests: Receiver, decode: Callable[[bytes], dict[str, Any]], stop: Stop, health: Health
) -> None:
    """Take requests until told to stop. The archive's Kafka is far away: a cut of the way to it is no error here."""
    while not stop:
        health.beat(TOPIC)
        try:
            messages = requests.receive(timeout=1.0)
            for message in messages:
                while not stop and not _taken(forwarder, message, decode):
                    health.beat(TOPIC)
                    stop.wait(AWAY_SECONDS)
            if not stop:
                requests.commit(*messages)
        except RetriableError as error:
            LOG.warning("%s: %s", TOPIC, error)
            stop.wait(AWAY_SECONDS)


def _taken(forwarder: Forwarder, message: Received, decode: Callable[[bytes], dict[str, Any]]) -> bool:
    """Take one request; False if what it needs is away. What is no request is named and passed over."""
    try:
        record = decode(message.value)
        forwarder.replace(record["site"], record["key"], record["sha256"])
    except RetriableError as error:
        LOG.warning("%s at offset %d waits: %s", TOPIC, message.offset, error)
        return False
    except (NonRetriableError, ValueError, KeyError, TypeError) as error:
        LOG.error("%s at offset %d: not understood: %r", TOPIC, message.offset, error)  # noqa: TRY400 - the text says it all
    return True
