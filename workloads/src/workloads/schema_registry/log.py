"""The registry's log: one compacted Kafka topic of the site, read to its end before anything is answered."""

from __future__ import annotations

import json
import logging
import threading
from typing import Any

from workloads.common.errors import RetriableError
from workloads.common.kafka import Receiver, Sender
from workloads.common.settings import Settings
from workloads.schema_registry.store import State

LOG = logging.getLogger(__name__)
TOPIC, GROUP = "schemas", "schema-registry-reader"


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
        threading.Thread(target=self._follow, name="log", daemon=True).start()
        self.append({"kind": "noop", "subject": "", "version": 0}, {})

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

    def _follow(self) -> None:
        while True:
            try:
                messages = self._receiver.receive(timeout=0.5)
            except RetriableError as error:
                LOG.warning("%s; asking again", error)
                continue
            for message in messages:
                key, value = json.loads(message.key or b"{}"), json.loads(message.value or b"{}")
                with self._applied:
                    if key.get("kind") in ("schema", "mode", "config"):
                        self._state.apply(key, value)
                    self._seen.add(f"{json.dumps(key, sort_keys=True)}{json.dumps(value, sort_keys=True)}")
                    self._applied.notify_all()
