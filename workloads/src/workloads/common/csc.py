"""A device on Kafka: its commands, acknowledgements, events, heartbeat and the check for a twin."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from workloads.common.aside import TOPIC as SET_ASIDE
from workloads.common.consume import Delivery, Loop, ToTopic, avro, readable
from workloads.common.device import Command, Device
from workloads.common.errors import NonRetriableError, RetriableError
from workloads.common.kafka import Bus, Receiver, Sender
from workloads.common.serve import Health, Stop, run_together
from workloads.common.times import tai_now

LOG = logging.getLogger(__name__)
HEARTBEAT_SECONDS = 1.0
TWIN_HEARTBEATS = 5
COMMAND_SECONDS = 60.0
"""A command that waited longer, in Kafka or here, is not carried out: whoever sent it has given it up."""
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
        self.bus = bus
        self._sender: Sender = bus.sender(self.event_topic)
        self._lock = threading.Lock()
        self._number = 0

    def emit(self, event: str, content: Mapping[str, object]) -> None:
        """Send one event and wait until Kafka has it."""
        self.emit_all(event, [content])

    def emit_all(self, event: str, contents: Sequence[Mapping[str, object]]) -> None:
        """Send events of one name, in their order, and wait until Kafka has all of them."""
        with self._lock:
            for content in contents:
                self._number += 1
                now = tai_now()
                record = sal_header(self.index, self._number, self.identity, now) | {
                    "event": event,
                    "content": {name: str(value) for name, value in content.items()},
                }
                self.bus.publish(self._sender, self.event_topic, record, key=self.identity)
            self._sender.flush()

    def assert_alone(self) -> None:
        """Listen for five heartbeats and refuse to start beside a twin of the same name and index.

        Raises
        ------
        NonRetriableError
            If a twin beats.
        """
        receiver = self.bus.receiver(
            f"{self.name}-twin-check-{os.getpid()}-{time.time_ns()}", self.event_topic, start="latest"
        )
        begun = tai_now()
        deadline = time.time() + TWIN_HEARTBEATS * HEARTBEAT_SECONDS
        try:
            while time.time() < deadline:
                for _, record in readable(self.bus.codec, receiver.receive(timeout=0.5)):
                    fresh = record["private_sndStamp"] > begun
                    if fresh and record["event"] == "heartbeat" and record["private_identity"] == self.identity:
                        raise NonRetriableError(
                            f"{self.identity}: another one is alive (process {record['private_origin']}); stop it with exitControl first"
                        )
        finally:
            receiver.close()


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


class Commands:
    """Carries out the commands that were sent to a device since it began, each at most once.

    Parameters
    ----------
    device
        The device.
    """

    def __init__(self, device: Device) -> None:
        self._device, self._begun = device, tai_now()
        self._offset = -1

    def take(self, deliveries: Sequence[Delivery]) -> None:
        """Carry commands out, or refuse them; the commander has an answer in either case."""
        for delivery in deliveries:
            record = delivery.content
            command = Command(
                record["command"], record["parameters"], record["private_seqNum"], record["private_identity"]
            )
            if refusal := self._refusal(delivery.message.offset, record["private_sndStamp"]):
                self._device.refuse(command, refusal)
            else:
                self._offset = delivery.message.offset
                self._device.command(command)

    def _refusal(self, offset: int, sent: float) -> str:
        """Return why a command is not carried out; empty if it is (DMS-REQ-0297: nothing spurious after a power-up)."""
        age = tai_now() - sent
        if offset <= self._offset:
            return f"it was begun, and Kafka did not take what came of it; the state is {self._device.state.name}"
        if not sent >= self._begun:
            return f"sent {self._begun - sent:.1f} s before this device began; send it again if it is still wanted"
        if age > COMMAND_SECONDS:
            return f"sent {age:.1f} s ago, expected at most {COMMAND_SECONDS:g} s; send it again if it is still wanted"
        return ""


def run_device(
    device: Device,
    transport: Transport,
    commands: Receiver,
    loops: Mapping[str, Callable[[], None]],
    health: Health,
    stop: Stop,
) -> int:
    """Run a device and its other loops until ``exitControl`` or SIGTERM and return the exit code of its process."""
    set_aside = ToTopic(transport.bus, commands, transport.bus.sender(SET_ASIDE))
    taking = Loop(commands, avro(transport.bus, transport.command_topic), Commands(device).take, set_aside)

    def obey() -> None:
        device.begin()
        health.ready()
        while not (stop or device.offline):
            health.beat("commands")
            taking.turn(timeout=0.2)

    failed = run_together(stop, {"commands": obey, "heartbeat": partial(_beat, transport, stop), **loops})
    return 0 if device.offline and not failed else _FAILED


def _beat(transport: Transport, stop: Stop) -> None:
    while not stop.wait(HEARTBEAT_SECONDS):
        try:
            transport.emit("heartbeat", {})
        except RetriableError as error:
            LOG.warning("heartbeat not sent: %s", error)
