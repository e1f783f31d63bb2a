"""Broken input of every kind, from a seed: messages for topics, objects for stores, requests for the camera's interface."""

from __future__ import annotations

import json
import math
import random
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from confluent_kafka import Producer

from workloads.common import schemas
from workloads.common.avro import Codec, frame

DAY, FIRST = 20200101, 90_000
"""Night and number of exposures that noise speaks of: no camera takes them."""
_TEXTS = (
    "", "\0", "\u03b7\u03c4\u03b1\n", "x" * 5000, "1e999", "../../etc/passwd", "None", "R22_S11:R22_S12", "a:b\\:c::", "MC_S_99999999_999999",
    "MC_O_20200101_090001", "2020-01-01T00:00:00.000", "\u202e\ufeff", "{}", "' OR 1=1 --", "R22_S11",
)  # fmt: skip
_NUMBERS = (0.0, -0.0, -1.0, math.nan, math.inf, -math.inf, 1e308, 5e-324, 1e-9, 2.0**53)
_COUNTS = (0, 1, -1, 2**31 - 1, -(2**31), 7, 100_000)
_KINDS = ("random", "random record", "cut", "flipped", "of another topic", "odd values", "nothing", "long")
NOT_FED = frozenset({"alerts"})
"""What stands in the stream of alerts is for brokers to judge: none but ours may write there."""


class Noise:
    """Makes broken input, the same for the same seed.

    Parameters
    ----------
    names
        What topics are called in Kafka, by role.
    seed
        Of everything that is left to chance.
    """

    def __init__(self, names: Mapping[str, str], seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - no secret
        self._names = {role: name for role, name in names.items() if role not in NOT_FED}
        self._codec = Codec(names)
        self._declared = schemas.topics(names)
        self._number = FIRST

    # -- messages ------------------------------------------------------------------------------------------------------

    def message(self, role: str) -> bytes | None:
        """Return the value of a message for a topic; None is a tombstone."""
        kind = self._random.choice(_KINDS)
        if role not in self._declared or kind in ("random", "long"):
            return self._random.randbytes(200_000 if kind == "long" else self._random.randrange(300))
        if kind == "nothing":
            return None
        if kind == "random record":
            return frame(self._declared[role].id, self._random.randbytes(self._random.randrange(300)))
        if kind == "of another topic":
            role = self._random.choice([other for other in self._declared if other in self._names and other != role])
        record = self._codec.encode(role, self._value(self._declared[role].definition))
        if kind == "cut":
            return record[: self._random.randrange(len(record))]
        if kind == "flipped":
            place = self._random.randrange(len(record))
            return record[:place] + bytes([record[place] ^ (1 << self._random.randrange(8))]) + record[place + 1 :]
        return record

    def _value(self, kind: Any) -> Any:
        """Return an odd value of an Avro type."""
        if isinstance(kind, list):
            return self._value(self._random.choice(kind))
        if isinstance(kind, dict) and kind["type"] == "record":
            return {field["name"]: self._value(field["type"]) for field in kind["fields"]}
        if isinstance(kind, dict) and kind["type"] == "array":
            return [self._value(kind["items"]) for _ in range(self._random.randrange(4))]
        if isinstance(kind, dict) and kind["type"] == "map":
            return {self._random.choice(_TEXTS): self._value(kind["values"]) for _ in range(self._random.randrange(4))}
        if isinstance(kind, dict):
            return self._value(kind["type"])
        choose: dict[str, Callable[[], Any]] = {
            "string": lambda: self._random.choice(_TEXTS),
            "bytes": lambda: self._random.randbytes(20),
            "double": lambda: self._random.choice(_NUMBERS),
            "float": lambda: self._random.choice(_NUMBERS[:6]),
            "int": lambda: self._random.choice(_COUNTS),
            "long": lambda: self._random.choice((*_COUNTS, 2**62)),
            "boolean": lambda: self._random.random() < 0.5,
            "null": lambda: None,
        }
        return choose[kind]()

    def feed(self, producer: Producer) -> int:
        """Write one message to every topic, some with odd keys and headers; return how many."""
        for role, name in self._names.items():
            key = self._random.choice((None, b"", b"\xff\xfe", b"odd", self._random.randbytes(20)))
            headers = self._random.choice(({}, {"for": b"\xff"}, {"": b""}, {"given-back": b"nobody"}))
            producer.produce(name, self.message(role), key=key, headers=list(headers.items()), partition=0)
        producer.flush()
        return len(self._names)

    # -- objects -------------------------------------------------------------------------------------------------------

    def objects(self) -> tuple[str, bytes]:
        """Return key and bytes of an object that is no raw image, or none that anybody can read."""
        self._number += 1
        obs_id = f"MC_S_{DAY}_{self._number:06d}"
        folder = f"LSSTCam/{DAY}/{obs_id}/{obs_id}_"
        names = ("R22_S11.fits", "R00_SG0_guider.fits", "R00_SW0.fits", "R22_S11 (1).fits", "R22_S11.json", "expectedSensors.json",
                 "R99_S99.fits", "\u03b7.fits", ".fits", "R22_S11.fits.gz")  # fmt: skip
        key = self._random.choice([*(folder + name for name in names), f"LSSTCam/odd/{self._number}", f"LSSTCam/{self._number}.fits"])  # fmt: skip
        card = f"{'SIMPLE  =                    T':<80}{'BITPIX  = ' + str(self._random.choice(_COUNTS)):<80}".encode()
        data = (b"", self._random.randbytes(5000), card, card.ljust(2880) * 2, json.dumps({"odd": "\0"}).encode())
        return key, self._random.choice(data)

    # -- the camera ----------------------------------------------------------------------------------------------------

    def request(self) -> bytes:
        """Return what somebody sends to the camera's interface."""
        path = self._random.choice(("/", "/images", "/images/odd", "/images/../../x", "/images/%00/%ff", f"/images/{'x' * 5000}", "/healthz?x"))  # fmt: skip
        verb = self._random.choice(("GET", "DELETE", "POST", "\0", "get"))
        version = self._random.choice(("HTTP/1.1", "HTTP/9.9", "", "\r\n"))
        asked = (
            f"{verb} {path} {version}\r\nContent-Length: {self._random.choice(('', '-1', 'x', '9'))}\r\n\r\n".encode()
        )
        return self._random.choice((asked, self._random.randbytes(300), b""))

    def call(self, port: int) -> None:
        """Send a request to the camera, and go away without an answer or after some bytes of one."""
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 5) as connection:
            connection.sendall(self.request())
            connection.settimeout(0.2)
            connection.recv(100)
