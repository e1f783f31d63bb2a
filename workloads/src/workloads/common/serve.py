"""What a long-running workload shows to the cluster: `/healthz`, `/readyz`, `/metrics`, and a clean end on SIGTERM."""

from __future__ import annotations

import json
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Protocol

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from workloads.common.errors import WorkloadError

LOG = logging.getLogger(__name__)
PORT = 9100
GRACE_SECONDS = 3.0
"""How long a service may take to end; what it has in hand takes a second or two."""


class Others(Protocol):
    """The loops of child processes."""

    def beats(self) -> dict[str, float]:
        """Return when each has beaten last, by the clock that is never set."""

    def unprepared(self) -> list[str]:
        """Return those that are not prepared yet."""


class Health:
    """Liveness as progress: a loop that has not beaten for `patience` seconds is dead, whatever its process does.

    Parameters
    ----------
    patience
        Seconds that a loop may stand still.
    others
        Loops of child processes that say for themselves how they are.
    """

    def __init__(self, patience: float = 120.0, others: Others | None = None) -> None:
        self._patience, self._others = patience, others
        self._beats: dict[str, float] = {}
        self._prepared = False

    def beat(self, name: str = "main") -> None:
        """Say that the loop `name` goes on."""
        self._beats[name] = time.monotonic()

    def ready(self) -> None:
        """Say that all is prepared: what comes now is dealt with at once."""
        self._prepared = True

    def unprepared(self) -> list[str]:
        """Return what is not prepared yet."""
        own = [] if self._prepared else ["main"]
        return own + (self._others.unprepared() if self._others else [])

    def stale(self) -> dict[str, float]:
        """Return the loops that stand still and for how many seconds."""
        now = time.monotonic()
        beats = self._beats | (self._others.beats() if self._others else {})
        return {name: now - beat for name, beat in beats.items() if now - beat > self._patience}


class Stop:
    """Becomes true at SIGTERM or SIGINT; work in hand is finished first.

    Made once there can be work in hand: a process that has not come so far ends at the signal like any other.

    Parameters
    ----------
    grace
        Seconds after which the process ends in any case, whatever it waits for; None waits as long as it takes. To cut
        work off is safe where a crash is: offsets and journals are committed last, so that it is done again.
    told
        Called once in a thread of its own when the signal came, while what is in hand goes on; it needs a grace.
    """

    def __init__(self, grace: float | None = None, told: Callable[[], None] = lambda: None) -> None:
        self._event, self._grace, self._limited = threading.Event(), grace, False
        self._told = told
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._asked())
        if grace is not None:
            threading.Thread(target=self._listen, args=(_signals(),), name="end", daemon=True).start()

    def _asked(self) -> None:
        self._event.set()
        if (
            self._grace is not None and not self._limited
        ):  # the kernel ends what then still waits or tidies up, in whatever library
            self._limited = True
            signal.setitimer(signal.ITIMER_REAL, self._grace)

    def _listen(self, signals: int) -> None:
        os.read(signals, 1)
        self._asked()
        self._told()

    def __bool__(self) -> bool:
        return self._event.is_set()

    def set(self) -> None:
        """Ask for the end from inside."""
        self._asked()

    def finish(self) -> None:
        """Say that the work is over: what is in hand may take as long as it needs."""
        self._event.set()

    def wait(self, seconds: float) -> bool:
        """Sleep, but wake at the signal; return whether it came."""
        return self._event.wait(seconds)


def run_together(stop: Stop, loops: Mapping[str, Callable[[], None]]) -> int:
    """Run loops in threads until told to stop, and return the exit code of their process.

    One that ends ends them all. Where it failed, what restarts the process brings it back whole, at its last commit.
    """
    failed: list[str] = []

    def run(name: str, loop: Callable[[], None]) -> None:
        try:
            loop()
        except WorkloadError as error:
            LOG.error("%s ends, the process starts again from its last commit: %s", name, error)  # noqa: TRY400 - the text says it all
            failed.append(name)
        except (Exception, SystemExit):  # a web server that cannot have its port exits
            LOG.exception("%s ends, the process starts again from its last commit", name)
            failed.append(name)
        if failed:
            stop.set()
        else:
            stop.finish()

    threads = [threading.Thread(target=run, args=item, name=item[0]) for item in loops.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return 1 if failed else 0


def _signals() -> int:
    """Return a descriptor that has a byte as soon as a signal came.

    Python's own handlers wait for a main thread that is inside a library.
    """
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    return reading


def serve_health(health: Health, extra: Callable[[], bytes] | None = None) -> ThreadingHTTPServer:
    """Serve `/healthz`, `/readyz` and `/metrics` from a daemon thread, on port 9100 or ``DPP_HEALTH_PORT`` (0 picks a free one).

    Parameters
    ----------
    health
        What `/healthz` shows: 200 while every loop beats, 503 otherwise; and `/readyz`: 200 once all is prepared as well.
    extra
        Further lines of metrics, such as those of child processes.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/metrics":
                self._answer(200, CONTENT_TYPE_LATEST, generate_latest() + (extra() if extra else b""))
            elif self.path == "/healthz":
                stale = health.stale()
                self._answer(503 if stale else 200, "application/json", json.dumps({"stale": stale}).encode())
            elif self.path == "/readyz":
                said = {"unprepared": health.unprepared(), "stale": health.stale()}
                self._answer(503 if any(said.values()) else 200, "application/json", json.dumps(said).encode())
            else:
                self._answer(404, "text/plain", b"not found\n")

        def _answer(self, status: int, content_type: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    port = int(os.environ.get("DPP_HEALTH_PORT", str(PORT)))
    server = ThreadingHTTPServer(("0.0.0.0", port), Handler)  # noqa: S104 - a pod's own network
    threading.Thread(target=server.serve_forever, name="health", daemon=True).start()
    return server
