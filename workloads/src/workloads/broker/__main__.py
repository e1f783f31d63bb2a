"""Run the five groups; each keeps receipts in the object store, the first one the packets as well.

Packets are decoded with the stock `lsst.alert.packet` schemas, not with anything of this project.
"""

from __future__ import annotations

import hashlib
import io
import json
import sys
import time
import zipfile
from collections.abc import Sequence
from functools import partial
from typing import Any

from lsst.alert.packet import Schema
from lsst.alert.packet.schemaRegistry import SchemaRegistry
from prometheus_client import Counter

from workloads.broker.groups import BUCKET, GROUPS, receipts
from workloads.common import log
from workloads.common.consume import Delivery, Loop
from workloads.common.consumer import Receiver
from workloads.common.received import Received
from workloads.common.s3 import Store
from workloads.common.serve import GRACE_SECONDS, Health, Stop, run_together, serve_health
from workloads.common.settings import Settings

TOPIC = "alerts"
LOG = log.configure("broker")
RECEIVED = Counter("broker_received", "Alerts received", ["group"])
BROKEN = Counter("broker_broken", "Alerts that could not be decoded", ["group"])


class Group:
    """One consumer group.

    Parameters
    ----------
    name
        Its name.
    receiver, store
        Where alerts come from and receipts go.
    schemas
        Stock schemas by the id in a packet's header.
    keep_packets
        Whether the packets themselves are kept.
    """

    def __init__(
        self, name: str, receiver: Receiver, store: Store, schemas: dict[int, Schema], *, keep_packets: bool
    ) -> None:
        self._name, self._receiver, self._store, self._schemas, self._keep = (
            name,
            receiver,
            store,
            schemas,
            keep_packets,
        )

    def run(self, stop: Stop, health: Health) -> None:
        """Receive until told to stop; offsets are committed when the batch is kept."""
        loop = Loop(self._receiver, {TOPIC: lambda _: None}, self._keep_batch, self._set_aside, most=2000)
        loop.run(stop, health, self._name, timeout=2.0)

    def _keep_batch(self, deliveries: Sequence[Delivery]) -> None:
        messages = [delivery.message for delivery in deliveries]
        now = time.time()
        checked = [self.check(message, now) for message in messages]
        RECEIVED.labels(self._name).inc(len(checked))
        BROKEN.labels(self._name).inc(sum("error" in receipt for receipt in checked))
        stem = self._put_receipts(messages[0], now, checked)
        if self._keep:
            buffer = io.BytesIO()
            with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
                for message in messages:
                    archive.writestr(f"{message.partition}-{message.offset}.avro", message.value)
            self._store.put(BUCKET, f"{self._name}/{stem}.zip", buffer.getvalue())

    def _put_receipts(self, first: Received, now: float, checked: list[dict[str, Any]]) -> str:
        """Store receipts under the place of the first message, and return what their keys have in common."""
        stem = f"{time.strftime('%Y%m%d', time.gmtime(now))}/{first.partition}-{first.offset:012d}"
        lines = "".join(json.dumps(receipt) + "\n" for receipt in checked)
        self._store.put(BUCKET, f"{receipts(self._name)}{stem}.jsonl", lines.encode())
        return stem

    def _set_aside(self, message: Received, _: Any, reason: str, __: str, ___: int) -> bool:
        """Keep a receipt that says why there is no other: a broker has no part in the facility's own topics."""
        LOG.error("%s: %d at %d not kept: %s", self._name, message.partition, message.offset, reason)
        now = time.time()
        self._put_receipts(message, now, [self._receipt(message, now) | {"error": reason}])
        return False

    @staticmethod
    def _receipt(message: Received, now: float) -> dict[str, Any]:
        return {
            "partition": message.partition,
            "offset": message.offset,
            "sha256": hashlib.sha256(message.value).hexdigest(),
            "received": now,
        }

    def check(self, message: Received, now: float) -> dict[str, Any]:
        """Decode a packet and return its receipt; `now` is UTC seconds."""
        receipt = self._receipt(message, now)
        try:
            schema = self._schemas[int.from_bytes(message.value[1:5], "big")]
            with io.BytesIO(message.value[5:]) as body:
                alert = schema.deserialize(body.read())
            return receipt | {
                "diaSourceId": alert["diaSourceId"],
                "visit": alert["diaSource"]["visit"],
                "detector": alert["diaSource"]["detector"],
            }
        except Exception as error:  # noqa: BLE001 - whatever is wrong with a packet is a fact to keep, not a reason to stop
            return receipt | {"error": f"{type(error).__name__}: {error}"}


def stock_schemas() -> dict[int, Schema]:
    """Return the stock schemas by the id that packets carry: 100 * major + minor."""
    registry = SchemaRegistry.all_schemas_from_filesystem()
    found = {}
    for version in registry.known_versions:
        major, minor = version.split(".")
        found[100 * int(major) + int(minor)] = registry.get_by_version(version)
    return found


def main() -> int:
    """Run the service."""
    settings = Settings.load()
    site = settings.site.site
    schemas = stock_schemas()
    health, stop = Health(), Stop(GRACE_SECONDS)
    serve_health(health)
    loops = {}
    for number, name in enumerate(GROUPS):
        group = Group(
            name,
            Receiver(settings, site, name, [TOPIC]),
            Store(settings, site, BUCKET),
            schemas,
            keep_packets=number == 0,
        )
        loops[name] = partial(group.run, stop, health)
    health.ready()
    return run_together(stop, loops)


if __name__ == "__main__":
    sys.exit(main())
