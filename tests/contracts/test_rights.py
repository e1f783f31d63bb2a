"""What contracts come to: topics, users, rights and secrets, in the lab and in production."""

from __future__ import annotations

import pytest

from dpp.model import rights
from dpp.model.contracts import overlap
from dpp.model.environment import Environment
from dpp.model.flows import PAGE, Flow, flows, page
from dpp.model.folders import REPOSITORY
from dpp.model.principals import Principals
from dpp.model.rights import KafkaRight

ENVIRONMENTS = ("lab", "production")


@pytest.fixture(scope="module", params=ENVIRONMENTS)
def principals(request: pytest.FixtureRequest) -> Principals:
    return Principals.load(Environment.load(request.param))


@pytest.fixture(scope="module")
def lab() -> Principals:
    return Principals.load(Environment.load("lab"))


def test_both_environments_call_topics_by_the_same_names(principals: Principals, lab: Principals) -> None:
    assert {role: topic.name for role, topic in principals.topics.items()} == {
        role: topic.name for role, topic in lab.topics.items()
    }
    assert principals.topics["readouts"].name == "lsst.sal.MTCamera.logevent_endReadout"


def test_a_topic_is_at_its_home_and_where_it_is_mirrored(principals: Principals) -> None:
    for site in principals.environment.sites:
        there = {topic.name for topic in principals.topics.values() if site in topic.sites}
        assert set(rights.topics_at(principals, site)) == there
        mirrored = rights.mirrors_at(principals, site)
        assert site not in mirrored
        assert {name for one in mirrored.values() for name in one["topics"]} < there or not mirrored


def test_a_log_is_compacted_and_all_else_has_an_end(principals: Principals) -> None:
    kept = {name: one["retention_hours"] for name, one in rights.topics_at(principals, "ncsa").items()}
    kept = {name: hours for name, hours in kept.items() if "logevent" not in name}
    assert [name for name, hours in kept.items() if hours is None] == ["_schemas"]


def test_every_exposure_in_flight_has_a_partition(principals: Principals) -> None:
    camera = principals.environment.camera
    assert principals.topics["ingested"].partitions == len(camera.detectors) * camera.visits_in_flight


def test_rights_at_kafka_are_those_of_the_contracts_and_no_more(lab: Principals) -> None:
    own = [right for right in rights.kafka_rights(lab, "summit") if right.user == "forwarder"]
    assert own == [
        KafkaRight("forwarder", "group", "forwarder", "read"),
        KafkaRight("forwarder", "topic", "dpp.messages.set-aside", "write"),
        KafkaRight("forwarder", "topic", "dpp.raw.forwarded", "write"),
        KafkaRight("forwarder", "topic", "lsst.sal.MTArchiver.logevent_imageStored", "read"),
    ]
    far = [right for right in rights.kafka_rights(lab, "ncsa") if right.user == "forwarder"]
    assert far == [
        KafkaRight("forwarder", "group", "forwarder-replacements", "read"),
        KafkaRight("forwarder", "topic", "dpp.raw.bad-replicas", "read"),
    ]
    assert KafkaRight("prompt-processing", "transactional_id", "prompt-processing-*", "write") in rights.kafka_rights(
        lab, "ncsa"
    )


def test_whoever_consumes_sets_aside_what_it_cannot_handle_and_only_operators_give_back(lab: Principals) -> None:
    stand_ins = {name for name, contract in lab.contracts.items() if contract.stands_in_for}
    alone = {"report", "schema-registry"}  # they follow, and commit nothing
    for name, contract in lab.contracts.items():
        if contract.consumes and name not in stand_ins | alone:
            assert "set-aside" in contract.publishes, name
    health = lab.contract("health")
    consumed = {role for name, one in lab.contracts.items() if "set-aside" in one.publishes for role in one.consumes}
    given = {role for role in consumed - {"alerts"} if "." not in role}
    assert given <= set(health.publishes), "what may be set aside may be given back"
    assert not [role for role in health.publishes if "." in role], "but for devices' topics, which have one writer"
    assert "alerts" not in health.publishes, "others than our groups read that stream"
    assert [name for name, one in lab.contracts.items() if "set-aside" in one.consumes] == ["health"]


def test_nobody_may_do_anything_to_everything(principals: Principals) -> None:
    for site in principals.environment.sites:
        for right in rights.kafka_rights(principals, site):
            assert right.name != "*"
            assert right.kind != "cluster"
            own = right.name in ("mm2-*", "heartbeats") or right.name.endswith(".checkpoints.internal")
            assert (right.operation == "all") == (right.user == "mirror" and own), right


