"""Which way data flows between the facility's programs, and the picture of it in the documents."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from dpp.model.names import snake
from dpp.model.principals import Principals

PAGE: Final = "docs/developers/data-flow.md"
_HEAD: Final = """\
# How data flows

Made from the contracts in `services/` by `dpp model data-flow`; a test holds it to them. Boxes are principals, framed by their
service; slanted ones are topics, hexagons all topics of a device, cylinders buckets and databases. Dashed arrows are calls.
Rounded boxes stand in for what is no part of the facility. What MirrorMaker copies to other sites is the same topic.

```mermaid
flowchart LR
"""


class Flow(NamedTuple):
    """Data that goes from one thing to another: names of principals, topics (by role), buckets or databases."""

    source: str
    target: str
    kind: str


def flows(principals: Principals) -> tuple[Flow, ...]:
    """Return every flow that the contracts allow, once."""
    return tuple(dict.fromkeys(_flows(principals)))


def _flows(principals: Principals) -> Iterator[Flow]:
    for name, contract in sorted(principals.contracts.items()):
        yield from (Flow(name, _stream(role), "topic") for role in contract.publishes)
        yield from (Flow(_stream(role), name, "topic") for role in contract.consumes)
        for role, owned in contract.topics.items():
            if owned.arrivals_in:
                yield Flow(f"bucket {owned.arrivals_in}", f"topic {role}", "arrivals")
        for store in contract.stores:
            if {"write", "delete"} & set(store.may):
                yield Flow(name, f"bucket {store.bucket}", "store")
            if {"read", "list"} & set(store.may):
                yield Flow(f"bucket {store.bucket}", name, "store")
        for database in contract.writes:
            yield Flow(name, f"database {database}", "database")
            yield Flow(f"database {database}", name, "database")
        yield from (Flow(f"database {database}", name, "database") for database in contract.reads)
        yield from (Flow(name, other, "call") for other in contract.calls)


def _stream(role: str) -> str:
    """Return what a topic is in the picture: those of one device are one thing."""
    device, _, topic = role.partition(".")
    return f"device {device}" if topic else f"topic {role}"


def page(principals: Principals) -> str:
    """Return the page with the picture."""
    return _HEAD + "".join(f"{line}\n" for line in _picture(principals)) + "```\n"


def _picture(principals: Principals) -> Iterator[str]:
    shown = [flow for flow in flows(principals) if not _is_ground(flow, principals)]
    things = sorted({end for flow in shown for end in (flow.source, flow.target)})
    services: dict[str, list[str]] = {}
    for name in things:
        if name in principals.contracts:
            services.setdefault(principals.services[name], []).append(name)
    for service, names in sorted(services.items()):
        yield f"  subgraph {_word(service)}_service[{service}]"
        for name in names:
            outside = principals.contracts[name].stands_in_for
            yield f"    {_word(name)}" + (f"([{name}])" if outside else f"[{name}]")
        yield "  end"
    shapes = {"topic": "[/{}/]", "device": "{{{{{}}}}}", "bucket": "[({})]", "database": "[({})]"}
    for thing in things:
        kind, _, name = thing.partition(" ")
        if name:
            yield f"  {_word(thing)}{shapes[kind].format(name)}"
    for source, target, kind in _joined(shown):
        yield f"  {_word(source)} {kind} {_word(target)}"


def _is_ground(flow: Flow, principals: Principals) -> bool:
    """Say whether a flow is left out: everybody calls what only catalogues."""
    return flow.kind == "call" and principals.contracts[flow.target].catalogues


def _joined(shown: list[Flow]) -> Iterator[tuple[str, str, str]]:
    """Yield arrows; two that go to and fro are one."""
    ends = {(flow.source, flow.target) for flow in shown}
    for flow in shown:
        if flow.kind == "call":
            yield flow.source, flow.target, "-.->"
        elif (flow.target, flow.source) not in ends:
            yield flow.source, flow.target, "-->"
        elif " " not in flow.source:
            yield flow.source, flow.target, "<-->"


def _word(name: str) -> str:
    return snake(name.replace(" ", "_"))
