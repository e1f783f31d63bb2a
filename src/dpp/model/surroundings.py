"""What a principal is told of its surroundings: its contract, with the names and addresses that it has in an environment."""

from __future__ import annotations

from typing import Any

from dpp.model.contracts import Contract
from dpp.model.declared import KAFKA_MESSAGE_BYTES, POSTGRESQL_PORT
from dpp.model.principals import Principals


def surroundings(principals: Principals, name: str, site: str) -> dict[str, Any]:
    """Return the contents of ``/etc/dpp/site.yml`` for a principal at `site`: what it may use, and nothing else.

    Raises
    ------
    FatalError
        There is no such principal or site.
    """
    contract, environment = principals.contract(name), principals.environment
    environment.site(site)
    topics = _topics(principals, contract, site)
    brokers = dict.fromkeys(
        place for one in topics.values() for place in (one["read_at"], one["written_at"], *one["followed_at"]) if place
    )
    grants = _grants(principals, contract, site)
    return {
        "environment": environment.name,
        "site": site,
        "principal": name,
        "kafka": {place: _cluster(principals, place) for place in brokers},
        "topics": topics,
        "observes": list(contract.observes),
        "transactions": list(contract.transactions),
        "catalogue": _catalogue(principals) if contract.catalogues else {},
        "schema_ids": list(environment.site(site).schema_ids) if contract.catalogues else [],
        "object_stores": {one["site"]: {"endpoint": environment.storage[one["site"]].endpoint} for one in grants},
        "buckets": grants,
        "databases": {database: _database(principals, contract, database) for database in (*contract.writes, *contract.reads)},
        "services": {called: address_of(principals, called, port) for called, port in contract.calls.items()},
        "camera": {
            "size": environment.camera.detector_pixels,
            "visits_in_flight": environment.camera.visits_in_flight,
            "spare_workers": environment.camera.spare_workers,
            "detectors_off": list(environment.camera.detectors_off),
            "detectors": [detector._asdict() for detector in environment.camera.detectors],
        },
    }  # fmt: skip


def _cluster(principals: Principals, site: str) -> dict[str, Any]:
    bootstrap = ",".join(principals.environment.kafka_bootstrap(site))
    return {"bootstrap": bootstrap, "message_bytes": KAFKA_MESSAGE_BYTES}


def _topics(principals: Principals, contract: Contract, site: str) -> dict[str, dict[str, Any]]:
    """Return, by role, what its topics are called, where it reads and writes them, and in which groups."""
    return {
        role: {
            "name": principals.topics[role].name,
            "read_at": principals.topics[role].read_at(site) if role in contract.consumes else None,
            "written_at": principals.topics[role].written_at(site) if role in contract.publishes else None,
            "followed_at": list(principals.followed(contract, site).get(role, ())),
            "groups": list(contract.consumes.get(role, ())),
        }
        for role in dict.fromkeys((*contract.publishes, *contract.consumes))
    }


def _catalogue(principals: Principals) -> dict[str, str]:
    """Return what the topics of Avro records are called, by role."""
    return {
        role: principals.topics[role].name
        for contract in principals.contracts.values()
        for role, owned in contract.topics.items()
        if owned.content == "avro"
    }


def _grants(principals: Principals, contract: Contract, site: str) -> list[dict[str, Any]]:
    return [
        {"bucket": store.bucket, "site": place, "prefix": principals.named(prefix), "may": list(store.may)}
        for store in contract.stores
        for place in principals.store_sites(store, site)
        for prefix in store.prefixes
    ]


def _database(principals: Principals, contract: Contract, database: str) -> dict[str, Any]:
    may = "write" if database in contract.writes else "read"
    return {"host": principals.database_host(database), "port": POSTGRESQL_PORT, "may": may}


def address_of(principals: Principals, name: str, port: str) -> str:
    """Return the URL of a port that a principal serves: by its name in a cluster, by its address where it is outside."""
    outside = principals.environment.outside.get(name)
    host = str(outside.address) if outside and outside.address else name
    return f"http://{host}:{principals.contract(name).serves[port].port}"


def as_yaml(settings: dict[str, Any]) -> str:
    """Return `settings` as the YAML document that goes into the ConfigMap."""
    import yaml  # noqa: PLC0415

    return "---\n" + yaml.safe_dump(settings, sort_keys=False, width=120)
