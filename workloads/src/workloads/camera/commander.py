"""The observatory's side of a device: sends commands and waits for their acknowledgements."""

from __future__ import annotations

import logging
import os
import time

from workloads.common.consume import readable
from workloads.common.csc import sal_header
from workloads.common.device import Ack, SummaryState
from workloads.common.errors import NonRetriableError, RetriableError
from workloads.common.kafka import Bus
from workloads.common.times import tai_now

LOG = logging.getLogger(__name__)


class Commander:
    """Commands one device.

    Parameters
    ----------
    bus
        The Kafka of its site.
    device
        Its name.
    """

    def __init__(self, bus: Bus, device: str) -> None:
        self._bus = bus
        self.device = device
        self.identity = f"ocs-{os.getpid()}"
        self._sender = bus.sender(self._topic("commands"))
        self._events = bus.receiver(
            f"ocs-{device}-{os.getpid()}-{time.time_ns()}", self._topic("events"), start="latest"
        )
        self._number = int(time.time()) % 1_000_000 * 1000
        self.state: SummaryState | None = None

    def _topic(self, what: str) -> str:
        return f"{self.device}-{what}"

    def wait_alive(self, timeout: float) -> None:
        """Wait for a heartbeat.

        Raises
        ------
        RetriableError
            If none comes in `timeout` seconds.
        """
        deadline = time.time() + timeout
        while time.time() < deadline:
            if any(event == "heartbeat" for event, _ in self._read(0.5)):
                return
        raise RetriableError(f"{self.device}: no heartbeat in {timeout:g} s; is its Job running?")

    def command(self, name: str, timeout: float = 60.0, **parameters: str) -> None:
        """Send a command and wait until it is complete.

        Raises
        ------
        NonRetriableError
            If the device refuses it.
        RetriableError
            If no answer comes in time.
        """
        self._number += 1
        record = sal_header(0, self._number, self.identity, tai_now()) | {"command": name, "parameters": parameters}
        self._bus.publish(self._sender, self._topic("commands"), record, key=self.identity)
        self._sender.flush()
        deadline = time.time() + timeout
        while time.time() < deadline:
            for event, content in self._read(0.5):
                if event != "ack" or content["identity"] != self.identity or int(content["cmdSeqNum"]) != self._number:
                    continue
                code = int(content["ack"])
                if code == Ack.INPROGRESS:
                    deadline = max(deadline, time.time() + float(content["timeout"]))
                elif code == Ack.COMPLETE:
                    LOG.info("%s %s: complete", self.device, name)
                    return
                elif code < 0:
                    raise NonRetriableError(f"{self.device} {name}: {Ack(code).name}: {content['result']}")
        raise RetriableError(f"{self.device} {name}: no answer in {timeout:g} s")

    def _read(self, seconds: float) -> list[tuple[str, dict[str, str]]]:
        found = []
        for _, record in readable(self._bus.codec, self._events.receive(timeout=seconds)):
            if record["event"] == "summaryState":
                self.state = SummaryState(int(record["content"]["summaryState"]))
            found.append((record["event"], record["content"]))
        return found