def test_a_program_without_a_password_only_tells_of_arrivals(principals: Principals) -> None:
    for site in principals.environment.sites:
        local = [right for right in rights.kafka_rights(principals, site) if right.user == rights.LOCAL]
        assert {right.host for right in local} <= {"127.0.0.1"}
        assert {right.name for right in local} == ({"dpp.raw.arrivals"} if site == "ncsa" else set())
        assert rights.LOCAL not in rights.kafka_users(principals, site)


def test_the_mirror_reads_at_home_and_writes_where_copies_are(lab: Principals) -> None:
    mirrored = {topic.name for topic in lab.topics.values() if topic.mirrors}
    for site, verb in (("summit", "read"), ("ncsa", "write")):
        own = [right for right in rights.kafka_rights(lab, site) if right.user == "mirror" and right.kind == "topic"]
        assert {right.name for right in own if right.operation == verb} == mirrored


def test_policies_of_buckets_name_keys_and_users_of_their_own_site(principals: Principals) -> None:
    for site in principals.environment.storage:
        users = set(rights.store_users(principals, site))
        for bucket, policy in rights.bucket_policies(principals, site).items():
            assert bucket in rights.buckets_at(principals, site)
            for statement in policy["Statement"]:
                [user] = statement["Principal"]["AWS"]
                assert user in users
                resource, *folder = statement["Resource"]
                assert folder in ([], [resource.removesuffix("*")])
                whole = resource == f"arn:aws:s3:::{bucket}"
                assert whole == (statement["Action"] == ["s3:ListBucket", "s3:GetBucketLocation"])
                assert whole or resource.startswith(f"arn:aws:s3:::{bucket}/")
                assert resource != f"arn:aws:s3:::{bucket}/*"


def test_what_a_site_stores_others_may_only_bring(lab: Principals) -> None:
    base = {(grant.user, verb) for grant in rights.grants_at(lab, "base") for verb in grant.verbs}
    assert ("forwarder", "write") in base
    assert ("archiver", "write") not in base
    assert not {verb for user, verb in base if user not in {"forwarder", "health"}} - {"read", "list"}


def test_databases_have_the_writers_and_readers_of_the_contracts(principals: Principals) -> None:
    host = principals.environment.hosts_of("ncsa", "postgresql")[0].name
    butler, ledger, apdb = rights.databases_on(principals, host)
    assert (butler.name, butler.extensions) == ("butler", ("btree_gist",))
    assert butler.writers == ("calibration", "data-backbone")
    assert butler.readers == ("health", "prompt-processing")
    assert (apdb.name, apdb.writers, apdb.readers) == ("apdb", ("prompt-processing",), ())
    assert (ledger.name, ledger.writers, ledger.readers) == ("ledger", ("visit-ledger",), ("operator",))


def test_a_principal_has_its_own_secrets_and_no_others(principals: Principals) -> None:
    for name, sites in principals.present.items():
        for site in sites:
            for known, secret in rights.secrets_of(principals, name, site).items():
                assert secret == f"{known}-{name}"
    assert rights.secrets_of(principals, "camera", "summit") == {"kafka": "kafka-camera"}
    assert set(rights.secrets_of(principals, "forwarder", "summit")) == {"kafka", "s3-summit", "s3-base", "s3-ncsa"}


def test_everybody_who_has_a_right_has_its_secret(principals: Principals) -> None:
    have = {
        secret
        for name, sites in principals.present.items()
        for site in sites
        for secret in rights.secrets_of(principals, name, site).values()
    }
    for site in principals.environment.sites:
        assert {f"kafka-{user}" for user in rights.kafka_users(principals, site)} <= have
        assert {f"s3-{site}-{user}" for user in rights.store_users(principals, site)} <= have


def test_data_flows_as_the_contracts_say(lab: Principals) -> None:
    found = flows(lab)
    assert Flow("camera", "topic readouts", "topic") in found
    assert Flow("topic readouts", "archiver", "topic") in found
    assert Flow("archiver", "camera", "call") in found
    assert not [flow for flow in found if flow.source == "calibration" and flow.target.startswith("topic")]


def test_the_picture_in_the_documents_is_that_of_the_contracts(lab: Principals) -> None:
    assert (REPOSITORY / PAGE).read_text() == page(lab), f"dpp model data-flow > {PAGE}"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("a", "a", True),
        ("a", "ab", False),
        ("a*", "ab", True),
        ("ab*", "a*", True),
        ("a-*", "a", False),
        ("a*", "a", True),
    ],
)
def test_names_overlap_where_both_can_mean_one_thing(one: str, other: str, same: bool) -> None:
    assert overlap(one, other) == overlap(other, one) == same
