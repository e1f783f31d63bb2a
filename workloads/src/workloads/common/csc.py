"""A device on Kafka: its commands, acknowledgements, events, heartbeat and the check for a twin."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Mapping

from workloads.common.device import Command, Device
from workloads.common.errors import NonRetriableError
from workloads.common.kafka import Bus, Received, Receiver, Sender
from workloads.common.serve import Health, Stop
from workloads.common.times import tai_now

LOG = logging.getLogger(__name__)
HEARTBEAT_SECONDS = 1.0
TWIN_HEARTBEATS = 5
_FAILED = 7


class Transport:
    """Sends a device's events and reads its commands.

    Parameters
    ----------
    bus
        The Kafka of the device's site.
    name
        Name of the component; its topics are ``NAME-commands`` and ``NAME-events``.
    index
        SAL index.
    """

    def __init__(self, bus: Bus, name: str, index: int = 0) -> None:
        self.name = name
        self.index = index
        self.identity = f"{name}:{index}"
        self.command_topic, self.event_topic = f"{name}-commands", f"{name}-events"
        self._bus = bus
        self._sender: Sender = bus.sender(self.event_topic)
        self._lock = threading.Lock()
        self._number = 0

    def emit(self, event: str, content: Mapping[str, object]) -> None:
        """Send one event and wait until Kafka has it."""
        with self._lock:
            self._number += 1
            now = tai_now()
            record = sal_header(self.index, self._number, self.identity, now) | {
                "event": event,
                "content": {name: str(value) for name, value in content.items()},
            }
            self._bus.publish(self._sender, self.event_topic, record, key=self.identity)
            self._sender.flush()

    def assert_alone(self) -> None:
        """Listen for five heartbeats and refuse to start beside a twin of the same name and index.

        Raises
        ------
        NonRetriableError
            If a twin beats.
        """
        receiver = self._bus.receiver(
            f"{self.name}-twin-check-{os.getpid()}-{time.time_ns()}", self.event_topic, start="latest"
        )
        begun = tai_now()
        deadline = time.time() + TWIN_HEARTBEATS * HEARTBEAT_SECONDS
        try:
            while time.time() < deadline:
                for message in receiver.receive(timeout=0.5):
                    record = self._bus.codec.decode(message.value)
                    fresh = record["private_sndStamp"] > begun
                    if fresh and record["event"] == "heartbeat" and record["private_identity"] == self.identity:
                        raise NonRetriableError(
                            f"{self.identity}: another one is alive (process {record['private_origin']}); stop it with exitControl first"
                        )
        finally:
            receiver.close()

    def command(self, message: Received) -> Command:
        """Return the command in a message."""
        record = self._bus.codec.decode(message.value)
        return Command(record["command"], record["parameters"], record["private_seqNum"], record["private_identity"])


def sal_header(index: int, number: int, identity: str, now: float) -> dict[str, object]:
    """Return the private fields of a SAL record; `now` is TAI seconds."""
    return {
        "salIndex": index,
        "private_sndStamp": now,
        "private_efdStamp": now - 37.0,
        "private_kafkaStamp": now,
        "private_rcvStamp": 0.0,
        "private_seqNum": number,
        "private_origin": os.getpid(),
        "private_revCode": "1",
        "private_identity": identity,
    }


def run_device(device: Device, transport: Transport, commands: Receiver, health: Health, stop: Stop) -> int:
    """Run a device until ``exitControl`` or SIGTERM and return the exit code of its process."""
    beating = threading.Event()
    thread = threading.Thread(target=_beat, args=(transport, beating), name="heartbeat", daemon=True)
    thread.start()
    device.begin()
    try:
        while not (stop or device.offline):
            health.beat()
            for message in commands.receive(timeout=0.2, most=1):
                device.command(transport.command(message))
                commands.commit(message)
    finally:
        beating.set()
        thread.join(2 * HEARTBEAT_SECONDS)
    return 0 if device.offline else _FAILED


def _beat(transport: Transport, stopped: threading.Event) -> None:
    while not stopped.wait(HEARTBEAT_SECONDS):
        try:
            transport.emit("heartbeat", {})
        except Exception:
            LOG.exception("heartbeat not sent")
