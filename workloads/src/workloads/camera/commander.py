"""The observatory's side of a device: sends commands and waits for their acknowledgements, as any client does."""

from __future__ import annotations

import logging

from workloads.common.errors import NonRetriableError, RetriableError
from workloads.common.kafka import Bus
from workloads.ocs.interfaces import Interface
from workloads.ocs.remote import STATES, Remote, RemoteError
from workloads.ocs.surroundings import Surroundings

LOG = logging.getLogger(__name__)
_IDENTITY = "camera@control"
_STANDBY = next(number for number, name in STATES.items() if name == "STANDBY")


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
        self.device = device
        options = bus.settings.kafka_options(bus.site)
        brokers = options.pop("bootstrap.servers")
        registry = bus.settings.service("schema-registry")
        at = Surroundings(brokers, registry, security=options, identity=_IDENTITY, group="ocs-camera")
        try:
            self.remote = Remote(Interface.read(device), at).start()
        except RemoteError as error:
            raise RetriableError(f"{device}: {error}") from error

    def wait_alive(self, timeout: float) -> None:
        """Wait until it beats and is in STANDBY.

        Raises
        ------
        RetriableError
            If it does not in `timeout` seconds.
        """
        try:
            self.remote.wait_for_next("heartbeat", timeout)
            self.remote.wait_for("summaryState", timeout, summaryState=_STANDBY)
        except RemoteError as error:
            raise RetriableError(f"{error}; is its Job running?") from error

    def command(self, name: str, timeout: float = 60.0, **parameters: str) -> None:
        """Send a command and wait until it is complete.

        Raises
        ------
        NonRetriableError
            If the device refuses it.
        RetriableError
            If no answer comes in time.
        """
        words = [f"{key}={value}" for key, value in parameters.items()]
        try:
            answer = self.remote.command(name, *words, timeout=timeout)
        except RemoteError as error:
            raise RetriableError(str(error)) from error
        if answer.complete:
            LOG.info("%s %s: complete", self.device, name)
            return
        kind = RetriableError if answer.name == "NOACK" else NonRetriableError
        raise kind(f"{self.device} {name}: {answer.name}: {answer.result}")
