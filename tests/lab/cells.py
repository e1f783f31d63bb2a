"""Every cell of the matrix principal x resource, as the contracts themselves say it, without what the rights are derived by."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase
from itertools import product
from pathlib import Path
from typing import NamedTuple

from dpp.model.contracts import Contract, overlap
from dpp.model.principals import Principals

ELSEWHERE = "elsewhere/"
"""Begins keys that no contract names."""
_PROBE = Path(__file__).with_name("probe.py")
_PROCESSES = 6
"""How many ask at once."""
VERBS = ("read", "write", "list", "delete")


class Cell(NamedTuple):
    """What one principal may do to one thing at one site: `thing` is as the system calls it."""

    principal: str
    system: str
    site: str
    kind: str
    thing: str
    verb: str
    allowed: bool


def cells(principals: Principals) -> list[Cell]:
    """Return the whole matrix, but for the network, which has one of its own on each cluster."""
    return [*_kafka(principals), *_stores(principals), *_databases(principals)]


def batches(wanted: list[Cell]) -> list[list[Cell]]:
    """Split cells into what one process asks.

    Of Kafka that is those of one principal: where clients of several users come and go in several threads, the client library
    has ended its process by a segmentation fault.
    """
    found: dict[tuple[str, ...], list[Cell]] = {}
    for cell in wanted:
        key = (cell.system, cell.principal) if cell.system == "kafka" else (cell.system,)
        found.setdefault(key, []).append(cell)
    return list(found.values())


def named(pattern: str) -> str:
    """Return a name that a pattern means, and that nobody uses."""
    return pattern.replace("*", "probe")


# -- Kafka -------------------------------------------------------------------------------------------------------------


def _kafka(principals: Principals) -> Iterator[Cell]:
    for site in sorted({host.site for host in principals.environment.hosts_of(group="kafka_broker")}):
        topics = [topic for topic in principals.topics.values() if site in topic.sites]
        groups = sorted({group for one in principals.contracts.values() for group in one.groups})
        transactions = sorted({name for one in principals.contracts.values() for name in one.transactions})
        for name in principals.present:
            contract = principals.contract(name)
            for topic in topics:
                reads, writes = _topic(principals, contract, topic.role, site)
                yield Cell(name, "kafka", site, "topic", topic.name, "read", reads)
                yield Cell(name, "kafka", site, "topic", topic.name, "write", writes)
            for group in groups:
                commits = _group(principals, contract, group, site)
                sees = site in principals.present[name] and any(overlap(group, one) for one in contract.observes)
                yield Cell(name, "kafka", site, "group", named(group), "commit", commits)
                yield Cell(name, "kafka", site, "group", named(group), "describe", commits or sees)
            for transaction in transactions:
                here = any(principals.topics[role].written_at(own) == site for own in principals.present[name] for role in contract.publishes)  # fmt: skip
                may = here and transaction in contract.transactions
                yield Cell(name, "kafka", site, "transactional id", named(transaction), "write", may)


def _topic(principals: Principals, contract: Contract, role: str, site: str) -> tuple[bool, bool]:
    topic, sites = principals.topics[role], principals.present[contract.name]
    copied = contract.mirrors and bool(topic.mirrors)
    reads = role in contract.consumes and any(topic.read_at(own) == site for own in sites)
    reads = reads or (role in contract.follows and _feeds(principals, site, sites))
    writes = role in contract.publishes and any(topic.written_at(own) == site for own in sites)
    return reads or (copied and site in topic.homes), writes or (copied and site in topic.mirrors)


def _feeds(principals: Principals, site: str, others: tuple[str, ...]) -> bool:
    """Say whether one of the other sites has a copy of a topic whose home is `site`."""
    return any(topic.homes == (site,) and set(topic.mirrors) & set(others) for topic in principals.topics.values())


def _group(principals: Principals, contract: Contract, group: str, site: str) -> bool:
    if _feeds(principals, site, principals.present[contract.name]):
        for role in contract.follows:
            if group in contract.consumes[role] and site in principals.topics[role].homes:
                return True
    return any(
        group in groups and principals.topics[role].read_at(own) == site
        for role, groups in contract.consumes.items()
        for own in principals.present[contract.name]
    )


# -- stores and databases ----------------------------------------------------------------------------------------------


def _stores(principals: Principals) -> Iterator[Cell]:
    prefixes = {
        (store.bucket, principals.named(prefix))
        for contract in principals.contracts.values()
        for store in contract.stores
        for prefix in store.prefixes
    } | {(bucket, ELSEWHERE) for bucket in principals.buckets}
    for site, name in product(principals.environment.storage, principals.present):
        for bucket, prefix in sorted(prefixes):
            if site in principals.buckets[bucket]:
                key = f"{named(prefix)}probe"
                for verb in VERBS:
                    yield Cell(name, "store", site, bucket, key, verb, _may(principals, name, site, bucket, key, verb))


def _may(principals: Principals, name: str, site: str, bucket: str, key: str, verb: str) -> bool:
    return any(
        verb == "list" or any(fnmatchcase(key, f"{principals.named(prefix)}*") for prefix in store.prefixes)
        for store in principals.contract(name).stores
        for own in principals.present[name]
        if store.bucket == bucket and verb in store.may and site in principals.store_sites(store, own)
    )


def _databases(principals: Principals) -> Iterator[Cell]:
    for (database, site), name in product(principals.databases.items(), principals.present):
        contract = principals.contract(name)
        writes = database in contract.writes
        yield Cell(name, "database", site, "database", database, "write", writes)
        yield Cell(name, "database", site, "database", database, "read", writes or database in contract.reads)


# -- asking ------------------------------------------------------------------------------------------------------------


def wrong(
    wanted: list[Cell], password: Callable[[Cell], str], system: Mapping[str, object], prefix: Sequence[str] = ()
) -> list[str]:
    """Return the cells to which a system answers otherwise, each asked with the credentials of its principal.

    Parameters
    ----------
    password
        Returns the password of a cell's principal there; nothing where it has none.
    system
        The system's address, and what else `probe.py` must know of it.
    prefix
        Command from whose place it is asked.
    """

    def answers(batch: list[Cell]) -> Iterator[str]:
        told = [
            {"user": c.principal, "password": word or "none", "known": bool(word), "kind": c.kind, "thing": c.thing, "verb": c.verb}
            for c, word in zip(batch, map(password, batch), strict=True)
        ]  # fmt: skip
        given = json.dumps({"system": system, "cells": told})
        command = [*prefix, sys.executable, str(_PROBE), batch[0].system]
        done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{batch[0]}: code {done.returncode}: {done.stderr[-6000:]}"
        for cell, answer in zip(batch, json.loads(done.stdout), strict=True):
            expected = "allowed" if cell.allowed else "refused"
            if answer != expected:
                yield f"{cell.principal} {cell.verb} {cell.kind} {cell.thing} at {cell.site}: {answer}, not {expected}"

    with ThreadPoolExecutor(_PROCESSES) as pool:
        return [one for batch in pool.map(lambda batch: list(answers(batch)), batches(wanted)) for one in batch]


def topics_of_groups(principals: Principals, roles: Collection[str]) -> dict[str, str]:
    """Return a topic of `roles` that each group reads, by the name that it is asked with."""
    return {
        named(group): principals.topics[role].name
        for contract in principals.contracts.values()
        for role, groups in contract.consumes.items()
        if role in roles
        for group in groups
    }
