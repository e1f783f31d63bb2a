"""A device of component Test as a process: ``python -m integration.sal_device INDEX``."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from workloads.common import log
from workloads.common.config import ConfigurationFolder
from workloads.common.errors import WorkloadError
from workloads.common.kafka import Bus
from workloads.common.serve import Health, Stop, serve_health
from workloads.common.settings import Settings
from workloads.sal.commands import Obey, Running
from workloads.sal.device import Device
from workloads.sal.interfaces import component
from workloads.sal.link import Link
from workloads.sal.run import run_device
from workloads.sal.states import SummaryState


class Values(BaseModel):
    """What can be configured: in which transitions it fails, and how often it writes telemetry."""

    model_config = ConfigDict(extra="forbid")
    fails: list[str] = []
    telemetry_seconds: float = 0.2


class Test(Device):
    """Does what the commands say, and writes telemetry while ENABLED."""

    def handle_summary_state(self) -> None:
        if self.state is SummaryState.ENABLED:
            ENABLED.set()
        else:
            ENABLED.clear()

    def begin(self, transition: str) -> None:
        self._fail(f"begin {transition}")

    def end(self, transition: str) -> None:
        self._fail(f"end {transition}")

    def _fail(self, where: str) -> None:
        values = self.configuration.values if self.configuration else None
        if isinstance(values, Values) and where in values.fails:
            raise WorkloadError(f"{where} fails, as it was told to")

    def handlers(self) -> dict[str, Obey]:
        return {"wait": self._wait, "fail": self._crash, "fault": self._fault, "setScalars": self._scalars}

    def _wait(self, running: Running) -> str:
        running.limit(running["limit"])
        if running["announced"] > 0:
            running.in_progress(running["announced"])
        running.wait(running["duration"])
        return f"waited {running['duration']:g} s"

    def _crash(self, running: Running) -> None:
        raise ZeroDivisionError(running["reason"])

    def _fault(self, running: Running) -> None:
        self.fault(running["code"], running["report"])

    def _scalars(self, running: Running) -> None:
        self.tell("scalars", running.command.parameters)


ENABLED = threading.Event()


def main() -> int:
    log.configure("test-device")
    link = Link(Bus(Settings.load()), component("Test"), int(sys.argv[1]))
    device = Test(link, ConfigurationFolder(Path(os.environ["DPP_DEVICE_CONFIG"]), "summit", Values))
    health, stop = Health(), Stop(3.0)
    serve_health(health)

    def telemetry() -> None:
        number = 0
        while not stop.wait(0.2):
            if ENABLED.is_set():
                number += 1
                link.telemetry("arrays").write(int0=[number] * 5, double0=[0.5, number])

    return run_device(device, {"telemetry": telemetry}, health, stop)


if __name__ == "__main__":
    sys.exit(main())
