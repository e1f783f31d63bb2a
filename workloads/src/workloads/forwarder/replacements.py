"""Hears from the archive which copies are bad, and sends good ones in their place."""

from __future__ import annotations

from collections.abc import Sequence

from workloads.common.consume import Delivery
from workloads.forwarder.forward import Forwarder

TOPIC, GROUP = "bad-replicas", "forwarder-replacements"


def take(forwarder: Forwarder, requests: Sequence[Delivery]) -> None:
    """Take requests; the same one again does no harm.

    Raises
    ------
    RetriableError
        If a store that may have a good copy cannot answer.
    """
    for request in requests:
        forwarder.replace(request.content["site"], request.content["key"], request.content["sha256"])
