"""What pods have and whom they reach follows from their contracts: their own, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from dpp.adapters.kustomize import pod_templates
from dpp.model.contracts import ApiRight, Contract
from dpp.model.environment import Environment
from dpp.model.principals import Principals
from dpp.model.rights import secrets_of
from dpp.rendering.clusters import GROUND, with_digests
from dpp.rendering.contracts import DIGEST, SECRET, SERVICE, admitting, derived, with_contract
from k8s.deployed import CLUSTERS, SERVICES, Server, by_service, of_service, pod

Manifest = dict[str, Any]
SETTINGS_NOTE, SECRETS_NOTE = "dpp.lsst.org/settings", "dpp.lsst.org/secrets"


@pytest.fixture(scope="module")
def lab() -> Principals:
    return Principals.load(Environment.load("lab"))


def of_kind(objects: list[Manifest], kind: str) -> dict[str, Manifest]:
    return {one["metadata"]["name"]: one for one in objects if one["kind"] == kind}


def workloads(environment: str, cluster: str) -> Iterator[tuple[str, list[Manifest]]]:
    """Yield the workloads of a cluster with all their objects."""
    for service, objects in by_service(environment, cluster).items():
        if service != GROUND:
            yield service, objects


@pytest.mark.parametrize(("environment", "cluster"), CLUSTERS)
def test_a_workload_is_given_its_own_secrets_and_no_others(environment: str, cluster: str) -> None:
    model = Environment.load(environment)
    principals, site = Principals.load(model), model.cluster(cluster).site
    for name, objects in workloads(environment, cluster):
        wanted = {known: f"{SECRET}{secret}" for known, secret in secrets_of(principals, name, site).items()}
        found = [one["stringData"] for one in of_kind(objects, "Secret").values()]
        assert found == ([wanted] if wanted else []), name
        assert all(value.endswith(f"-{name}") for value in wanted.values()), name


@pytest.mark.parametrize("service", SERVICES)
def test_pods_mount_what_is_their_own(service: str) -> None:
    objects = of_service(service)
    names = {(one["kind"], one["metadata"]["name"]) for one in objects}
    for template in (template for one in objects for template in pod_templates(one)):
        spec = template["spec"]
        assert spec["serviceAccountName"] == service
        assert spec["automountServiceAccountToken"] is False
        for volume in spec["volumes"]:
            if "secret" in volume:
                assert ("Secret", volume["secret"]["secretName"]) in names
            if "configMap" in volume:
                assert ("ConfigMap", volume["configMap"]["name"]) in names
            if "persistentVolumeClaim" in volume:
                assert ("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]) in names


@pytest.mark.parametrize(("environment", "cluster"), CLUSTERS)
def test_policies_name_single_hosts_that_serve_what_is_asked_for(environment: str, cluster: str) -> None:
    model = Environment.load(environment)
    groups = {9094: "kafka_broker", 5432: "postgresql"} | {one.port: "object_store" for one in model.storage.values()}
    serving = {(f"{h.address}/32", port) for port, group in groups.items() for h in model.hosts_of(group=group)}
    serving |= {(f"{one.address}/32", 8080) for one in model.outside.values() if one.address}
    nodes = {f"{model.host(name).address}/32" for name in model.cluster(cluster).hosts}
    for name, objects in workloads(environment, cluster):
        policies = of_kind(objects, "NetworkPolicy")
        assert list(policies) == [name]
        for rule in policies[name]["spec"]["egress"]:
            [port] = (one["port"] for one in rule["ports"])
            for block in (one["ipBlock"]["cidr"] for one in rule["to"] if "ipBlock" in one):
                assert (block, port) in serving
                assert block not in nodes, "policies of addresses do not know a cluster's own nodes"


@pytest.mark.parametrize(("environment", "cluster"), CLUSTERS)
def test_a_port_is_open_to_whom_its_contract_says_and_they_may_go_there(environment: str, cluster: str) -> None:
    policies = {name: of_kind(objects, "NetworkPolicy")[name]["spec"] for name, objects in workloads(environment, cluster)}  # fmt: skip
    comes = {
        (one["podSelector"]["matchLabels"][SERVICE], name, port["port"])
        for name, policy in policies.items()
        for rule in policy["ingress"]
        for one in rule.get("from", ())
        for port in rule["ports"]
    }
    goes = {
        (name, one["podSelector"]["matchLabels"][SERVICE], port["port"])
        for name, policy in policies.items()
        for rule in policy["egress"]
        for one in rule["to"]
        if "podSelector" in one
        for port in rule["ports"]
    }
    assert comes == goes


def test_the_forwarder_reaches_three_stores_two_brokers_and_the_registry() -> None:
    [policy] = of_kind(of_service("forwarder"), "NetworkPolicy").values()

    def to(port: int, *places: dict[str, Any]) -> dict[str, Any]:
        return {"to": list(places), "ports": [{"protocol": "TCP", "port": port}]}

    def host(address: str) -> dict[str, Any]:
        return {"ipBlock": {"cidr": f"{address}/32"}}

    assert policy["spec"] == {
        "podSelector": {"matchLabels": {SERVICE: "forwarder"}},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [],
        "egress": [
            to(7480, host("10.81.0.21"), host("10.83.0.11"), host("10.82.0.11")),
            to(8081, {"podSelector": {"matchLabels": {SERVICE: "schema-registry"}}}),
            to(9094, host("10.81.0.11"), host("10.83.0.11")),
        ],
    }


def test_the_real_camera_is_called_at_its_address() -> None:
    [policy] = of_kind(by_service("production", "summit")["archiver"], "NetworkPolicy").values()
    assert {"ipBlock": {"cidr": "10.65.0.10/32"}} in [to for rule in policy["spec"]["egress"] for to in rule["to"]]
    settings = of_kind(by_service("production", "summit")["archiver"], "ConfigMap")["archiver-settings"]["data"]
    assert "camera: http://10.65.0.10:8080" in settings["site.yml"]


@pytest.mark.parametrize(("environment", "cluster"), CLUSTERS)
def test_a_volume_lies_on_the_node_that_the_inventory_names(environment: str, cluster: str) -> None:
    model = Environment.load(environment)
    for _, objects in workloads(environment, cluster):
        for name, volume in of_kind(objects, "PersistentVolume").items():
            [term] = volume["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"]
            [choice] = term["matchExpressions"]
            assert (choice["key"], choice["values"]) == ("kubernetes.io/hostname", [model.volumes[name].node])
            assert model.volumes[name].node in model.cluster(cluster).hosts


# -- a change rolls what uses it ---------------------------------------------------------------------------------------


def deployment(name: str) -> Manifest:
    template = {"spec": {"containers": [{"name": "main", "image": "dpp/services"}]}}
    metadata = {"name": name, "labels": {SERVICE: name}}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": {"template": template}}


def notes(principals: Principals, name: str) -> dict[str, str]:
    made = with_contract(deployment(name), principals, name, principals.environment.cluster("ncsa"))
    [template] = pod_templates(made)
    found: dict[str, str] = template["metadata"]["annotations"]
    return found


def changed(principals: Principals, **fields: Any) -> Principals:
    return replace(principals, environment=principals.environment.model_copy(update=fields))


def test_a_changed_setting_rolls_those_who_use_it(lab: Principals) -> None:
    storage = dict(lab.environment.storage)
    storage["ncsa"] = storage["ncsa"].model_copy(update={"port": 7481})
    moved = changed(lab, storage=storage)
    rolled = {
        name
        for name in ("data-backbone", "schema-registry", "alert-distribution")
        if notes(lab, name)[SETTINGS_NOTE] != notes(moved, name)[SETTINGS_NOTE]
    }
    assert rolled == {"data-backbone"}


def test_a_changed_password_rolls_its_owner(lab: Principals) -> None:
    def digests(kafka: str) -> dict[str, str]:
        passwords = {"kafka-data-backbone": kafka}
        objects = [
            with_contract(deployment(name), lab, name, lab.environment.cluster("ncsa"))
            for name in ("data-backbone", "broker")
        ]
        made = with_digests(objects, lambda names: ",".join(passwords.get(name, name) for name in names))
        return {
            one["metadata"]["name"]: template["metadata"]["annotations"][SECRETS_NOTE]
            for one in made
            for template in pod_templates(one)
        }

    before, after = digests("one"), digests("other")
    assert before["data-backbone"] != after["data-backbone"]
    assert before["broker"] == after["broker"]
    assert not any(DIGEST in one for one in before.values())


# -- the Kubernetes API ------------------------------------------------------------------------------------------------


def test_a_right_at_the_api_is_named_or_there_is_none(lab: Principals, server: Server) -> None:
    listing = ApiRight(group="batch", resources=("jobs",), verbs=("get", "list"))
    contract: Contract = lab.contract("broker").model_copy(update={"kubernetes": (listing,)})
    named = replace(lab, contracts={**lab.contracts, "broker": contract})
    cluster = lab.environment.cluster("ncsa")
    objects = [one for one in derived(named, "broker", cluster) if "cilium" not in one["apiVersion"]]
    done = server.apply(objects)
    assert done.returncode == 0, done.stderr

    def may(verb: str, resource: str) -> str:
        account = "--as=system:serviceaccount:workloads:broker"
        return server.kubectl("auth", "can-i", verb, resource, "--namespace=workloads", account).stdout.strip()

    assert [may("list", "jobs.batch"), may("delete", "jobs.batch"), may("list", "secrets")] == ["yes", "no", "no"]

    rules = by_service("lab", "ncsa")[GROUND]
    policy = next(one for one in rules if one["kind"] == "ValidatingAdmissionPolicy")
    assert next(one for one in policy["spec"]["variables"] if one["name"] == "named")["expression"] == "[]"
    admitted = admitting(policy, ["broker"])
    assert next(one for one in admitted["spec"]["variables"] if one["name"] == "named")["expression"] == '["broker"]'
    assert server.apply(admitted, dry=True).returncode == 0

    talking = pod()
    talking["spec"] |= {"automountServiceAccountToken": True, "serviceAccountName": "broker"}
    assert "do not talk to the Kubernetes API" in server.apply(talking, dry=True).stderr
