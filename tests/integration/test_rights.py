"""Rights are brought about by the roles' modules as contracts say, cell by cell, and taken away when they say so no longer."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from dpp.model import rights
from integration.miniature import ADMIN_SECRET, ROOT, SITES, Miniature, bare, module, password_of
from lab.cells import Cell, cells, topics_of_groups, wrong


@pytest.fixture(scope="module")
def miniature() -> Iterator[Miniature]:
    with bare("rights") as made:
        made.start()
        yield made


def answered_wrong(miniature: Miniature, address: str, wanted: list[Cell], users: set[str]) -> list[str]:
    """Return the cells to which a system answers otherwise."""
    principals = miniature.principals
    topics = {"any": principals.topics["ledger"].name} | topics_of_groups(principals, principals.topics)
    system = {"address": address, "authority": "", "topics": topics}
    return wrong(wanted, lambda cell: password_of(cell.principal) if cell.principal in users else "", system)


def test_kafka_keeps_to_every_cell(miniature: Miniature) -> None:
    """One Kafka stands for those of all sites: what is allowed at one of them is allowed."""
    merged: dict[tuple[str, ...], Cell] = {}
    for cell in (one for one in cells(miniature.principals) if one.system == "kafka"):
        key = cell.principal, cell.kind, cell.thing, cell.verb
        merged[key] = cell._replace(allowed=cell.allowed or (key in merged and merged[key].allowed))
    users = {user for site in SITES for user in rights.kafka_users(miniature.principals, site)}
    wanted = list(merged.values())
    assert not answered_wrong(miniature, f"127.0.0.1:{miniature.users_port}", wanted, users)


@pytest.mark.parametrize("site", SITES)
def test_a_store_keeps_to_every_cell(miniature: Miniature, site: str) -> None:
    wanted = [one for one in cells(miniature.principals) if (one.system, one.site) == ("store", site)]
    users = set(rights.store_users(miniature.principals, site))
    address = f"http://127.0.0.1:{miniature.store_ports[site]}"
    assert not answered_wrong(miniature, address, wanted, users)


def databases(miniature: Miniature) -> tuple[rights.Database, ...]:
    host = miniature.principals.environment.hosts_of("ncsa", "postgresql")[0].name
    return rights.databases_on(miniature.principals, host)


def test_databases_keep_to_every_cell(miniature: Miniature) -> None:
    wanted = [one for one in cells(miniature.principals) if one.system == "database"]
    users = set(rights.database_users(databases(miniature)))
    address = f"127.0.0.1:{miniature.database_port}"
    assert not answered_wrong(miniature, address, wanted, users)


def test_a_second_time_changes_nothing_and_who_is_not_named_is_taken_away_from_kafka(miniature: Miniature) -> None:
    found = {right for site in SITES for right in rights.kafka_rights(miniature.principals, site)}
    users = {right.user for right in found if right.user != rights.LOCAL}

    def converge(*, without: str = "") -> list[str]:
        return module(
            "dpp_kafka",
            bootstrap=f"127.0.0.1:{miniature.users_port}",
            admin_password=ADMIN_SECRET,
            users={user: password_of(user) for user in users if user != without},
            rights=[right._asdict() for right in sorted(found) if right.user != without],
        )

    assert converge() == []
    assert converge(without="broker") == [
        "User:broker may read group broker-*: taken away",
        "User:broker may read topic lsst-alerts-v11: taken away",
        "user broker: taken away",
    ]
    assert converge(without="broker") == []
    assert "user broker: made" in converge()
    assert converge() == []


def test_a_topic_goes_only_when_it_is_named_as_retired(miniature: Miniature) -> None:
    def converge(**arguments: Any) -> list[str]:
        wanted = {"bootstrap": f"127.0.0.1:{miniature.users_port}", "admin_password": ADMIN_SECRET}
        present = {right for site in SITES for right in rights.kafka_rights(miniature.principals, site)}
        users = {right.user: password_of(right.user) for right in present if right.user != rights.LOCAL}
        held = {"users": users, "rights": [right._asdict() for right in sorted(present)]}
        return module("dpp_kafka", **wanted, **held, **arguments)

    topic = {"dpp.no.longer": {"partitions": 1, "retention_hours": 1}}
    assert converge(topics=topic) == ["topic dpp.no.longer: made with 1 partitions"]
    assert converge() == []
    assert converge(retired=["dpp.no.longer", "dpp.never.was"]) == ["topic dpp.no.longer: deleted"]
    assert converge(retired=["dpp.no.longer"]) == []


def test_policies_that_are_not_named_are_taken_away_and_no_bucket_is(miniature: Miniature) -> None:
    policies = rights.bucket_policies(miniature.principals, "ncsa")

    def converge(buckets: list[str], policies: dict[str, Any]) -> list[str]:
        endpoint = f"http://127.0.0.1:{miniature.store_ports['ncsa']}"
        return module("dpp_buckets", endpoint=endpoint, access=ROOT, secret=ADMIN_SECRET, buckets=buckets, policies=policies)  # fmt: skip

    every = list(rights.buckets_at(miniature.principals, "ncsa"))
    assert converge(every, policies) == []
    fewer = {name: policy for name, policy in policies.items() if name != "alerts"}
    assert converge(["butler", "raw"], fewer) == ["bucket alerts: policy taken away"]
    assert "alerts" in {one["Name"] for one in miniature.s3("ncsa").list_buckets()["Buckets"]}
    assert all(change.startswith("bucket alerts: granted") for change in converge(every, policies))


def test_a_bucket_goes_only_when_it_is_named_as_retired(miniature: Miniature) -> None:
    policies, every = rights.bucket_policies(miniature.principals, "ncsa"), list(rights.buckets_at(miniature.principals, "ncsa"))  # fmt: skip

    def converge(buckets: list[str], **arguments: Any) -> list[str]:
        endpoint = f"http://127.0.0.1:{miniature.store_ports['ncsa']}"
        return module("dpp_buckets", endpoint=endpoint, access=ROOT, secret=ADMIN_SECRET, buckets=buckets, policies=policies, **arguments)  # fmt: skip

    assert converge([*every, "no-longer"]) == ["bucket no-longer: made"]
    s3 = miniature.s3("ncsa")
    for key in ("in/a/folder", "beside"):
        s3.put_object(Bucket="no-longer", Key=key, Body=b"kept until it is named")
    assert converge(every) == []
    assert len(s3.list_objects_v2(Bucket="no-longer")["Contents"]) == 2
    assert converge(every, retired=["no-longer", "never-was"]) == ["bucket no-longer: deleted with its objects"]
    assert converge(every, retired=["no-longer"]) == []


def test_roles_that_are_not_named_are_taken_away_and_no_table_is(miniature: Miniature) -> None:
    declared = {one.name: one._asdict() for one in databases(miniature)}
    users = {user: password_of(user) for user in rights.database_users(databases(miniature))}

    def converge(databases: dict[str, Any], users: dict[str, str]) -> list[str]:
        place = {"socket": str(miniature.folder / "postgresql"), "port": miniature.database_port}
        return module("dpp_databases", **place, databases=databases, users=users)

    def sql(user: str, statement: str) -> str:
        command = ["psql", "-h", "127.0.0.1", "-p", str(miniature.database_port), "-U", user, "-d", "butler", "-Atc"]
        environment = {"PGPASSWORD": password_of(user), "PATH": "/usr/bin:/bin"}
        done = subprocess.run([*command, statement], capture_output=True, text=True, env=environment, check=False)
        return " ".join((done.stdout + done.stderr).split())

    assert converge(declared, users) == []
    assert sql("calibration", "CREATE TABLE kept (number int); SELECT current_user") == "CREATE TABLE butler-writers"
    fewer = {**declared, "butler": {**declared["butler"], "writers": ["data-backbone"], "readers": ["health"]}}
    remaining = {user: word for user, word in users.items() if user != "calibration"}
    changes = converge(fewer, remaining)
    assert "role calibration: taken away" in changes
    assert "role prompt-processing: no member of butler-readers any more" in changes
    assert "no pg_hba.conf entry" in sql("calibration", "SELECT 1")
    assert "permission denied for database" in sql("prompt-processing", "SELECT 1")
    assert sql("data-backbone", "ALTER TABLE kept ADD COLUMN more int") == "ALTER TABLE"
    assert converge(fewer, remaining) == []
    converge(declared, users)
    assert sql("prompt-processing", "SELECT count(*) FROM kept") == "0"


def test_a_database_goes_only_when_it_is_named_as_retired(miniature: Miniature) -> None:
    declared = {one.name: one._asdict() for one in databases(miniature)}
    users = {user: password_of(user) for user in rights.database_users(databases(miniature))}

    def converge(more: dict[str, Any], **arguments: Any) -> list[str]:
        place = {"socket": str(miniature.folder / "postgresql"), "port": miniature.database_port}
        return module("dpp_databases", **place, databases=declared | more, users=users, **arguments)

    converge({})
    own = {"no-longer": {"extensions": [], "writers": ["data-backbone"], "readers": ["health"]}}
    assert "database no-longer: made" in converge(own)
    assert not [change for change in converge({}) if "dropped" in change]
    assert "database no-longer: dropped" in converge({}, retired=["no-longer", "never-was"])
    assert converge({}, retired=["no-longer"]) == []
