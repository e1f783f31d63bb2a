"""What contracts come to in an environment: topics, users and rights of each Kafka, store and database, and secrets.

Pure functions of the model: they know no machine and no password.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

from dpp.model.contracts import Contract, Store
from dpp.model.declared import KAFKA_MESSAGE_BYTES, KAFKA_PORT, POSTGRESQL_PORT
from dpp.model.principals import Principals, Topic

LOCAL: Final = "ANONYMOUS"
"""Who comes to a broker from its own host without a password."""
_ACTIONS: Final = {
    "read": ("s3:GetObject",),
    "write": ("s3:PutObject", "s3:AbortMultipartUpload"),
    "delete": ("s3:DeleteObject",),
    "list": ("s3:ListBucket", "s3:GetBucketLocation"),
}
_ADMINISTRATORS: Final = {"kafka-admin", "kafka-controller"}
"""Passwords at Kafka that are no principal's."""
_MIRROR_TOPICS: Final = "mm2-*"


class KafkaRight(NamedTuple):
    """One right at one Kafka; a name that ends in ``*`` means all that begin so."""

    user: str
    kind: str
    name: str
    operation: str
    host: str = "*"


class Grant(NamedTuple):
    """What one principal may do with the objects of a bucket that begin with a prefix."""

    user: str
    bucket: str
    prefix: str
    verbs: tuple[str, ...]


class Database(NamedTuple):
    """A database, its extensions and who uses it how."""

    name: str
    extensions: tuple[str, ...]
    writers: tuple[str, ...]
    readers: tuple[str, ...]


# -- Kafka -------------------------------------------------------------------------------------------------------------


def topics_at(principals: Principals, site: str) -> dict[str, dict[str, int | None]]:
    """Return the topics that the brokers of `site` have, by name, with partitions and retention."""
    return {
        topic.name: _kept(topic)
        for topic in sorted(principals.topics.values(), key=lambda one: one.name)
        if site in topic.sites
    }


def _kept(topic: Topic) -> dict[str, int | None]:
    figures = {"partitions": topic.partitions, "retention_hours": topic.retention_hours}
    lag = topic.compacted_after_hours
    return figures if lag is None else figures | {"compacted_after_hours": lag}


def kafka_rights(principals: Principals, site: str) -> tuple[KafkaRight, ...]:
    """Return every right that there is at the Kafka of `site`."""
    found = {
        right for name in principals.present for right in _kafka_rights(principals, principals.contract(name), site)
    }
    arrivals = principals.arrivals_at(site)
    if arrivals:
        found |= {KafkaRight(LOCAL, "topic", arrivals[0], verb, "127.0.0.1") for verb in ("describe", "write")}
    return tuple(sorted(found))


def kafka_users(principals: Principals, site: str) -> tuple[str, ...]:
    """Return the principals that log in to the Kafka of `site`."""
    return tuple(dict.fromkeys(right.user for right in kafka_rights(principals, site) if right.user != LOCAL))


def _kafka_rights(principals: Principals, contract: Contract, site: str) -> Iterator[KafkaRight]:
    user, topics = contract.name, principals.topics
    for own in principals.present[user]:
        here = [role for role in contract.publishes if topics[role].written_at(own) == site]
        for role in here:
            yield KafkaRight(user, "topic", topics[role].name, "write")
            if topics[role].kept_for_ever:  # who writes what must never be lost sees how it is kept
                yield KafkaRight(user, "topic", topics[role].name, "describe_configs")
        for role, groups in contract.consumes.items():
            if topics[role].read_at(own) == site:
                yield KafkaRight(user, "topic", topics[role].name, "read")
                yield from (KafkaRight(user, "group", group, "read") for group in groups)
        yield from _following_rights(principals, contract, own, site)
        if here:
            yield from (KafkaRight(user, "transactional_id", name, "write") for name in contract.transactions)
        if own == site:
            yield from (KafkaRight(user, "group", group, "describe") for group in contract.observes)
        if contract.mirrors:
            yield from _mirror_rights(principals, user, own, site)


def _following_rights(principals: Principals, contract: Contract, own: str, site: str) -> Iterator[KafkaRight]:
    """Yield what a principal at `own` may do at `site`, where it reads what it has at home too."""
    for role, homes in principals.followed(contract, own).items():
        if site in homes:
            yield KafkaRight(contract.name, "topic", principals.topics[role].name, "read")
            yield from (KafkaRight(contract.name, "group", group, "read") for group in contract.consumes[role])


def _mirror_rights(principals: Principals, user: str, own: str, site: str) -> Iterator[KafkaRight]:
    """Yield what MirrorMaker at `own` may do at `site`: read at home, write and keep its own accounts here."""
    for home, topics in principals.mirrored_into(own).items():
        if site == home:
            for topic in topics:
                yield KafkaRight(user, "topic", topic.name, "read")
                yield KafkaRight(user, "topic", topic.name, "describe_configs")
        elif site == own:
            for topic in topics:
                yield KafkaRight(user, "topic", topic.name, "write")
            for name in (_MIRROR_TOPICS, "heartbeats", f"{home}.checkpoints.internal"):
                yield KafkaRight(user, "topic", name, "all")
            yield KafkaRight(user, "group", f"{home}-mm2", "read")


def mirrors_at(principals: Principals, site: str) -> dict[str, dict[str, list[str]]]:
    """Return, by home, the brokers and topics that MirrorMaker at `site` copies from."""
    return {
        home: {
            "bootstrap": list(principals.environment.kafka_bootstrap(home)),
            "topics": [topic.name for topic in topics],
        }
        for home, topics in principals.mirrored_into(site).items()
    }


# -- object stores -----------------------------------------------------------------------------------------------------


