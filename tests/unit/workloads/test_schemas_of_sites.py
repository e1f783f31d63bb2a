"""Registries of several sites: no id means two schemas, and records are readable where they are mirrored to."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from starlette.testclient import TestClient

from dpp.model.environment import Environment
from dpp.model.principals import Principals
from dpp.model.surroundings import surroundings
from unit.workloads.test_avro_registry import Memory as Applied
from workloads.common import schemas
from workloads.common.settings import Site
from workloads.schema_registry.__main__ import _only_copied
from workloads.schema_registry.api import Registry, application
from workloads.schema_registry.copies import copy_record
from workloads.schema_registry.store import RegistryError, State

X, Y, Z = (json.dumps({"type": "record", "name": name, "fields": []}) for name in "xyz")


class Memory(Applied):
    """A log that applies at once, and that can be read by others."""

    def append(self, key, value):
        super().append(key, value)
        if key["kind"] == "copy":
            self.state.apply(key, value)

    def raw(self):
        return [(json.dumps(key).encode(), json.dumps(value).encode()) for key, value in self.records]


class Place:
    """The registry of one site."""

    def __init__(self, name, environment="lab"):
        model = Environment.load(environment)
        self.name, self.state = name, State(free=model.site(name).schema_ids)
        self.log = Memory(self.state)
        self.client = TestClient(application(Registry(self.state, self.log), lambda: True))

    def register(self, subject, schema):
        answer = self.client.post(f"/subjects/{subject}/versions", json={"schema": schema})
        assert answer.status_code == 200, answer.text
        return answer.json()["id"]

    def follow(self, other):
        for key, value in other.log.raw():
            copy_record(other.name, key, value, self.log, self.state)

    def read(self, number):
        return json.loads(self.client.get(f"/schemas/ids/{number}").json()["schema"])


@pytest.fixture
def sites():
    return Place("summit"), Place("ncsa")


def test_ids_of_two_sites_are_never_the_same_and_mirrored_records_are_read_with_their_own_schema(sites):
    summit, ncsa = sites
    first, second = summit.register("x-value", X), ncsa.register("y-value", Y)
    assert first != second
    ncsa.follow(summit)
    assert ncsa.read(first) == json.loads(X)
    assert ncsa.read(second) == json.loads(Y)
    assert list(ncsa.state.subjects) == ["y-value"], "what is copied is of no subject here"


def test_a_client_at_a_mirror_is_never_refused_and_gets_the_id_that_its_schema_has(sites):
    summit, ncsa = sites
    number = summit.register("x-value", X)
    ncsa.follow(summit)
    assert ncsa.register("x-value", X) == number
    other = ncsa.register("x-value", Z)
    assert other != number
    assert ncsa.client.get("/subjects/x-value/versions").json() == [1, 2]
    assert summit.register("z-value", Z) != other, "registered before it was known: two ids of one schema do no harm"


def test_a_log_is_copied_once_whatever_is_in_it_and_a_copy_may_be_copied(sites):
    summit, ncsa = sites
    number = summit.register("x-value", X)
    summit.log.records += [({"kind": "noop"}, {}), ({"kind": "mode"}, {"mode": "READONLY"}), ({"kind": "schema"}, {})]
    for _ in range(3):
        ncsa.follow(summit)
    for key, value in ((b"hello", b"{}"), (b"", b""), (b"[]", b"[]"), (b'{"kind": "copy", "id": "x"}', b"{}")):
        copy_record("summit", key, value, ncsa.log, ncsa.state)
    assert [key["kind"] for key, _ in ncsa.log.records] == ["copy"]
    assert ncsa.state.mode == "READWRITE"
    third = Place("base")
    third.follow(ncsa)
    assert third.read(number) == json.loads(X)


def test_after_a_restart_what_was_copied_is_known_through_a_cut(sites):
    summit, ncsa = sites
    number = summit.register("x-value", X)
    ncsa.follow(summit)
    again = State(free=ncsa.state.free)
    for key, value in ncsa.log.records:
        again.apply(key, value)
    assert again.schemas == ncsa.state.schemas
    assert number in again.schemas


def test_an_id_that_means_another_schema_elsewhere_is_named_and_the_own_one_stays(sites, caplog):
    _, ncsa = sites
    ncsa.state.apply({"kind": "schema", "subject": "y-value", "version": 1}, {"id": 20001, "schema": Y})
    key = {"kind": "schema", "subject": "x-value", "version": 1}
    copy_record(
        "summit", json.dumps(key).encode(), json.dumps({"id": 20001, "schema": X}).encode(), ncsa.log, ncsa.state
    )
    assert ncsa.read(20001) == json.loads(Y)
    assert "schema 20001: another one here than at summit" in caplog.text
    assert ncsa.register("z-value", Z) > 20001


def test_a_declared_schema_that_a_newer_release_elsewhere_brought_is_registered_by_the_own_release():
    state = State()
    one = schemas.topics({"ledger": "a.ledger"})["ledger"]
    assert not _only_copied(state, one)
    state.apply({"kind": "copy", "site": "summit", "id": one.id}, {"schema": json.dumps(one.definition)})
    assert _only_copied(state, one)
    state.apply(
        {"kind": "schema", "subject": one.subject, "version": 1}, {"id": one.id, "schema": json.dumps(one.definition)}
    )
    assert not _only_copied(state, one)


def test_no_declared_id_is_given_twice():
    names = {role: f"a.{role}" for role in schemas._files()}
    ids = [one.id for one in (*schemas.topics(names).values(), *schemas.alerts().values())]
    assert len(set(ids)) == len(ids)


def test_a_range_that_is_used_up_is_refused_in_words():
    state = State(free=(30, 31))
    for number, text in ((30, X), (31, Y), (900, Z)):
        state.apply({"kind": "schema", "subject": f"{number}", "version": 1}, {"id": number, "schema": text})
    with pytest.raises(RegistryError, match="Every id of this site, 30 to 31, is given"):
        state.plan("a-value", json.dumps({"type": "string"}), None)


@pytest.mark.parametrize("environment", ["lab", "production"])
def test_sites_have_ranges_of_their_own_and_follow_those_whose_topics_they_mirror(environment):
    model = Environment.load(environment)
    ranges = sorted(site.schema_ids for site in model.sites.values())
    assert all(last < following for (_, last), (following, _) in pairwise(ranges))
    assert ranges[0][0] > 20_000, "those below are declared"
    assert ranges[-1][1] < 1 << 31
    principals = Principals.load(model)
    told = {site: Site.model_validate(surroundings(principals, "schema-registry", site)) for site in ("summit", "ncsa")}
    assert {site: one.topics["schemas"].followed_at for site, one in told.items()} == {"summit": [], "ncsa": ["summit"]}
    assert set(told["ncsa"].kafka) == {"ncsa", "summit"}
    assert tuple(told["ncsa"].schema_ids) == model.site("ncsa").schema_ids
