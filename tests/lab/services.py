"""For each service of the lab: what runs it, and how that is taken away for a while."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from lab.observatory import RETURN_SECONDS, Observatory

ARCHIVE, SUMMIT, BASE = "ncsa", "summit", "base"


@dataclass(frozen=True)
class Deployed:
    """A Deployment of a cluster."""

    cluster: str
    name: str

    @contextmanager
    def absent(self, observatory: Observatory) -> Iterator[None]:
        """Scale it to zero, and back to what it was."""
        replicas = self._field(observatory, "{.spec.replicas}")
        self._scale(observatory, "0")
        try:
            pods = ("get", "pods", f"--selector=app.kubernetes.io/name={self.name}", "--output=name")
            _until(lambda: not observatory.kubectl(self.cluster, *pods).stdout.strip(), f"no pod of {self.name}")
            yield
        finally:
            self._scale(observatory, replicas)
            _until(lambda: self._field(observatory, "{.status.readyReplicas}") == replicas, f"{self.name} is ready")

    def _scale(self, observatory: Observatory, replicas: str) -> None:
        done = observatory.kubectl(self.cluster, "scale", f"deployment/{self.name}", f"--replicas={replicas}")
        assert done.returncode == 0, done.stderr

    def _field(self, observatory: Observatory, path: str) -> str:
        done = observatory.kubectl(self.cluster, "get", f"deployment/{self.name}", f"--output=jsonpath={path}")
        assert done.returncode == 0, done.stderr
        return done.stdout


@dataclass(frozen=True)
class Unit:
    """A systemd unit of a host that a role has configured."""

    role: str
    site: str
    name: str

    @contextmanager
    def absent(self, observatory: Observatory) -> Iterator[None]:
        """Stop it, and start it again."""
        host = observatory.environment.hosts_of(self.site, self.role)[0].name
        observatory.on(host, f"systemctl stop {self.name}")
        try:
            yield
        finally:
            observatory.on(host, f"systemctl start {self.name}")


def _until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + RETURN_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"not within {RETURN_SECONDS:g} s: {what}"
        time.sleep(1.0)


WORKLOADS: dict[str, Deployed | Unit] = {
    "schema-registry": Deployed(ARCHIVE, "schema-registry"),
    "alert-distribution": Deployed(ARCHIVE, "alert-distribution"),
    "data-backbone": Deployed(ARCHIVE, "data-backbone"),
    "main-camera-archiving": Deployed(SUMMIT, "forwarder"),
    "main-camera-prompt-processing": Deployed(ARCHIVE, "prompt-processing"),
    "object-storage": Unit("object_store", BASE, "object-store"),
    "relational-databases": Unit("postgresql", ARCHIVE, "postgresql@15-main"),
    "event-streaming": Unit("kafka_broker", ARCHIVE, "kafka"),
}
"""By service, those last whose absence disturbs others."""
