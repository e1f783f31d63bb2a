"""What differs between two states is named, with what follows, and nothing else is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dpp.adapters.git import ChangedPath
from dpp.operations.change import compare, impact
from dpp.operations.change.plan import environments
from unit.change.states import WORKLOADS, State, deployment, inputs, policy, rendered, row, service, state

Edit = Callable[[State], Any]


def after(edit: Edit) -> tuple[State, State]:
    base, head = state(), state()
    edit(head)
    return base, head


def effects(edit: Edit, **hosts: Any) -> set[tuple[str, str]]:
    return {(one.verb, one.name) for one in impact.effects(*after(edit), hosts, (), {})}


def names(found: Any) -> list[str]:
    return [f"{one.kind} {one.name} {one.verb}" for one in found]


def test_nothing_differs_where_nothing_does() -> None:
    base, head = state(), state()
    assert compare.differing_stacks(base, head) == []
    assert [*compare.text_differences(base, head)] == []
    assert compare.rights(base, head) == ((), ())
    assert impact.services(base, head, {}, {}) == ()


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("roles/kafka_broker/templates/etc/kafka/server.properties.j2", "role kafka_broker changed"),
        ("roles/kafka_broker/molecule/default/molecule.yml", "test kafka_broker changed"),
        ("k8s/broker/deployment.yaml", "manifest broker changed"),
        ("k8s/clusters/lab/ncsa/kustomization.yaml", "manifest lab/ncsa changed"),
        ("stacks/units/wan.py", "unit wan changed"),
        ("workloads/src/workloads/broker/groups.py", "image workloads/src/workloads/broker/groups.py changed"),
        ("docs/runbooks/event-streaming.md", "runbook event-streaming changed"),
        ("tests/unit/model/test_mistakes.py", "test unit changed"),
        ("changes/rules.yml", "rule changes/rules.yml changed"),
        ("src/dpp/model/checks.py", "tool src/dpp/model/checks.py changed"),
    ],
)
def test_files_are_nouns(path: str, expected: str) -> None:
    assert names(compare.nouns({}, [ChangedPath(path, "changed")])) == [expected]


@pytest.mark.parametrize("index", range(5))
def test_declared_nouns_are_named_with_their_file(index: int) -> None:
    base, head = after(lambda one: one["nouns"][index].update(value="another"))
    told = head["nouns"][index]
    [found] = compare.nouns({"lab": (base, head)}, [ChangedPath(told["file"], "changed")])
    assert (found.kind, found.name, found.verb, found.file) == (told["kind"], told["name"], "changed", told["file"])
    assert found.environments == (() if told["kind"] in compare.EVERYWHERE else ("lab",))


def test_a_noun_that_goes_is_removed() -> None:
    base, head = after(lambda one: one["nouns"].pop(1))
    assert names(compare.nouns({"lab": (base, head)}, [])) == ["circuit base-ncsa-primary removed"]


def test_a_routers_lines_are_shown_as_they_would_be() -> None:
    def edit(one):
        return inputs(one, "lab.wan", "rt01.base").update(configuration="router bgp 65001\n neighbor 10.0.0.9\n")

    [found] = compare.text_differences(*after(edit))
    assert (found.kind, found.places) == ("router", ("rt01.base",))
    assert found.diff.splitlines() == ["@@", " router bgp 65001", "- neighbor 10.0.0.1", "+ neighbor 10.0.0.9"]
    assert effects(edit) == {("is reconfigured", "router")}
    touched = impact.services(*after(edit), {}, {})
    assert [(one.name, one.direct) for one in touched] == [
        ("wan", True),
        ("alerts", False),
        ("streams", False),
        ("reports", False),
    ]
    assert touched[1].because == "needs streams, which needs wan"


def test_another_image_rolls_its_workload_alone() -> None:
    def edit(one: State) -> None:
        inputs(one, WORKLOADS, "ncsa-broker")["objects"]["Deployment workloads/broker"] = deployment(
            "broker", "r/dpp/services@2"
        )

    assert effects(edit) == {("rolls", "Deployment broker")}
    [why] = {one.because for one in impact.effects(*after(edit), {}, (), {})}
    assert why == "its image differs"
    assert [one.name for one in impact.services(*after(edit), {}, {})] == ["alerts", "reports"]


def test_more_replicas_roll_nothing() -> None:
    def edit(one: State) -> None:
        inputs(one, WORKLOADS, "ncsa-broker")["objects"]["Deployment workloads/broker"]["spec"]["replicas"] = 2

    assert effects(edit) == set()
    [found] = compare.text_differences(*after(edit))
    assert (found.name, found.places) == ("Deployment workloads/broker", ("cluster ncsa",))


def test_ways_that_open_are_rights() -> None:
    def edit(one: State) -> None:
        inputs(one, WORKLOADS, "ncsa-broker")["objects"]["NetworkPolicy workloads/broker"] = policy(
            "broker", [9094, 5432]
        )
        one["rights"].append(["broker", "write", "topic alerts of Kafka at ncsa"])

    gained, lost = compare.rights(*after(edit))
    assert [(one.principal, one.verb, one.resource) for one in gained] == [
        ("broker", "connect to", "port 5432 of 10.83.0.11/32 from ncsa"),
        ("broker", "write", "topic alerts of Kafka at ncsa"),
    ]
    assert lost == ()
    back = compare.rights(*reversed(after(edit)))
    assert back == ((), gained)


def test_a_machine_that_goes_takes_its_services_with_it() -> None:
    edit = lambda one: one["resources"]["lab.ncsa-itc"].pop(0)  # noqa: E731
    assert effects(edit) == {("goes", "machine")}
    direct = {one.name: one.because for one in impact.services(*after(edit), {}, {}) if one.direct}
    assert direct == {"streams": "machine svc01.ncsa"}


def test_hosts_are_rendered_by_the_roles_that_changed() -> None:
    def edit(one: State) -> None:
        one["roles"]["kafka_broker"] = "2"
        inputs(one, "lab.ncsa-itc", "ncsa-services")["digests"]["svc01.ncsa"] = "b"

    base, head = after(edit)
    hosts = compare.changed_hosts(base, head)
    assert hosts == {"svc01.ncsa": "lab.ncsa-itc"}
    assert compare.roles_to_render(base, head, hosts, variables=False) == {"svc01.ncsa": ["kafka_broker"]}
    assert compare.roles_to_render(base, head, hosts, variables=True) == {"svc01.ncsa": ["base_system", "kafka_broker"]}


def test_a_unit_restarts_where_a_file_that_it_reads_differs() -> None:
    before, now = (
        rendered(server_properties="threads=8\n", log_xml="info\n"),
        rendered(server_properties="threads=16\n", log_xml="info\n"),
    )
    hosts = {f"b{number:02d}": now for number in range(3)}
    differences = [*compare.host_differences(dict.fromkeys(hosts, before), hosts)]
    assert [(one.name, one.places) for one in differences] == [("/etc/kafka/server.properties", ("b00", "b01", "b02"))]
    [found] = impact.effects(state(), state(), hosts, differences, {"restarts kafka": 60})
    assert (found.verb, found.name, found.places, found.seconds) == ("restarts", "kafka", ("b00", "b01", "b02"), 60)
    assert found.because == "reads /etc/kafka/server.properties"


def test_how_long_nobody_declared_is_not_guessed() -> None:
    before, now = rendered(log_xml="info\n"), rendered(log_xml="debug\n")
    differences = [*compare.host_differences({"b00": before}, {"b00": now})]
    [found] = impact.effects(state(), state(), {"b00": now}, differences, {"restarts": 1})
    assert (found.verb, found.seconds) == ("reloads", None)


def test_a_role_touches_services_by_what_it_brings_about() -> None:
    before, now = rendered(server_properties="threads=8\n"), rendered(server_properties="threads=16\n")
    differences = [*compare.host_differences({"svc01.ncsa": before}, {"svc01.ncsa": now})]
    touched = impact.touched_roles(differences, {"svc01.ncsa": {"kafka_broker": now, "base_system": rendered()}})
    assert touched == {"kafka_broker": {"svc01.ncsa"}}
    [first, *_] = impact.services(state(), state(), touched, {})
    assert (first.name, first.because) == ("streams", "role kafka_broker on svc01.ncsa")


def test_a_new_stack_differs() -> None:
    edit = lambda one: one["resources"].update({"lab.new": [row("dpp:machines:Machine", "x01.ncsa", host="x01.ncsa")]})  # noqa: E731
    assert compare.differing_stacks(*after(edit)) == ["lab.new"]


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["docs/runbooks/event-streaming.md", "tests/conftest.py", "changes/2026/0001-a.yml", "roles/a/README.md"], []),
        (["inventories/lab/hosts.yml"], ["lab"]),
        (
            ["inventories/production/hosts.yml", "k8s/clusters/production/ncsa/figures.yaml", "README.md"],
            ["production"],
        ),
        (["inventories/derived/postgresql.yml"], ["lab", "production"]),
        (["inventories/lab/hosts.yml", "roles/a/tasks/main.yml"], ["lab", "production"]),
    ],
)
def test_only_environments_that_files_can_touch_are_looked_at(paths: list[str], expected: list[str]) -> None:
    assert environments(["lab", "production"], ["lab", "production"], paths) == expected


def test_the_service_of_a_site_is_touched_by_hosts_of_that_site() -> None:
    def edit(one: State) -> None:
        one["services"]["chilean-itc"] = service("critical", roles=["kafka_broker"])
        one["services"]["ncsa-itc"] = service("critical", roles=["kafka_broker"])
        inputs(one, "lab.ncsa-itc", "svc01.ncsa").update(image="base:2")

    touched = {one.name for one in impact.services(*after(edit), {"kafka_broker": {"svc01.ncsa"}}, {}) if one.direct}
    assert touched == {"streams", "ncsa-itc"}


def test_a_workload_whose_old_pod_goes_first_is_away() -> None:
    def edit(one: State) -> None:
        changed = deployment("broker", "r/dpp/services@2")
        changed["spec"]["strategy"] = {"type": "Recreate"}
        inputs(one, WORKLOADS, "ncsa-broker")["objects"]["Deployment workloads/broker"] = changed

    [found] = impact.effects(*after(edit), {}, (), {"restarts Deployment": 60})
    assert (found.verb, found.seconds, found.because) == ("restarts", 60, "its image differs; the old pod goes first")
