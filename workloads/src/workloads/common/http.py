"""Serving an ASGI application as one loop of a process among others."""

from __future__ import annotations

import threading
from typing import Any

import uvicorn

from workloads.common.serve import GRACE_SECONDS, Stop


def serve(application: Any, port: int, stop: Stop) -> None:
    """Serve an application on all addresses until told to stop."""
    config = uvicorn.Config(
        application,
        host="0.0.0.0",  # noqa: S104 - a pod's own network
        port=port,
        log_level="warning",
        timeout_graceful_shutdown=int(GRACE_SECONDS),
    )
    server = uvicorn.Server(config)
    threading.Thread(target=_end, args=(server, stop), name="end of http", daemon=True).start()
    server.run()


def _end(server: uvicorn.Server, stop: Stop) -> None:
    while not stop.wait(3600.0):
        continue
    server.should_exit = True
