"""The observatory's control system as an observer has it: devices are commanded and watched from a site's operations host.

What is asked for is held to `interfaces/` before anything is sent; the program that speaks to the device knows no more of it
than those files either, and gets its addresses as the observatory's own client does.
"""

from __future__ import annotations

import getpass
import json
import platform
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from dpp.adapters.process import CommandFailedError
from dpp.model.environment import Environment
from dpp.model.errors import FatalError, UsageError
from dpp.model.folders import Folders
from dpp.model.interfaces import ACK, Component, SalTopic, read_interfaces
from dpp.model.principals import Principals
from dpp.model.surroundings import surroundings
from dpp.operations.data_plane import DataPlane

PRINCIPAL: Final = "ocs"
_PROGRAM: Final = "workloads.ocs"
_FAILED, _USAGE = 1, 2
_SLACK_SECONDS: Final = 3600.0
"""A device may say that a command takes longer than the observer would have waited."""
_INSTANCE: Final = re.compile(r"([A-Za-z0-9]+)(?::([0-9]+))?")
REGISTRY: Final = "schema-registry"


class ControlSystem:
    """Commands the devices of an environment.

    Parameters
    ----------
    environment, folders
        Where.
    """

    def __init__(self, environment: Environment, folders: Folders) -> None:
        self._environment, self._folders = environment, folders
        self.components = read_interfaces()

    @cached_property
    def _principals(self) -> Principals:
        return Principals.load(self._environment)

    def devices(self) -> list[dict[str, Any]]:
        """Return every component that there is an interface of, with where it is here."""
        return [
            {"device": name, "site": self._site(name), "description": component.description}
            for name, component in self.components.items()
        ]

    def _site(self, device: str) -> str | None:
        topic = self._principals.topics.get(f"{device}.{ACK}")
        return topic.homes[0] if topic else None

    def component(self, device: str) -> Component:
        """Return the interface of a device, given as NAME or NAME:INDEX.

        Raises
        ------
        UsageError
            If there is none, or the index is none of its own.
        """
        found = _INSTANCE.fullmatch(device)
        name, index = found.groups() if found else (device, None)
        if name not in self.components:
            raise UsageError(f"device {device}", "no interface of it", f"one of {', '.join(self.components)}")
        component = self.components[name]
        indices = component.indices
        if indices is None and index is not None:
            raise UsageError(f"device {device}", f"index {index}", f"{name} alone: there is but one")
        if indices is not None and (index is None or (indices and int(index) not in indices.values())):
            known = ", ".join(f"{name}:{number} ({label})" for label, number in indices.items()) or f"{name}:NUMBER"
            raise UsageError(f"device {device}", f"index {index or 'missing'}", f"one of {known}")
        return component

    # -- what is asked -------------------------------------------------------------------------------------------------

    def send(self, device: str, command: str, words: Sequence[str], timeout: float) -> Iterator[dict[str, Any]]:
        """Send a command and yield its acknowledgements as they come.

        Raises
        ------
        UsageError
            If the device has no such command, or the command no such parameter.
        DppError
            If nobody answers there. A command that the device refuses is no error of this: its acknowledgement says so.
        """
        component = self.component(device)
        topic = _named(component.of_kind("command"), command, f"{component.name}: command {command}")
        self._require_parameters(f"{component.name} {command}", topic, words)
        yield from self._lines(
            device, "send", command, *words, f"--timeout={timeout:g}", seconds=timeout + _SLACK_SECONDS
        )

    def state(self, device: str, seconds: float) -> dict[str, Any]:
        """Return the state that a device has told last, and its error; errors as of `send`."""
        for line in self._lines(device, "state", seconds=seconds):
            return line
        raise FatalError(f"device {device}", "no answer", "its last state", "see the log of its Job")

    def events(self, device: str, names: Sequence[str], seconds: float) -> list[dict[str, Any]]:
        """Return the last sample of some events, or of all; errors as of `send`."""
        self._require_watched(device, names)
        return list(self._lines(device, "events", *names, seconds=seconds))

    def watch(self, device: str, names: Sequence[str], count: int, seconds: float) -> Iterator[dict[str, Any]]:
        """Yield what comes of some events and telemetry, or of all, until so many came or the time is over."""
        self._require_watched(device, names)
        words = (*names, f"--count={count}", f"--seconds={seconds:g}")
        yield from self._lines(device, "watch", *words, seconds=seconds + _SLACK_SECONDS)

    def _require_watched(self, device: str, names: Iterable[str]) -> None:
        component = self.component(device)
        topics = (*component.of_kind("event"), *component.of_kind("telemetry"))
        for name in names:
            _named(topics, name, f"{component.name}: event {name}")

    @staticmethod
    def _require_parameters(subject: str, topic: SalTopic, words: Iterable[str]) -> None:
        known = {field.name: field for field in topic.fields}
        said = ", ".join(f"{field.name}={field.type}" for field in topic.fields) or "no parameter"
        for word in words:
            name, sign, _ = word.partition("=")
            if not sign or name not in known:
                raise UsageError(subject, word, said, "see dpp ocs show")

    def _lines(self, device: str, *words: str, seconds: float) -> Iterator[dict[str, Any]]:
        name = self.component(device).name
        site = self._site(name)
        if site is None:
            raise FatalError(
                f"device {name}", f"nobody is it in {self._environment.name}", "a contract in services/ that says so"
            )
        plane = _Outside(self._environment, PRINCIPAL, site, self._folders)
        try:
            for line in plane.lines(_PROGRAM, device, *words, seconds=seconds):
                if line.startswith("{"):
                    yield json.loads(line)
        except CommandFailedError as error:
            if error.code == _FAILED and not error.stderr.strip():
                return  # what was printed says it all
            said = error.stderr.strip().splitlines()[-1:] or [error.found]
            raise (UsageError if error.code == _USAGE else FatalError)(f"device {device}", said[0]) from error


