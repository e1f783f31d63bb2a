"""Every gRPC message in a file, for those who must see what engine, program and provider said (PULUMI_DEBUG_GRPC).

One JSON line when a call starts, one when it ends; the file holds secrets in plain text.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any, TextIO

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from dpp.engine.state import now


class Transcript:
    """Writes calls to the file that ``PULUMI_DEBUG_GRPC`` names, if any.

    Parameters
    ----------
    path
        The file; nothing is written if it is empty.
    """

    def __init__(self, path: str | None) -> None:
        self._file: TextIO | None = None
        if path:
            self._file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "a")

    def start(self, method: str, request: Message, **metadata: str) -> float:
        """Note that a call starts; returns the time to hand to `end`."""
        self._write(method, request, metadata, "request_started", {})
        return time.monotonic()

    def end(
        self, method: str, request: Message, started: float, response: Message | None, error: str = "", **metadata: str
    ) -> None:
        """Note that a call ended."""
        result: dict[str, Any] = {"duration": int((time.monotonic() - started) * 1e9)}
        if response is not None and self._file:
            result["response"] = MessageToDict(response)
        if error:
            result["errors"] = [error]
        self._write(method, request, metadata, "response_completed", result)

    def close(self) -> None:
        """Close the file."""
        if self._file:
            self._file.close()

    def _write(
        self, method: str, request: Message, metadata: dict[str, str], progress: str, rest: dict[str, Any]
    ) -> None:
        if not self._file:
            return
        head = {"method": f"/pulumirpc.{method}", "request": MessageToDict(request)}
        line = {**head, **rest, "metadata": metadata, "progress": progress, "timestamp": now()}
        self._file.write(json.dumps(line, separators=(",", ":")) + "\n")
        self._file.flush()
