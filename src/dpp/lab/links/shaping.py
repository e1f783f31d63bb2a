"""Queueing disciplines of a circuit's ports: rate by HTB, below it a queue, netem, or nothing at all where it is cut."""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any, NamedTuple

from dpp.adapters.process import Words, run
from dpp.lab.links.state import Condition
from dpp.model.errors import FatalError

_BURST_MS = 2
_SMALLEST_BURST = 65_536 + 4_096  # bytes: one segment as offloading hands it over
_QUEUE_MS = 50
_SMALLEST_QUEUE = 1 << 20  # bytes
_NETEM_QUEUE = 100_000  # packets
_COMMAND_SECONDS = 30
_REFUSED = 2  # by the kernel, as tc says
_RATE = re.compile(r"rate (\d+(?:\.\d+)?)([KMGT]?)bit")
_UNITS = {"": 1e-6, "K": 1e-3, "M": 1.0, "G": 1e3, "T": 1e6}


class Shape(NamedTuple):
    """What a port does with the frames that leave by it."""

    rate_mbps: float
    cut: bool
    delay_ms: float | None
    """One way; None where netem does not make the delay."""
    loss_percent: float | None


def burst_bytes(rate_mbps: float) -> int:
    """Return how many bytes may pass at once at this rate."""
    return max(_SMALLEST_BURST, int(rate_mbps * 125 * _BURST_MS))


def apply(namespace: str, port: str, condition: Condition, *, cut: bool, netem: bool) -> None:
    """Make `port` carry at this rate, and drop everything in silence if it is cut."""
    burst = burst_bytes(condition.rate_mbps)
    rate = round(condition.rate_mbps * 1e6)
    if cut:
        leaf = "handle 11: blackhole"
    elif netem:
        loss = f" loss {condition.loss_percent}%" if condition.loss_percent else ""
        leaf = f"handle 12: netem delay {condition.delay_ms}ms{loss} limit {_NETEM_QUEUE}"
    else:
        leaf = f"handle 10: bfifo limit {max(_SMALLEST_QUEUE, int(condition.rate_mbps * 125 * _QUEUE_MS))}"
    fresh = [] if _root(namespace, port) == "htb" else [f"qdisc replace dev {port} root handle 1: htb default 1"]
    shape = f"htb rate {rate}bit burst {burst} cburst {burst} quantum 65536"
    _batch(
        namespace,
        [
            *fresh,
            f"class replace dev {port} parent 1: classid 1:1 {shape}",
            f"qdisc replace dev {port} parent 1:1 {leaf}",
        ],
    )


def read(namespace: str, port: str) -> Shape | None:
    """Return what `port` does, or None if it is not shaped."""
    disciplines = _disciplines(namespace, port)
    leaf = next((one for one in disciplines if one.get("parent") == "1:1"), None)
    rate = _RATE.search(_tc(namespace, "class", "show", "dev", port))
    if leaf is None or rate is None:
        return None
    rate_mbps = round(float(rate[1]) * _UNITS[rate[2]], 6)
    options = leaf["options"]
    if leaf["kind"] != "netem":
        return Shape(rate_mbps, leaf["kind"] == "blackhole", None, None)
    delay = options.get("delay", {}).get("delay", 0.0) * 1e3
    loss = options.get("loss-random", {}).get("loss", 0.0) * 100
    return Shape(rate_mbps, False, round(delay, 3), round(loss, 4))


@cache
def has_netem() -> bool:
    """Say whether this kernel has netem, by trying it in a network namespace that ends with the trial.

    Raises
    ------
    FatalError
        If it cannot be tried.
    """
    trial = ["tc", "qdisc", "add", "dev", "lo", "root", "netem", "delay", "1ms"]
    done = run(["unshare", "--net", *trial], timeout=_COMMAND_SECONDS, check=False)
    if done.code not in {0, _REFUSED}:
        raise FatalError("netem", done.said, "a kernel that can be asked for it", "run it as root")
    return done.code == 0


def _disciplines(namespace: str, port: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(_tc(namespace, "-json", "qdisc", "show", "dev", port) or "[]")
    return found


def _root(namespace: str, port: str) -> str:
    return next((str(one["kind"]) for one in _disciplines(namespace, port) if one.get("root")), "")


def _tc(namespace: str, *args: str) -> str:
    return _run(["tc", "-n", namespace, *args])


def _batch(namespace: str, lines: list[str]) -> None:
    _run(["tc", "-n", namespace, "-batch", "-"], "\n".join(lines) + "\n")


def _run(command: Words, text: str | None = None) -> str:
    remedy = f"in: {text}" if text else ""
    return run(command, timeout=_COMMAND_SECONDS, input=text, remedy=remedy).stdout
