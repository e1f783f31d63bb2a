"""An independent consumer: alerts with the stock schemas, and the ledger, into the night's folder, as they come."""

from __future__ import annotations

import hashlib
import json
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any, TextIO

from workloads.broker.__main__ import stock_schemas
from workloads.common.aside import is_for
from workloads.common.avro import Codec
from workloads.common.consume import readable
from workloads.common.consumer import Receiver
from workloads.common.kafka import partitions
from workloads.common.ledger import TOPIC as LEDGER
from workloads.common.received import Received
from workloads.common.settings import Settings
from workloads.common.times import tai_now

ALERTS = "alerts"
_KEPT = ("diaSourceId", "visit", "detector", "x", "y", "ra", "dec", "snr", "psfFlux", "diaObjectId")


class Follower:
    """Writes what it receives.

    Parameters
    ----------
    folder
        The night's folder.
    cutouts
        How many alerts keep their cutouts.
    """

    def __init__(self, folder: Path, cutouts: int = 60) -> None:
        self._folder, self._cutouts = folder, cutouts
        self._schemas = stock_schemas()
        self.alerts, self.stamps, self.broken = 0, 0, 0

    def alert(self, message: Received, received: float, output: TextIO) -> None:
        """Decode one packet and write its line; `received` is TAI seconds."""
        line: dict[str, Any] = {
            "received": received,
            "sha256": hashlib.sha256(message.value).hexdigest(),
            "bytes": len(message.value),
        }
        try:
            schema = self._schemas[int.from_bytes(message.value[1:5], "big")]
            packet = schema.deserialize(message.value[5:])
            line |= {name: packet["diaSource"].get(name) for name in _KEPT}
            line["history"] = len(packet["prvDiaSources"] or [])
            if self.alerts < self._cutouts:
                self._keep_cutouts(packet)
        except Exception as error:  # noqa: BLE001 - a packet that does not decode is a finding
            self.broken += 1
            line["error"] = f"{type(error).__name__}: {error}"
        self.alerts += 1
        output.write(json.dumps(line) + "\n")

    def _keep_cutouts(self, packet: dict[str, Any]) -> None:
        folder = self._folder / "cutouts"
        folder.mkdir(exist_ok=True)
        for kind in ("Science", "Template", "Difference"):
            data = packet[f"cutout{kind}"]
            if data:
                (folder / f"{packet['diaSourceId']}-{kind.lower()}.fits").write_bytes(data)


def follow(folder: Path) -> int:
    """Follow until SIGTERM; a line of progress goes to standard output every second that has news."""
    settings = Settings.load()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    site = settings.site.site
    # By partition: a group without commits would begin at the newest record again after a restart of Kafka.
    group = f"night-report-{time.time_ns()}"
    wanted = partitions(settings, site, group, ALERTS, LEDGER)
    receiver = Receiver(settings, site, group, partitions=wanted, start="latest")
    codec = Codec({LEDGER: settings.site.topics[LEDGER].name})
    follower = Follower(folder)
    said = ""
    with (folder / "alerts.jsonl").open("a") as alerts, (folder / "ledger.jsonl").open("a") as ledger:
        receiver.receive(timeout=5.0)
        (folder / "following").touch()
        while not stop.is_set():
            messages = [message for message in receiver.receive(timeout=0.5) if is_for(message, group)]
            for message in messages:
                if message.role == ALERTS:
                    follower.alert(message, tai_now(), alerts)
            for _, stamp in readable(codec, (message for message in messages if message.role == LEDGER)):
                ledger.write(json.dumps(stamp) + "\n")
                follower.stamps += 1
            alerts.flush()
            ledger.flush()
            news = json.dumps({"alerts": follower.alerts, "stamps": follower.stamps, "broken": follower.broken})
            if news != said:
                print(news, flush=True)
                said = news
    receiver.close()
    return 0


def wait_following(folder: Path, seconds: float) -> bool:
    """Tell whether the follower of a folder has its partitions, within `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if (folder / "following").exists():
            return True
        time.sleep(0.2)
    return False


if __name__ == "__main__":
    sys.exit(follow(Path(sys.argv[1])))
