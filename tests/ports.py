"""Ports of loopback that nobody else takes: neither another test run on this host nor somebody's outgoing connection."""

from __future__ import annotations

import random
import socket

_RANGE = range(20_000, 32_000)
"""Below the kernel's ephemeral ports, of which it gives any to any connection."""
_claims: list[socket.socket] = []


def free_port() -> int:
    """Return a TCP port that is this process's until it ends: a name in the kernel says so, which no two can have."""
    for port in random.sample(_RANGE, len(_RANGE)):
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0dpp-tests-port-{port}")
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections of its former user may linger
                probe.bind(("127.0.0.1", port))
        except OSError:
            claim.close()
        else:
            _claims.append(claim)
            return port
    raise AssertionError("no free port on loopback")
