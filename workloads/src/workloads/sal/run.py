"""A device as a process: it ends with ``exitControl``, at SIGTERM, or beside a twin."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial

from workloads.common.aside import TOPIC as SET_ASIDE
from workloads.common.consume import Loop, ToTopic
from workloads.common.errors import RetriableError
from workloads.common.serve import Health, Stop, run_together
from workloads.sal.device import Device
from workloads.sal.interfaces import COMMAND
from workloads.sal.logs import LogEvents
from workloads.sal.twins import Twins

LOG = logging.getLogger(__name__)
HEARTBEAT_SECONDS = 1.0
_FAILED = 7


def run_device(device: Device, loops: Mapping[str, Callable[[], None]], health: Health, stop: Stop) -> int:
    """Run a device and its other loops until it is over, and return the exit code of its process.

    Raises
    ------
    NonRetriableError
        If a twin is alive.
    """
    link = device.link
    topics = [topic for name, topic in link.component.topics.items() if name.startswith(COMMAND)]
    receiver = link.receiver("commands", topics)
    aside = ToTopic(link.bus, receiver, link.bus.sender(SET_ASIDE))
    taking = Loop(receiver, {topic.role: link.decode for topic in topics}, device.commands.take, aside)
    device.announce_log_level()
    twins, logs = Twins(link), LogEvents(link)
    twins.require_none()
    logging.getLogger().addHandler(logs)

    def obey() -> None:
        try:
            device.announce()
            health.ready()
            while not (stop or device.offline):
                health.beat("commands")
                taking.turn(timeout=0.2)
        finally:
            device.commands.end()

    try:
        failed = run_together(
            stop,
            {
                "commands": obey,
                "heartbeat": partial(_beat, device, twins, health, stop),
                "log": partial(_log, logs, health, stop),
                **loops,
            },
        )
    finally:
        logging.getLogger().removeHandler(logs)
        twins.close()
    return 0 if device.offline and not failed else _FAILED


def _beat(device: Device, twins: Twins, health: Health, stop: Stop) -> None:
    heartbeat = device.link.event("heartbeat")
    while not stop:
        health.beat("heartbeat")
        with suppress(RetriableError):  # Kafka is away: the next one says as much
            heartbeat.write(force=True)
            device.link.again()
            twins.watch()
        stop.wait(HEARTBEAT_SECONDS)


def _log(logs: LogEvents, health: Health, stop: Stop) -> None:
    while not stop:
        health.beat("log")
        logs.write(0.5)
