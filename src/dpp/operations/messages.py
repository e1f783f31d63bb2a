"""Messages that consumers could not handle, at each site that has brokers: listed, given back, dismissed."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from dpp.model.environment import Environment
from dpp.model.errors import UsageError
from dpp.model.folders import Folders
from dpp.model.principals import Principals
from dpp.operations.data_plane import DataPlane

TOPIC = "set-aside"
PRINCIPAL = "health"
Verb = Literal["list", "give-back", "dismiss"]
_SECONDS = 120.0


@dataclass(frozen=True)
class Message:
    """A message that a consumer group could not handle.

    Parameters
    ----------
    site
        Where it was set aside.
    name
        Its group, its topic in Kafka, its partition and its offset, joined by slashes.
    group, workload
        Who could not handle it.
    role, topic, partition, offset
        Where it stood; `role` is what contracts call the topic.
    timestamp, time
        When it was written, UTC seconds, and when it was set aside, TAI seconds.
    size, begins
        How many bytes it has, and the first of them in hexadecimal.
    reason, traceback, attempts
        Why, and after how many attempts.
    """

    site: str
    name: str
    group: str
    workload: str
    role: str
    topic: str
    partition: int
    offset: int
    timestamp: float
    time: float
    size: int
    begins: str
    reason: str
    traceback: str
    attempts: int


@dataclass(frozen=True)
class Heap:
    """What a group has set aside at a site: how many messages, and the reason of the newest."""

    site: str
    group: str
    count: int
    reason: str


class Messages:
    """The messages of an environment.

    Parameters
    ----------
    environment, folders
        Where.
    """

    def __init__(self, environment: Environment, folders: Folders) -> None:
        self._environment, self._folders = environment, folders
        self.sites = Principals.load(environment).topics[TOPIC].homes

    def at(self, site: str, verb: Verb = "list", group: str = "", names: Iterable[str] = ()) -> list[Message]:
        """List what was set aside at a site, or deal with it and return what was dealt with.

        Raises
        ------
        UsageError
            If the site has no brokers.
        DppError
            If its operations host or its brokers do not answer.
        """
        if site not in self.sites:
            raise UsageError(f"site {site}", "has no brokers", f"one of {', '.join(self.sites)}")
        words = [verb, *(["--group", group] if group else []), *(word for name in names for word in ("--name", name))]
        plane = DataPlane(self._environment, PRINCIPAL, site, self._folders)
        done = plane.run("workloads.messages", *words, seconds=_SECONDS)
        return [Message(site=site, **json.loads(line)) for line in done.stdout.splitlines() if line.startswith("{")]


def heaps(messages: Iterable[Message]) -> list[Heap]:
    """Return messages summed up by site and group."""
    found: dict[tuple[str, str], list[Message]] = {}
    for message in messages:
        found.setdefault((message.site, message.group), []).append(message)
    return [
        Heap(site, group, len(own), max(own, key=lambda one: one.time).reason)
        for (site, group), own in sorted(found.items())
    ]
