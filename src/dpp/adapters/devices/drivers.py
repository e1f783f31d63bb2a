"""How each platform takes a configuration: as a whole, on trial, kept only when it is confirmed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Protocol

from dpp.adapters.devices.change import Change
from dpp.adapters.devices.channels import Channel
from dpp.model.errors import FatalError


class Driver(Protocol):
    """A router of one platform."""

    def running(self) -> str:
        """Return the running configuration in its plainest form: no greetings, no comments, no ends of sections."""
        ...

    def difference(self, intended: str) -> Change:
        """Return what separates the running configuration from `intended`."""
        ...

    def apply(self, intended: str, seconds: float) -> Change:
        """Make the running configuration exactly `intended`; the device takes it back after `seconds`."""
        ...

    def confirm(self) -> None:
        """Keep and save what was applied."""
        ...

    def revert(self) -> None:
        """Take back what was applied and not confirmed."""
        ...

    def sessions(self) -> dict[str, bool]:
        """Return the address of every BGP neighbour, and whether its session is up."""
        ...


_OF_FILES = ("frr version", "service integrated-vtysh-config")
"""Lines that belong to saved configurations; the running one has them or not, by the way it is asked."""


@dataclass(frozen=True)
class Frr:
    """FRR on Debian with the command that the role border_router installs.

    Parameters
    ----------
    name
        The router, for messages.
    channel
        The way to it.
    """

    name: str
    channel: Channel

    def running(self) -> str:
        """Return the running configuration; see `Driver`."""
        return plain(self.channel.show("show running-config"))

    def difference(self, intended: str) -> Change:
        """Compare on the device, which knows what its own words mean; see `Driver`."""
        return _change(self._command("diff", text=intended), intended)

    def apply(self, intended: str, seconds: float) -> Change:
        """Load the configuration on trial; see `Driver`."""
        return _change(self._command("apply", str(seconds), text=intended), intended)

    def confirm(self) -> None:
        """Keep and save; see `Driver`."""
        self._command("confirm")

    def revert(self) -> None:
        """Take back; see `Driver`."""
        self._command("revert")

    def sessions(self) -> dict[str, bool]:
        """Return the neighbours and whether they are up; see `Driver`."""
        answer = self.channel.show("show bgp summary json")
        try:
            families = json.loads(answer[answer.index("{") :])
        except ValueError:  # no BGP configured
            return {}
        peers = families.get("ipv4Unicast", families).get("peers", {})
        return {address: peer["state"] == "Established" for address, peer in peers.items()}

    def _command(self, *words: str, text: str = "") -> dict[str, Any]:
        code, printed = self.channel.run("/usr/local/sbin/dpp-router-config", *words, text=text)
        try:
            answer: dict[str, Any] = json.loads(printed)
        except ValueError as error:
            raise FatalError(
                f"router {self.name}",
                printed.strip() or f"exit code {code}",
                "an answer in JSON",
                "converge border_router",
            ) from error
        if "error" in answer:
            raise FatalError(f"router {self.name}", str(answer["error"]), f"`{words[0]}` to succeed", "see its journal")
        return answer


def plain(configuration: str) -> str:
    """Return the lines of an FRR configuration that say something, in their order."""
    lines = (line.rstrip() for line in configuration.splitlines())
    empty = ("!", "exit", "end", "exit-address-family", "Building configuration...", "Current configuration:")
    said = (line for line in lines if line.strip() and line.strip() not in empty and not line.startswith(_OF_FILES))
    return "\n".join(said) + "\n"


def _change(answer: dict[str, Any], intended: str) -> Change:
    """Read what FRR would type: lines that undo others become the lines that they undo."""
    wanted = {line.strip() for line in intended.splitlines()}
    typed = Change.of(answer["delete"], answer["add"])
    undone = [_opposite(line) for line in typed.delete]
    undone += [_opposite(line) for line in typed.add if _is_undoing(line) and _leaf(line) not in wanted]
    added = [line for line in typed.add if not _is_undoing(line) or _leaf(line) in wanted]
    return Change(delete=tuple(undone), add=tuple(added))


def _leaf(line: str) -> str:
    return line.rpartition(" / ")[2]


def _is_undoing(line: str) -> bool:
    return _leaf(line).startswith("no ")


def _opposite(line: str) -> str:
    head, separator, leaf = line.rpartition(" / ")
    return head + separator + (leaf.removeprefix("no ") if leaf.startswith("no ") else f"no {leaf}")


DRIVERS = {"frr": Frr}
"""By platform."""
