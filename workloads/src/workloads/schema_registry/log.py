"""The registry's log: one compacted Kafka topic of the site, read to its end before anything is answered."""

from __future__ import annotations

import json
import logging
import threading
from typing import Any

from workloads.common.consumer import Receiver
from workloads.common.errors import RetriableError
from workloads.common.producer import Sender
from workloads.common.received import Received
from workloads.common.serve import Health, Stop
from workloads.common.settings import Settings
from workloads.schema_registry.store import RegistryError, State

LOG = logging.getLogger(__name__)
TOPIC, GROUP = "schemas", "schema-registry-reader"
KINDS = ("schema", "copy", "mode", "config")


class Log:
    """Writes records and applies what it reads back, so that the state is only ever what Kafka holds.

    Parameters
    ----------
    settings
        Where Kafka is.
    state
        The state to keep up to date.
    """

    def __init__(self, settings: Settings, state: State) -> None:
        site = settings.site.site
        self._state = state
        self._sender = Sender(settings, site, TOPIC)
        self._receiver = Receiver(settings, site, GROUP, partitions=[(TOPIC, 0)])
        self._applied = threading.Condition()
        self._seen: set[str] = set()

    def append(self, key: dict[str, Any], value: dict[str, Any], timeout: float = 20.0) -> None:
        """Write a record and return when it was read back and applied.

        Raises
        ------
        RetriableError
            If Kafka does not take it, or does not give it back in `timeout` seconds.
        """
        token = f"{json.dumps(key, sort_keys=True)}{json.dumps(value, sort_keys=True)}"
        with self._applied:
            self._seen.discard(token)
        self._sender.send(TOPIC, json.dumps(value).encode(), key=json.dumps(key, sort_keys=True))
        self._sender.flush(timeout)
        with self._applied:
            if not self._applied.wait_for(lambda: token in self._seen, timeout):
                raise RetriableError(f"{TOPIC}: a written record did not come back in {timeout:g} s")

    def read(self) -> None:
        """Return once all that stood in the log is applied.

        Raises
        ------
        RetriableError
            As `append`.
        """
        self.append({"kind": "noop", "subject": "", "version": 0}, {})

    def follow(self, stop: Stop, health: Health) -> None:
        """Apply what the log has, and what comes, until told to stop."""
        while not stop:
            health.beat("log")
            try:
                messages = self._receiver.receive(timeout=0.5)
            except RetriableError as error:
                LOG.warning("%s; asking again", error)
                continue
            for message in messages:
                with self._applied:
                    token = applied(self._state, message)
                    self._seen |= {token} if token else set()
                    self._applied.notify_all()


def applied(state: State, message: Received) -> str:
    """Apply one record and return the token by which its writer knows it; what is no record is named and passed over."""
    try:
        key, value = json.loads(message.key or b"{}"), json.loads(message.value or b"{}")
        if key.get("kind") in KINDS:
            state.apply(key, value)
        return f"{json.dumps(key, sort_keys=True)}{json.dumps(value, sort_keys=True)}"
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, RegistryError) as error:
        LOG.error("%s at offset %d: no record of a registry, passed over: %r", TOPIC, message.offset, error)  # noqa: TRY400 - the text says it all
        return ""
