"""Numbered UDP packets from one place to another, and what became of them."""

from __future__ import annotations

import contextlib
import itertools
import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from typing import Self

from dpp.adapters.vantage import Vantage

_PORT = 7007


@dataclass
class Stream:
    """A steady stream of probes; use as a context manager, then ask for the gap."""

    source: Vantage
    sink: Vantage
    address: str
    interval: float = 0.01
    arrived: list[int] = field(default_factory=list)
    sent: int = 0

    def __enter__(self) -> Self:
        self._over = threading.Event()
        self._receiver = self.sink.run(self._bound)
        self._sender = self.source.run(socket.socket, socket.AF_INET, socket.SOCK_DGRAM)
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._receive, self._send)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()
        self._receiver.close()
        self._sender.close()

    def lost_in_a_row(self) -> int:
        """Return the length of the longest run of probes that were sent and did not arrive, up to the last that did."""
        return max((later - sooner - 1 for sooner, later in itertools.pairwise(sorted(self.arrived))), default=0)

    def _bound(self) -> socket.socket:
        opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        opened.bind((self.address, _PORT))
        opened.settimeout(0.1)
        return opened

    def _send(self) -> None:
        due = time.monotonic()
        while not self._over.is_set():
            with contextlib.suppress(OSError):  # no route at the moment: lost like any other
                self._sender.sendto(struct.pack("!I", self.sent), (self.address, _PORT))
            self.sent += 1
            due += self.interval
            time.sleep(max(0, due - time.monotonic()))

    def _receive(self) -> None:
        while not self._over.is_set():
            try:
                packet = self._receiver.recv(64)
            except TimeoutError:
                continue
            self.arrived.append(struct.unpack("!I", packet)[0])