def buckets_at(principals: Principals, site: str) -> tuple[str, ...]:
    """Return the buckets of the store of `site`."""
    return tuple(sorted(bucket for bucket, sites in principals.buckets.items() if site in sites))


def grants_at(principals: Principals, site: str) -> tuple[Grant, ...]:
    """Return who may do what with which objects of the store of `site`."""
    found = {
        grant
        for name, sites in principals.present.items()
        for own in sites
        for store in principals.contract(name).stores
        if site in principals.store_sites(store, own)
        for grant in _grants(principals, name, store)
    }
    return tuple(sorted(found))


def _grants(principals: Principals, user: str, store: Store) -> Iterator[Grant]:
    for prefix in store.prefixes:
        yield Grant(user, store.bucket, principals.named(prefix), store.may)


def store_users(principals: Principals, site: str) -> tuple[str, ...]:
    """Return the principals that have a key to the store of `site`."""
    return tuple(dict.fromkeys(grant.user for grant in grants_at(principals, site)))


def bucket_policies(principals: Principals, site: str) -> dict[str, dict[str, Any]]:
    """Return the policy of each bucket at `site`, in S3's own words; none where nobody may do anything."""
    policies: dict[str, dict[str, Any]] = {}
    for grant in grants_at(principals, site):
        policy = policies.setdefault(grant.bucket, {"Version": "2012-10-17", "Statement": []})
        policy["Statement"] += _statements(grant)
    return policies


def _statements(grant: Grant) -> Iterator[dict[str, Any]]:
    arn = f"arn:aws:s3:::{grant.bucket}"
    objects = [action for verb in grant.verbs if verb != "list" for action in _ACTIONS[verb]]
    keys = [f"{arn}/{grant.prefix}*"]
    if grant.prefix and "*" not in grant.prefix:
        keys.append(f"{arn}/{grant.prefix}")  # stores over a file system see a folder apart from what is in it
    listing = list(_ACTIONS["list"]) if "list" in grant.verbs else []
    for actions, resources in ((objects, keys), (listing, [arn])):
        if actions:
            yield {"Effect": "Allow", "Principal": {"AWS": [grant.user]}, "Action": actions, "Resource": resources}


# -- databases ---------------------------------------------------------------------------------------------------------


def databases_on(principals: Principals, host: str) -> tuple[Database, ...]:
    """Return the databases that `host` serves."""
    present = [principals.contract(name) for name in principals.present]
    return tuple(
        Database(
            name,
            owned.extensions,
            tuple(one.name for one in present if name in one.writes),
            tuple(one.name for one in present if name in one.reads),
        )
        for contract in principals.contracts.values()
        for name, owned in sorted(contract.databases.items())
        if principals.database_host(name) == host
    )


def database_users(databases: Iterable[Database]) -> tuple[str, ...]:
    """Return who logs in to a server with these databases."""
    return tuple(sorted({user for one in databases for user in (*one.writers, *one.readers)}))


# -- one host ----------------------------------------------------------------------------------------------------------


def of_host(principals: Principals, host: str) -> dict[str, Any]:
    """Return what a host's roles bring about, as plain values: what its site has, and the databases of its own."""
    site = principals.environment.host(host).site
    arrivals = principals.arrivals_at(site)
    databases = databases_on(principals, host)
    return {
        "topics": topics_at(principals, site),
        "mirrors": mirrors_at(principals, site),
        "kafka_secrets": {user: kafka_secret(user) for user in kafka_users(principals, site)},
        "message_bytes": KAFKA_MESSAGE_BYTES,
        "kafka_rights": [right._asdict() for right in kafka_rights(principals, site)],
        "arrivals": arrivals[0] if arrivals else "",
        "buckets": list(buckets_at(principals, site)),
        "bucket_policies": bucket_policies(principals, site),
        "store_secrets": {user: store_secret(site, user) for user in store_users(principals, site)},
        "databases": {one.name: one._asdict() for one in databases},
        "database_secrets": {user: database_secret(user) for user in database_users(databases)},
        "retired": {kind: list(names) for kind, names in principals.environment.retired},
        "ports": {"kafka": KAFKA_PORT, "postgresql": POSTGRESQL_PORT},
        "volumes": [one.name for one in principals.environment.volumes.values() if one.node == host],
    }


# -- secrets -----------------------------------------------------------------------------------------------------------


def secrets_of(principals: Principals, name: str, site: str) -> dict[str, str]:
    """Return the secrets that a principal at `site` has: by the name that it knows, the environment's name."""
    contract = principals.contract(name)
    found = {"kafka": kafka_secret(name)} if contract.streams else {}
    stores = {one for store in contract.stores for one in principals.store_sites(store, site)}
    found |= {f"s3-{one}": store_secret(one, name) for one in sorted(stores)}
    return found | ({"postgresql": database_secret(name)} if contract.reads or contract.writes else {})


def gone(principals: Principals, secrets: Iterable[str]) -> tuple[str, ...]:
    """Return those of the environment's passwords that were a principal's and are nobody's any more."""
    sites = principals.environment.sites
    own = {secret for name, places in principals.present.items() for site in places for secret in secrets_of(principals, name, site).values()}  # fmt: skip
    begins = (kafka_secret(""), database_secret(""), *(store_secret(site, "") for site in sites))
    return tuple(sorted(one for one in secrets if one.startswith(begins) and one not in own | _ADMINISTRATORS))


def kafka_secret(user: str) -> str:
    """Return the environment's name of the password with which `user` logs in to every Kafka."""
    return f"kafka-{user}"


def store_secret(site: str, user: str) -> str:
    """Return the environment's name of the secret key of `user` at the store of `site`."""
    return f"s3-{site}-{user}"


def database_secret(user: str) -> str:
    """Return the environment's name of the password with which `user` logs in to every database server."""
    return f"postgresql-{user}"
