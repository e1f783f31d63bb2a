"""What no contract can know by itself: whether those of all services agree with each other and with an environment.

Each check is a generator of mistakes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import combinations
from pathlib import Path
from typing import Final

from dpp.model.contracts import EVERYWHERE, OWN, SAL, Contract, overlap
from dpp.model.principals import Principals, parameters
from dpp.model.problems import Problem

SCHEMAS: Final = "workloads/src/workloads/common/schemas"
Check = Callable[[Principals], Iterator[Problem]]
_OWNED: Final = {"topics": "topic", "buckets": "bucket", "databases": "database"}


def problems(principals: Principals, root: Path) -> Iterator[Problem]:
    """Yield every mistake; what builds upon others is asked only where those are right."""
    ground = [*_names(principals), *_figures(principals), *_places(principals)]
    yield from ground
    if not ground:
        for check in (_topics, _follows, _groups, _transactions, _stores, _databases, _calls, _volumes, _retired):
            yield from check(principals)
        yield from _schemas(principals, root)


def _mistake(principals: Principals, contract: Contract, key: str, found: str, expected: str, remedy: str) -> Problem:
    file = f"services/{principals.services[contract.name]}.yml"
    return Problem(file, None, f"contracts/{contract.name}/{key}", found, expected, remedy)


def _inventory(principals: Principals, file: str, key: str, found: str, expected: str, remedy: str) -> Problem:
    path = f"inventories/{principals.environment.name}/group_vars/all/{file}.yml"
    return Problem(path, None, key, found, expected, remedy)


# -- what is owned, and that it has a figure and a place ---------------------------------------------------------------


def _names(principals: Principals) -> Iterator[Problem]:
    """Yield things with two owners, things that nobody owns, and parameters that nobody declares."""
    owners: dict[tuple[str, str], str] = {}
    for contract in principals.contracts.values():
        for field, noun in _OWNED.items():
            for name in getattr(contract, field):
                other = owners.setdefault((noun, name), contract.name)
                if other != contract.name:
                    found = f"{noun} {name}, which {other} owns too"
                    yield _mistake(principals, contract, f"{field}/{name}", found, "one owner", "delete one of the two")
    known = {noun: sorted(name for kind, name in owners if kind == noun) for noun in _OWNED.values()}
    for contract in principals.contracts.values():
        for field, noun, name in _named(contract):
            if name not in known[noun]:
                found, expected = f"{noun} {name}, which nobody owns", f"one of {', '.join(known[noun]) or 'none'}"
                yield _mistake(principals, contract, field, found, expected, "correct the name or declare its owner")
        for pattern in _patterns(contract):
            for unknown in sorted(set(parameters(pattern)) - set(principals.environment.parameters)):
                expected = f"one of {', '.join(principals.environment.parameters)}"
                found = f"parameter {unknown} of {pattern}, which nobody declares"
                yield _mistake(principals, contract, "topics", found, expected, "correct the name")


def _named(contract: Contract) -> Iterator[tuple[str, str, str]]:
    """Yield what a contract names that others own: the key, the noun, the name."""
    yield from (("publishes", "topic", name) for name in contract.publishes)
    yield from (("consumes", "topic", name) for name in contract.consumes)
    yield from (("follows", "topic", name) for name in contract.follows)
    yield from (("stores", "bucket", store.bucket) for store in contract.stores)
    yield from (("topics", "bucket", one.arrivals_in) for one in contract.topics.values() if one.arrivals_in)
    yield from (("writes", "database", name) for name in contract.writes)
    yield from (("reads", "database", name) for name in contract.reads)


def _patterns(contract: Contract) -> Iterator[str]:
    yield from (topic.name for topic in contract.topics.values())
    yield from (prefix for store in contract.stores for prefix in store.prefixes)


def _figures(principals: Principals) -> Iterator[Problem]:
    owned = {
        role
        for contract in principals.contracts.values()
        for role, topic in contract.topics.items()
        if topic.content != SAL
    }
    figures = set(principals.environment.topics)
    for role in sorted(figures - owned):
        yield _inventory(
            principals, "topics", f"dpp_topics/{role}", "figures of a topic that nobody owns",
            f"one of {', '.join(sorted(owned)) or 'none'}", "correct the name, or declare its owner in services/",
        )  # fmt: skip
    for role in sorted(owned - figures):
        yield _inventory(principals, "topics", f"dpp_topics/{role}", "nothing", "its partitions", "add them")


def _places(principals: Principals) -> Iterator[Problem]:
    """Yield principals whose place is none, and outsiders that nobody plays."""
    environment = principals.environment
    for name in environment.outside:
        contract = principals.contracts.get(name)
        if contract is None or contract.stands_in_for is None:
            stand_ins = sorted(one.name for one in principals.contracts.values() if one.stands_in_for)
            yield _inventory(
                principals, "outside", f"dpp_outside/{name}", f"{name}, which stands in for nobody",
                f"one of {', '.join(stand_ins) or 'none'}", "correct the name",
            )  # fmt: skip
        elif principals.clusters.get(name):
            found = f"{name}, which cluster {principals.clusters[name][0]} runs"
            yield _inventory(principals, "outside", f"dpp_outside/{name}", found, "one place", "delete one of the two")
    groups = {group for host in environment.hosts.values() for group in host.groups}
    for contract in principals.contracts.values():
        if contract.group and contract.group not in groups:
            yield _mistake(principals, contract, "group", contract.group, "a group with hosts", "correct the name")


def _retired(principals: Principals) -> Iterator[Problem]:
    """Yield what is to be dropped with its data although a contract owns it."""
    retired = principals.environment.retired
    owned = {
        "topics": {topic.name for topic in principals.topics.values()},
        "buckets": set(principals.buckets),
        "databases": set(principals.databases),
    }
    for kind, names in owned.items():
        for name in sorted(names & set(getattr(retired, kind))):
            found = f"{name}, which a contract in services/ owns"
            expected = f"{kind} that nobody owns any more"
            yield _inventory(principals, "retired", f"dpp_retired/{kind}", found, expected, "delete one of the two")


# -- Kafka -------------------------------------------------------------------------------------------------------------


def _topics(principals: Principals) -> Iterator[Problem]:
    brokers = sorted({host.site for host in principals.environment.hosts_of(group="kafka_broker")})
    taken: dict[tuple[str, str], str] = {}
    for contract in principals.contracts.values():
        for role, owned in contract.topics.items():
            topic, key = principals.topics[role], f"topics/{role}"
            for field, sites in (("home", topic.homes), ("mirrors", topic.mirrors)):
                for site in sorted(set(sites) - set(brokers)):
                    found, expected = f"{site}, which has no broker", f"one of {', '.join(brokers)}"
                    yield _mistake(principals, contract, f"{key}/{field}", found, expected, "choose another")
            if owned.mirrors and (owned.home == OWN or owned.home in owned.mirrors):
                found = f"its home {owned.home}"
                yield _mistake(
                    principals,
                    contract,
                    f"{key}/mirrors",
                    found,
                    "other sites only",
                    "correct it: a topic must not loop",
                )
            for site in topic.sites:
                if taken.setdefault((site, topic.name), role) != role:
                    found = f"{topic.name}, the name of {taken[site, topic.name]} too"
                    yield _mistake(principals, contract, f"{key}/name", found, "a name of its own", "choose another")
            if owned.arrivals_in and not set(topic.homes) <= set(principals.buckets[owned.arrivals_in]):
                found = f"bucket {owned.arrivals_in}, which the store of {', '.join(topic.homes)} does not have"
                yield _mistake(principals, contract, f"{key}/arrivals_in", found, "a bucket at its home", "correct one")


def _follows(principals: Principals) -> Iterator[Problem]:
    for contract in principals.contracts.values():
        for role in contract.follows:
            owned = contract.topics.get(role)
            if owned is None or owned.home != OWN or role not in contract.consumes:
                found, expected = f"topic {role}", f"a topic of its own with home {OWN} that it consumes"
                yield _mistake(principals, contract, "follows", found, expected, "correct the name")


def _schemas(principals: Principals, root: Path) -> Iterator[Problem]:
    there = {path.name.split(".", 1)[1].removesuffix(".avsc"): path for path in (root / SCHEMAS).glob("*.*.avsc")}
    declared = {
        role: contract
        for contract in principals.contracts.values()
        for role, owned in contract.topics.items()
        if owned.content == "avro"
    }
    for role in sorted(declared.keys() - there.keys()):
        found, expected = "no schema", f"a file {SCHEMAS}/<id>.{role}.avsc"
        yield _mistake(principals, declared[role], f"topics/{role}/content", found, expected, "write it")
    for role in sorted(there.keys() - declared.keys()):
        file = str(there[role].relative_to(root))
        yield Problem(file, None, role, "a schema of no topic", "one named after a topic", "rename or delete it")


def _groups(principals: Principals) -> Iterator[Problem]:
    groups = {contract.name: contract.groups for contract in principals.contracts.values()}
    yield from _shared(principals, "consumes", "group", groups)
    for contract in principals.contracts.values():
        for group in contract.observes:
            if not any(overlap(group, other) for name, own in groups.items() if name != contract.name for other in own):
                found = f"group {group}, which nobody consumes in"
                yield _mistake(principals, contract, "observes", found, "a group of another", "correct the name")


def _transactions(principals: Principals) -> Iterator[Problem]:
    ids = {contract.name: contract.transactions for contract in principals.contracts.values()}
    yield from _shared(principals, "transactions", "transactional id", ids)
    for contract in principals.contracts.values():
        if contract.transactions and not contract.publishes:
            found = "transactions without a topic"
            yield _mistake(principals, contract, "transactions", found, "topics that it publishes", "delete them")


def _shared(principals: Principals, key: str, noun: str, names: Mapping[str, tuple[str, ...]]) -> Iterator[Problem]:
    for one, other in combinations(names, 2):
        for mine in names[one]:
            for theirs in names[other]:
                if overlap(mine, theirs):
                    found = f"{noun} {theirs}, which {one} uses as {mine}"
                    contract = principals.contracts[other]
                    yield _mistake(principals, contract, key, found, f"a {noun} of its own", "rename one of the two")


# -- stores and databases ----------------------------------------------------------------------------------------------


def _stores(principals: Principals) -> Iterator[Problem]:
    stores = set(principals.environment.storage)
    for contract in principals.contracts.values():
        for name, owned in contract.buckets.items():
            for site in sorted(set() if owned.sites == EVERYWHERE else set(owned.sites) - stores):
                found, expected = f"{site}, which has no store", f"one of {', '.join(sorted(stores))}"
                yield _mistake(principals, contract, f"buckets/{name}/sites", found, expected, "choose another")
        for own in principals.present.get(contract.name, ()):
            for store in contract.stores:
                wanted = {own} if store.sites == OWN else set(store.sites)
                for site in sorted(wanted - set(principals.buckets[store.bucket])):
                    found = f"bucket {store.bucket} of {site}, which that store does not have"
                    expected = f"one of {', '.join(principals.buckets[store.bucket])}"
                    yield _mistake(principals, contract, "stores", found, expected, "correct the sites")


def _databases(principals: Principals) -> Iterator[Problem]:
    for contract in principals.contracts.values():
        for name, owned in contract.databases.items():
            if not principals.environment.hosts_of(owned.site, "postgresql"):
                found = f"{owned.site}, which has no database server"
                sites = sorted({host.site for host in principals.environment.hosts_of(group="postgresql")})
                expected = f"one of {', '.join(sites)}"
                yield _mistake(principals, contract, f"databases/{name}/site", found, expected, "choose another")
        for name in sorted(set(contract.writes) & set(contract.reads)):
            yield _mistake(principals, contract, "reads", f"{name}, which it writes", "one of the two", "delete it")


# -- ports and volumes -------------------------------------------------------------------------------------------------


def _calls(principals: Principals) -> Iterator[Problem]:
    for contract in principals.contracts.values():
        for name, port in contract.calls.items():
            reason = _unanswered(principals, contract, name, port)
            if reason:
                yield _mistake(
                    principals,
                    contract,
                    f"calls/{name}",
                    reason,
                    "a port that is served to it",
                    "correct one of the two",
                )
        for port, served in contract.serves.items():
            for caller in () if isinstance(served.to, str) else served.to:
                if contract.name not in getattr(principals.contracts.get(caller), "calls", {}):
                    found = f"{caller}, which does not call it"
                    yield _mistake(principals, contract, f"serves/{port}/to", found, "callers only", "delete it")


def _unanswered(principals: Principals, contract: Contract, name: str, port: str) -> str:
    """Return why a call of `contract` is not answered, or nothing."""
    server = principals.contracts.get(name)
    if server is None or port not in server.serves:
        return f"port {port} of {name}, which nobody serves"
    admitted = server.serves[port].to
    if not isinstance(admitted, str) and contract.name not in admitted:
        return f"port {port} of {name}, which is served to {', '.join(admitted)}"
    outside = principals.environment.outside.get(name)
    if outside:
        return "" if outside.address else f"{name}, which is outside and has no address"
    missing = sorted(set(principals.clusters.get(contract.name, ())) - set(principals.clusters.get(name, ())))
    return f"{name}, which cluster {missing[0]} does not run" if missing else ""


def _volumes(principals: Principals) -> Iterator[Problem]:
    environment = principals.environment
    running = {name: principals.clusters.get(name, ()) for name in principals.present}
    wanted = {
        f"{name}-{volume}": clusters
        for name, clusters in running.items()
        if clusters
        for volume in principals.contracts[name].volumes
    }
    for volume in sorted(wanted.keys() - environment.volumes.keys()):
        yield _inventory(principals, "volumes", f"dpp_volumes/{volume}", "nothing", "its node and size", "add them")
    for name, figures in environment.volumes.items():
        if name not in wanted:
            found = "a volume of nobody who runs here"
            expected = f"one of {', '.join(sorted(wanted)) or 'none'}"
            yield _inventory(principals, "volumes", f"dpp_volumes/{name}", found, expected, "correct the name")
            continue
        nodes = [node for cluster in wanted[name] for node in environment.cluster(cluster).hosts]
        if figures.node not in nodes:
            found, expected = figures.node, f"a node of cluster {', '.join(wanted[name])}"
            yield _inventory(principals, "volumes", f"dpp_volumes/{name}/node", found, expected, "choose another")
    for name, clusters in running.items():
        if len(clusters) > 1 and principals.contracts[name].volumes:
            found, expected = f"clusters {', '.join(clusters)}, which run it", "one cluster, where its volume lies"
            yield _mistake(principals, principals.contracts[name], "volumes", found, expected, "correct k8s/clusters")
