"""The contracts of all services as they stand in one environment: who runs where, and what the names of roles mean there."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from dpp.model.contracts import EVERYWHERE, OWN, Contract, OwnedTopic, Store
from dpp.model.environment import Environment
from dpp.model.errors import FatalError
from dpp.model.folders import REPOSITORY
from dpp.model.problems import DeclarationError
from dpp.model.services import Catalogue

_BRACES = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Topic:
    """A topic of an environment.

    Parameters
    ----------
    role, name
        What contracts and code call it, and what it is called in Kafka.
    homes
        Sites whose brokers it is written to: one, or several that have nothing to do with each other.
    mirrors
        Sites that get a copy.
    partitions, retention_hours
        Its figures; without a retention the newest record of each key is kept for ever.
    compacted_after_hours
        How long all the others are kept as well, then.
    """

    role: str
    name: str
    homes: tuple[str, ...]
    mirrors: tuple[str, ...]
    partitions: int
    retention_hours: int | None
    compacted_after_hours: int | None = None

    @property
    def kept_for_ever(self) -> bool:
        """Whether it is a log, of which the newest record of each key must never be lost."""
        return self.retention_hours is None and self.compacted_after_hours is None

    @property
    def sites(self) -> tuple[str, ...]:
        """All sites that have it."""
        return (*self.homes, *self.mirrors)

    def read_at(self, site: str) -> str:
        """Return the site at which a reader at `site` finds it."""
        return site if site in self.sites else self.homes[0]

    def written_at(self, site: str) -> str:
        """Return the site at which a writer at `site` writes it."""
        return site if site in self.homes else self.homes[0]


@dataclass(frozen=True)
class Principals:
    """All principals of an environment.

    Parameters
    ----------
    environment
        The environment.
    contracts
        By name of the principal.
    services
        The service of each.
    clusters
        Clusters that run a workload, by its name.
    """

    environment: Environment
    contracts: Mapping[str, Contract]
    services: Mapping[str, str]
    clusters: Mapping[str, tuple[str, ...]]

    @classmethod
    def load(cls, environment: Environment, root: Path = REPOSITORY) -> Principals:
        """Read the contracts of all services and where they run; `Catalogue.load` checks what else services name.

        Raises
        ------
        DeclarationError
            They contradict each other or the environment; it lists every mistake.
        """
        from dpp.model.contract_checks import problems  # noqa: PLC0415 - checks know principals

        principals = cls.of(environment, Catalogue.read(root), root)
        if found := list(problems(principals, root)):
            raise DeclarationError("services", sorted(found, key=lambda one: (one.file, one.subject)))
        return principals

    @classmethod
    def of(cls, environment: Environment, catalogue: Catalogue, root: Path = REPOSITORY) -> Principals:
        """Place the contracts of a catalogue in an environment."""
        pairs = [(service.name, one) for service in catalogue.services.values() for one in service.contracts.values()]
        return cls(
            environment,
            {contract.name: contract for _, contract in pairs},
            {contract.name: service for service, contract in pairs},
            clusters_of_workloads(environment, root),
        )

    def contract(self, name: str) -> Contract:
        """Return the contract of a principal; ``FatalError`` where there is none."""
        if name in self.contracts:
            return self.contracts[name]
        known = ", ".join(sorted(self.contracts))
        raise FatalError(f"principal {name}", "no contract in services/", f"one of {known}", "check the name")

    def sites_of(self, name: str) -> tuple[str, ...]:
        """Return the sites at which a principal runs."""
        contract, environment = self.contracts[name], self.environment
        if name in environment.outside:
            return (environment.outside[name].site,)
        if contract.group:
            return tuple(dict.fromkeys(host.site for host in environment.hosts_of(group=contract.group)))
        return tuple(dict.fromkeys(environment.cluster(cluster).site for cluster in self.clusters.get(name, ())))

    @cached_property
    def present(self) -> dict[str, tuple[str, ...]]:
        """The principals that run somewhere in this environment, each with its sites."""
        return {name: sites for name in sorted(self.contracts) if (sites := self.sites_of(name))}

    # -- what names mean -----------------------------------------------------------------------------------------------

    def named(self, pattern: str) -> str:
        """Return a pattern with the environment's parameters in the place of words in braces."""
        return pattern.format_map(self.environment.parameters)

    @cached_property
    def topics(self) -> dict[str, Topic]:
        """All topics, by role."""
        return {
            role: self._topic(role, owned, contract.name)
            for contract in self.contracts.values()
            for role, owned in contract.topics.items()
        }

    def _topic(self, role: str, owned: OwnedTopic, owner: str) -> Topic:
        figures = self.environment.topics.get(
            role
        )  # a device's topics have one partition, and are kept alike everywhere
        return Topic(
            role,
            self.named(owned.name),
            self.sites_of(owner) if owned.home == OWN else (owned.home,),
            owned.mirrors,
            figures.partitions if figures else 1,
            (figures.retention_hours if figures else None) or owned.retention_hours,
            owned.compacted_after_hours,
        )

    @cached_property
    def buckets(self) -> dict[str, tuple[str, ...]]:
        """All buckets, each with the sites whose stores have it."""
        stores = tuple(self.environment.storage)
        return {
            name: stores if owned.sites == EVERYWHERE else tuple(owned.sites)
            for contract in self.contracts.values()
            for name, owned in contract.buckets.items()
        }

    @cached_property
    def databases(self) -> dict[str, str]:
        """All databases, each with the site whose server has it."""
        return {name: one.site for contract in self.contracts.values() for name, one in contract.databases.items()}

    def database_host(self, database: str) -> str:
        """Return the host that serves a database: the first server of its site."""
        return self.environment.hosts_of(self.databases[database], "postgresql")[0].name

    def store_sites(self, store: Store, site: str) -> tuple[str, ...]:
        """Return the sites whose stores a principal at `site` may use so."""
        there = self.buckets[store.bucket]
        return tuple(one for one in ((site,) if store.sites == OWN else store.sites) if one in there)

    def arrivals_at(self, site: str) -> tuple[str, str] | None:
        """Return the topic that the store at `site` tells of new objects, and the bucket whose objects count."""
        for contract in self.contracts.values():
            for role, owned in contract.topics.items():
                if owned.arrivals_in and site in self.topics[role].homes:
                    return self.topics[role].name, owned.arrivals_in
        return None

    # -- who deals with whom -------------------------------------------------------------------------------------------

    def callers(self, name: str) -> tuple[str, ...]:
        """Return the principals whose contracts call `name`."""
        return tuple(one.name for one in self.contracts.values() if name in one.calls)

    def followed(self, contract: Contract, site: str) -> dict[str, tuple[str, ...]]:
        """Return, by role, the other sites at which a principal at `site` reads a topic that it has at home too."""
        homes = self.mirrored_into(site)
        return {role: tuple(home for home in homes if home in self.topics[role].homes) for role in contract.follows}

    def mirrored_into(self, site: str) -> dict[str, tuple[Topic, ...]]:
        """Return the topics that `site` copies, by the home that they are copied from."""
        found: dict[str, list[Topic]] = defaultdict(list)
        for topic in self.topics.values():
            if site in topic.mirrors:
                found[topic.homes[0]].append(topic)
        return {home: tuple(found[home]) for home in sorted(found)}


def clusters_of_workloads(environment: Environment, root: Path = REPOSITORY) -> dict[str, tuple[str, ...]]:
    """Return the clusters that run each folder of k8s/, as ``k8s/clusters/`` says."""
    found: dict[str, list[str]] = defaultdict(list)
    for cluster in environment.clusters:
        for name in _resources(root / "k8s/clusters" / environment.name / cluster):
            found[name].append(cluster)
    return {name: tuple(dict.fromkeys(clusters)) for name, clusters in found.items()}


def _resources(folder: Path) -> Iterator[str]:
    """Yield the folders of k8s/ that a cluster's kustomizations name; one below it is what a night adds."""
    import yaml  # noqa: PLC0415 - `dpp --help` does without

    for path in sorted(folder.glob("**/kustomization.yaml")):
        content = yaml.load(path.read_text(), yaml.CSafeLoader)
        yield from (Path(resource).name for resource in content.get("resources", ()) if not resource.endswith(".yaml"))


def parameters(pattern: str) -> tuple[str, ...]:
    """Return the parameters that a pattern names."""
    return tuple(_BRACES.findall(pattern))
