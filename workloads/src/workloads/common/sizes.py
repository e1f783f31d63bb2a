"""How large a message may be: one limit for senders, brokers and mirrors, kept where somebody can still say what it was."""

from __future__ import annotations

from collections.abc import Mapping

from workloads.common.errors import NonRetriableError

_FRAME_BYTES, _GROWTH = 1024, 200
"""What is put around a record (batch, record and their headers), and the share by which LZ4 lets grow what it cannot
compress: one byte in 255, rounded up."""


class TooLargeError(NonRetriableError):
    """A message that no broker takes, and whose copy would end a mirror: it is not sent."""


def require_small(topic: str, limit: int, key: bytes, value: bytes, headers: Mapping[str, bytes]) -> None:
    """Refuse a message that would be larger than `limit` bytes as it is sent, however badly it compresses.

    Raises
    ------
    TooLargeError
        If it would.
    """
    size = len(key) + len(value) + sum(len(name.encode()) + len(content) for name, content in headers.items())
    room = largest(limit)
    if size > room:
        raise TooLargeError(
            f"topic {topic}: message {key[:80]!r} of {size} bytes, expected at most {room}: "
            f"brokers and mirrors take {limit}, with what is put around it; it is not sent"
        )


def largest(limit: int) -> int:
    """Return the bytes that key, value and headers of a message may have together under a limit of `limit` bytes."""
    return limit - limit // _GROWTH - _FRAME_BYTES
