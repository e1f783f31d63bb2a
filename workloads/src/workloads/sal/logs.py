"""Messages of a device's log as its event ``logMessage``."""

from __future__ import annotations

import logging
import os
import queue
import traceback
from typing import Any

from workloads.common.errors import RetriableError
from workloads.common.times import is_of_a_set_clock, utc_to_tai
from workloads.sal.link import Link

_MOST = 1000
"""Messages that wait to be written; what comes then stands in the process's own log alone."""
_ITSELF = (
    __name__,
    "workloads.sal.link",
    "workloads.common.consumer",
    "workloads.common.producer",
    "workloads.common.received",
)
"""Whose messages are about the writing of messages."""


class LogEvents(logging.Handler):
    """Takes messages at once, and writes them when `write` is called.

    Parameters
    ----------
    link
        The device's topics.
    """

    def __init__(self, link: Link) -> None:
        super().__init__(logging.DEBUG)
        self._writer = link.event("logMessage")
        self._waiting: queue.Queue[dict[str, Any]] = queue.Queue(_MOST)

    def emit(self, record: logging.LogRecord) -> None:
        """Take a message; of one from before this host's clock was set nobody could tell when it was."""
        if record.name.startswith(_ITSELF) or not is_of_a_set_clock(record.created):
            return
        try:
            self._waiting.put_nowait(_fields(record))
        except queue.Full:
            return
        except Exception:  # noqa: BLE001 - as every handler of the standard library does
            self.handleError(record)

    def write(self, seconds: float) -> None:
        """Write what waits, or what comes within some seconds."""
        try:
            fields = self._waiting.get(timeout=seconds)
        except queue.Empty:
            return
        try:
            self._writer.write(force=True, **fields)
        except RetriableError:
            return  # it stands in the process's own log


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    trace = "".join(traceback.format_exception(*record.exc_info)) if record.exc_info else ""
    return {
        "name": record.name, "level": record.levelno, "message": record.getMessage(), "traceback": trace,
        "filePath": record.pathname, "functionName": record.funcName or "", "lineNumber": record.lineno,
        "process": record.process or os.getpid(), "timestamp": utc_to_tai(record.created),
    }  # fmt: skip
