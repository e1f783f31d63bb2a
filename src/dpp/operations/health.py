"""Whether a service does its work: one question to each, asked from where its users or its operators sit."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dpp.adapters.kubernetes import Cluster
from dpp.model.environment import Environment
from dpp.model.errors import DppError, FatalError, RetriableError, UsageError
from dpp.model.folders import Folders
from dpp.model.principals import Principals
from dpp.operations.data_plane import DataPlane
from dpp.rendering.contracts import NAMESPACE

ARCHIVE = "ncsa"
NUMBERS = 90_000
"""Questions have numbers below this, those of the exposures that they are about."""
_SECONDS = 150.0
Get = Callable[[str], Any]
"""Gets a path of a service's own HTTP port and returns the JSON that it answers with."""


def _schemas(get: Get, principals: Principals) -> None:
    """Look a schema up by its subject and by its id."""
    latest = get(f"subjects/{principals.topics['ledger'].name}-value/versions/latest")
    found = get(f"schemas/ids/{latest['id']}")
    if json.loads(found["schema"]) != json.loads(latest["schema"]):
        raise FatalError(f"schema {latest['id']}", "another than its subject's newest", "the same schema both ways")


def _streams(get: Get, principals: Principals) -> None:
    """Fetch the newest alert schema and how far every broker's group has read."""
    del principals
    newest = list(get("schemas"))[-1]
    if not str(get(f"schemas/{newest}")["name"]).endswith("alert"):
        raise FatalError(f"schema {newest}", "of something else", "an alert's schema")
    if not get("streams")["lag"]:
        raise RetriableError("streams", "no group's lag is known yet", "the lag of every group")


_BY_HTTP: dict[str, Callable[[Get, Principals], None]] = {"schema-registry": _schemas, "alert-distribution": _streams}
"""By service, whose workload is called so: it is asked in the archive's cluster, by way of the API server."""
QUESTIONS = {
    **{service: str(ask.__doc__).rstrip(".") for service, ask in _BY_HTTP.items()},
    "data-backbone": "Deliver a broken raw file; it is put aside, with the reason beside it",
    "main-camera-archiving": "Store an object at the summit; it arrives at the base and at the archive, with its digest",
    "main-camera-prompt-processing": "Announce a raw image that no store has; its worker says that it failed, and why",
    "object-storage": "Store an object at the base and read it back",
    "relational-databases": "Count the instruments that the Butler knows",
    "event-streaming": "Write a record to a topic and read it back",
}
"""By service, in words; those last whose absence disturbs others. All but the first two are asked by `workloads.health`."""


@dataclass(frozen=True)
class Answer:
    """What came of asking.

    Parameters
    ----------
    service, asked
        Whom, and what.
    reason
        Why it was not answered; empty where it was.
    seconds
        How long it took.
    """

    service: str
    asked: str
    reason: str
    seconds: float

    @property
    def sound(self) -> bool:
        """Whether the service does its work."""
        return not self.reason


class Health:
    """Asks the services of an environment.

    Parameters
    ----------
    environment, folders
        Where.
    """

    def __init__(self, environment: Environment, folders: Folders) -> None:
        self._cluster = Cluster(ARCHIVE, environment.name, folders)
        self._plane = DataPlane(environment, "health", ARCHIVE, folders)
        self._environment = environment

    def ask(self, service: str, number: int | None = None) -> Answer:
        """Ask a service once; the same number is the same question, by default a new one.

        Raises
        ------
        UsageError
            If there is no question to that service.
        """
        if service not in QUESTIONS:
            raise UsageError(f"service {service}", "no question to it", f"one of {', '.join(QUESTIONS)}")
        begun = time.monotonic()
        try:
            reason = self._reason(service, int(time.time()) % NUMBERS if number is None else number)
        except DppError as error:
            reason = str(error)
        return Answer(service, QUESTIONS[service], reason, round(time.monotonic() - begun, 1))

    def _reason(self, service: str, number: int) -> str:
        if service in _BY_HTTP:
            principals = Principals.load(self._environment)
            address = f"{service}:{principals.contract(service).serves['http'].port}"
            try:
                _BY_HTTP[service](lambda path: self._cluster.ask(NAMESPACE, address, path), principals)
            except (LookupError, TypeError, ValueError) as error:
                return f"an answer of another shape: {error!r}"
            return ""
        done = self._plane.run("workloads.health", service, str(number), seconds=_SECONDS, check=False)
        return (done.stdout.strip() or done.said or f"exit code {done.code}") if done.code else ""
