"""What a device's interface comes to in contracts: its topics, and who writes and reads which of them.

Whoever is a device (`devices` of its contract) owns its topics, reads its commands and its own heartbeat, and alone writes all
else; whoever commands one (`commands`) writes its commands and reads all else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from dpp.model.contracts import SAL, Contract, DeviceTopics, OwnedTopic
from dpp.model.interfaces import ACK, EVENT_PREFIX, Component, SalTopic

KEPT_HOURS: Final = 168
"""How long the records of a device's topics are kept; events are compacted then, to the last of each."""
_ORDER: Final = "One: records stand in the order in which they were written, and clients read them so."
Mistake = tuple[str, str, str, str]
"""The name of a contract, the key in it, what was found, what was expected."""


def role(component: str, topic: str) -> str:
    """Return what contracts call a topic of a device."""
    return f"{component}.{topic}"


def topics_of(component: Component, declared: DeviceTopics) -> dict[str, OwnedTopic]:
    """Return all topics of a device, by role."""
    return {
        role(component.name, name): OwnedTopic(
            name=f"lsst.sal.{component.name}.{name}",
            home=declared.home,
            mirrors=declared.mirrors,
            content=SAL,
            retention_hours=None if _is_event(name) else KEPT_HOURS,
            compacted_after_hours=KEPT_HOURS if _is_event(name) else None,
            partitions=_ORDER,
        )
        for name in (*component.topics, ACK)
    }


def expanded(contract: Contract, components: Mapping[str, Component]) -> Contract:
    """Return a contract with what follows from the devices that it names."""
    topics, publishes, consumes = dict(contract.topics), list(contract.publishes), dict(contract.consumes)

    def reads(roles: list[str], groups: tuple[str, ...]) -> None:
        for one in roles:
            consumes[one] = tuple(dict.fromkeys((*consumes.get(one, ()), *groups)))

    for name, declared in contract.devices.items():
        component = components[name]
        topics.update(topics_of(component, declared))
        publishes += _roles(component, commands=False)
        reads([*_roles(component, commands=True), role(name, f"{EVENT_PREFIX}heartbeat")], (f"{name}-*",))
    for name, groups in contract.commands.items():
        publishes += _roles(components[name], commands=True)
        reads(_roles(components[name], commands=False), groups)
    return contract.model_copy(
        update={"topics": topics, "publishes": tuple(dict.fromkeys(publishes)), "consumes": consumes}
    )


def mistakes(contracts: Mapping[str, Contract], components: Mapping[str, Component]) -> Iterator[Mistake]:
    """Yield devices that there are not, that two contracts are, and that somebody commands though nobody is it.

    A device's topics that somebody declared by hand are mistakes as well.
    """
    owners: dict[str, str] = {}
    for contract in contracts.values():
        for key in by_hand(contract):
            yield contract.name, f"topics/{key}", "a device's topic", "`devices`, from which its topics follow"
        for name in contract.devices:
            if name not in components:
                yield contract.name, f"devices/{name}", name, f"one of {', '.join(components) or 'none'}"
            elif owners.setdefault(name, contract.name) != contract.name:
                found = f"device {name}, which {owners[name]} is too"
                yield contract.name, f"devices/{name}", found, "one writer of a device's topics"
    for contract in contracts.values():
        for name in contract.commands:
            if name not in owners:
                found, known = f"device {name}, which nobody is", ", ".join(sorted(owners)) or "none"
                yield contract.name, f"commands/{name}", found, f"one of {known}"


def by_hand(contract: Contract) -> list[str]:
    """Return the device topics that a contract, before it is expanded, declares itself."""
    return [key for key in contract.topics if "." in key]


def _roles(component: Component, *, commands: bool) -> list[str]:
    names = [topic.name for topic in component.topics.values() if _is_command(topic) == commands]
    return [role(component.name, name) for name in (names if commands else [*names, ACK])]


def _is_command(topic: SalTopic) -> bool:
    return topic.kind == "command"


def _is_event(name: str) -> bool:
    return name.startswith(EVENT_PREFIX)
