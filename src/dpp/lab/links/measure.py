"""What a circuit really carries, measured between its two ends with raw frames: no address, route or router is needed.

The rate is read from the spread of short trains sent back to back, so that a measurement neither fills the circuit's
queue nor disturbs those who use it.
"""

from __future__ import annotations

import socket
import statistics
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from pydantic import BaseModel, Field

from dpp.adapters.vantage import Vantage
from dpp.lab import wires
from dpp.lab.links.shaping import burst_bytes
from dpp.lab.links.state import Condition, Wire

_ETHERTYPE = 0x88B5  # set aside for local experiments
_BROADCAST = b"\xff" * 6
_FRAME = 1514
_TRAINS = 5
_TRAIN_SHARE = 0.6
"""Length of a train beyond the burst, as a share of the smallest queue (1 MiB), so that nothing of it is dropped."""
_PROBES = 7
_PACKET_QDISC_BYPASS, _SOL_PACKET = 20, 263
_SO_RCVBUFFORCE, _SO_TIMESTAMPNS = 33, 35
_TIMESTAMP = struct.Struct("=qq")
_HEADER = struct.Struct("!BIH")
_PROBE, _ECHO, _TRAIN = 1, 2, 3


class Measurement(BaseModel):
    """What was measured on a circuit; null where nothing came through."""

    circuit: str
    declared: Condition
    rate_mbps: tuple[float | None, float | None] = Field(description="From a to b and from b to a.")
    rtt_ms: float | None = Field(description="Smallest round trip.")
    probes_lost: int = Field(description=f"Of {_PROBES} round trips.")


def measure(wire: Wire, declared: Condition) -> Measurement:
    """Measure rate both ways and round trip between the ends of a circuit; takes one to three seconds."""
    with _socket(wire, 0) as near, _socket(wire, 1) as far:
        trips = list(_round_trips(near, far, declared))
        rates = (_rate(near, far, declared), _rate(far, near, declared))
    return Measurement(
        circuit=wire.circuit.name,
        declared=declared,
        rate_mbps=rates,
        rtt_ms=round(min(trips), 2) if trips else None,
        probes_lost=_PROBES - len(trips),
    )


@contextmanager
def _socket(wire: Wire, end: int) -> Iterator[socket.socket]:
    near = wire.ends[end]
    place = Vantage(near.host, wires.NAMESPACES / wire.router(near))
    with place.run(_open, near.interface) as opened:
        yield opened


def _open(interface: str) -> socket.socket:
    raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETHERTYPE))
    raw.bind((interface, _ETHERTYPE))
    raw.setsockopt(_SOL_PACKET, _PACKET_QDISC_BYPASS, 1)  # the router's own traffic classes are not the circuit
    raw.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 8 << 20)
    raw.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)  # when it came, not when this thread got to it
    return raw


def _frame(kind: int, number: int, length: int = 64) -> bytes:
    head = _BROADCAST + b"\x02\0\0\0\0\1" + struct.pack("!H", _ETHERTYPE) + _HEADER.pack(kind, number, length)
    return head.ljust(length, b"\0")


def _receive(raw: socket.socket, deadline: float) -> tuple[int, int, float] | None:
    """Return kind, number and time of the next frame of another's sending, None after the deadline."""
    while (rest := deadline - time.monotonic()) > 0:
        raw.settimeout(rest)
        try:
            frame, notes, _, address = raw.recvmsg(2048, 64)
        except TimeoutError:
            return None
        if address[2] != socket.PACKET_OUTGOING:
            kind, number, _ = _HEADER.unpack_from(frame, 14)
            seconds, nanoseconds = _TIMESTAMP.unpack(notes[0][2])
            return kind, number, seconds + nanoseconds * 1e-9
    return None


def _round_trips(near: socket.socket, far: socket.socket, declared: Condition) -> Iterator[float]:
    patience = declared.delay_ms * 2e-3 + 0.5
    over = threading.Event()
    thread = threading.Thread(target=_echo, args=(far, over), daemon=True)
    thread.start()
    for number in range(_PROBES):
        deadline, sent = time.monotonic() + patience, time.time()
        near.send(_frame(_PROBE, number))
        while answer := _receive(near, deadline):
            if answer[:2] == (_ECHO, number):
                yield (answer[2] - sent) * 1e3
                break
    over.set()
    thread.join()


def _echo(raw: socket.socket, over: threading.Event) -> None:
    while not over.is_set():
        probe = _receive(raw, time.monotonic() + 0.2)
        if probe and probe[0] == _PROBE:
            raw.send(_frame(_ECHO, probe[1]))


def _rate(source: socket.socket, sink: socket.socket, declared: Condition) -> float | None:
    burst = burst_bytes(declared.rate_mbps) // _FRAME + 1
    frames = burst + int(_TRAIN_SHARE * (1 << 20)) // _FRAME
    found = [rate for number in range(_TRAINS) if (rate := _train(source, sink, number, (burst, frames), declared))]
    return round(statistics.median(found), 1) if found else None


def _train(
    source: socket.socket, sink: socket.socket, number: int, size: tuple[int, int], declared: Condition
) -> float | None:
    """Send one train of `size` (frames that may pass as a burst, all frames) and return the rate that it left at."""
    burst, frames = size
    times: list[float] = []
    patience = declared.delay_ms * 1e-3 + frames * _FRAME * 8e-6 / declared.rate_mbps + 0.5

    def listen() -> None:
        deadline = time.monotonic() + patience
        while len(times) < frames and (got := _receive(sink, deadline)):
            if got[0] == _TRAIN and got[1] == number:
                times.append(got[2])

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    frame = _frame(_TRAIN, number, _FRAME)
    for _ in range(frames):
        source.send(frame)
    thread.join()
    if len(times) < burst + 20 or times[-1] <= times[burst]:
        return None
    return (len(times) - 1 - burst) * _FRAME * 8e-6 / (times[-1] - times[burst])
