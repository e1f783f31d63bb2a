"""The keeper's memory: the stamps that the ledger has of the last days, read when the service starts."""

from __future__ import annotations

import logging
from collections.abc import Callable

from workloads.common.consumer import Receiver
from workloads.common.errors import NonRetriableError, UnknownSchemaError
from workloads.common.kafka import Bus, partitions
from workloads.common.ledger import TOPIC
from workloads.common.times import tai_now, tai_to_utc
from workloads.data_backbone.keeper import REMEMBERED_SECONDS, Keeper

LOG = logging.getLogger(__name__)
GROUP = "data-backbone-keeper"


def remember(keeper: Keeper, bus: Bus, beat: Callable[[], None]) -> int:
    """Give the keeper the stamps of the last days; return how many. `beat` is called as it goes on.

    Raises
    ------
    RetriableError
        If Kafka or the registry does not answer: a keeper without its memory would stamp what is stamped.
    """
    number, wanted = 0, partitions(bus.settings, bus.site, GROUP, TOPIC)
    begin = tai_to_utc(tai_now() - REMEMBERED_SECONDS)
    receiver = Receiver(bus.settings, bus.site, GROUP, partitions=wanted, since=begin)
    try:
        for message in receiver.to_the_end():
            beat()
            try:
                keeper.recall(bus.codec.decode(TOPIC, message.value))
            except (NonRetriableError, UnknownSchemaError, ValueError, KeyError, TypeError) as error:
                LOG.warning("%s: a record that is no stamp: %r", TOPIC, error)
            else:
                number += 1
    finally:
        receiver.close()
    return number