class _Outside(DataPlane):
    """A principal that finds its way as the observatory's own client does: by variables, and a file for the rest."""

    @cached_property
    def _variables(self) -> dict[str, str]:
        told = super()._variables
        return told | outside(self._environment, self._principal, self._site, told)


def outside(environment: Environment, principal: str, site: str, told: dict[str, str]) -> dict[str, str]:
    """Return the variables of a client of the control system for a principal whose settings were written.

    Parameters
    ----------
    told
        Where its settings are, as `write_settings` returns it.
    """
    found = surroundings(Principals.load(environment), principal, site)
    secrets, authority = Path(told["DPP_SECRETS"]), told["DPP_CA"]
    options = secrets.parent / "kafka.yml"
    options.write_text(f"ssl.ca.location: {authority}\n")
    return {
        "LSST_TOPIC_SUBNAME": "sal",
        "LSST_KAFKA_BROKER_ADDR": found["kafka"][site]["bootstrap"],
        "LSST_SCHEMA_REGISTRY_URL": found["services"][REGISTRY],
        "LSST_KAFKA_SECURITY_USERNAME": principal,
        "LSST_KAFKA_SECURITY_PASSWORD": (secrets / "kafka").read_text().strip(),
        "LSST_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "LSST_KAFKA_SECURITY_MECHANISM": "SCRAM-SHA-512",
        "LSST_KAFKA_BROKER_CLIENT_CONFIGURATION": str(options),
        "DPP_GROUP": "ocs-observer",
        "DPP_IDENTITY": f"{getpass.getuser()}@{platform.node().partition('.')[0]}",
    }


def _named(topics: Iterable[SalTopic], name: str, subject: str) -> SalTopic:
    found = {topic.short: topic for topic in topics}
    if name not in found:
        raise UsageError(subject, "its interface has none", f"one of {', '.join(found)}", "see dpp ocs show")
    return found[name]
