"""Small states of an environment, as the two sides of a change tell of themselves, and edits of them."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

State = dict[str, Any]
WORKLOADS = "lab.workloads"


def state() -> State:
    """Return an environment with a router, a broker, a cluster and three services."""
    return deepcopy(
        {
            "environment": "lab",
            "apply": True,
            "resources": {
                "lab.wan": [
                    row("dpp:network:DeviceConfiguration", "rt01.base", host="rt01.base", configuration="router bgp 65001\n neighbor 10.0.0.1\n"),
                    row("dpp:links:Link", "base-ncsa-primary", circuit="base-ncsa-primary", rate_mbps=100, delay_ms=75),
                ],
                "lab.ncsa-itc": [
                    row("dpp:machines:Machine", "svc01.ncsa", host="svc01.ncsa", address="10.83.0.11", image="base:1"),
                    row("dpp:hosts:Convergence", "ncsa-services", digests={"svc01.ncsa": "a", "st01.ncsa": "a"}, machines={"svc01.ncsa": "m", "st01.ncsa": "m"}),
                ],
                WORKLOADS: [
                    row("dpp:images:WorkloadImages", "ncsa-workloads", site="ncsa", registry="r", sources={"services": "1"}),
                    row("dpp:clusters:Manifests", "ncsa-broker", cluster="ncsa", service="broker", objects={
                        "Deployment workloads/broker": deployment("broker"),
                        "NetworkPolicy workloads/broker": policy("broker", [9094]),
                    }),
                ],
            },
            "failed": {},
            "night": {},
            "nouns": [
                noun("host", "svc01.ncsa", {"address": "10.83.0.11"}, "inventories/lab/hosts.yml"),
                noun("circuit", "base-ncsa-primary", {"rate_mbps": 100}, "inventories/lab/group_vars/all/circuits.yml"),
                noun("topic", "alerts", {"partitions": 1}, "inventories/lab/group_vars/all/topics.yml"),
                noun("contract", "broker", {"publishes": []}, "services/alerts.yml"),
                noun("objective", "alerts/house-1", {"text": "Alerts leave."}, "services/alerts.yml"),
            ],
            "rights": [["broker", "read", "topic alerts of Kafka at ncsa"]],
            "services": {
                "wan": service("real-time", roles=["border_router"]),
                "streams": service("critical", dependencies=["wan"], roles=["kafka_broker"]),
                "alerts": service("real-time", dependencies=["streams"], contracts=["broker"]),
                "reports": service("operational", dependencies=["alerts"]),
            },
            "principals": {"broker": "alerts"},
            "groups": {"svc01.ncsa": ["base_system", "kafka_broker"], "st01.ncsa": ["base_system"], "rt01.base": ["border_router"]},
            "roles": {"kafka_broker": "1", "base_system": "1", "border_router": "1"},
        }
    )  # fmt: skip


def row(kind: str, name: str, **inputs: Any) -> dict[str, Any]:
    return {"type": kind, "name": name, "inputs": inputs}


def noun(kind: str, name: str, value: Any, file: str) -> dict[str, Any]:
    return {"kind": kind, "name": name, "value": value, "file": file}


def service(tier: str, **more: Any) -> dict[str, Any]:
    empty: dict[str, Any] = {"dependencies": [], "roles": [], "manifests": [], "contracts": []}
    return {"title": "A service", "tier": tier, "owner": "somebody", "status": "lab", "runbook": None, **empty, **more}


def deployment(name: str, image: str = "r/dpp/services@1") -> dict[str, Any]:
    pod = {
        "metadata": {"annotations": {"dpp.lsst.org/settings": "1"}},
        "spec": {"containers": [{"name": "main", "image": image}]},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {"replicas": 1, "template": pod},
    }


def policy(name: str, ports: list[int]) -> dict[str, Any]:
    ways = [{"to": [{"ipBlock": {"cidr": "10.83.0.11/32"}}], "ports": [{"port": port}]} for port in ports]
    return {"kind": "NetworkPolicy", "metadata": {"name": name}, "spec": {"ingress": [], "egress": ways}}


def inputs(of: State, stack: str, name: str) -> dict[str, Any]:
    """Return the inputs of a resource, to be edited."""
    found: dict[str, Any] = next(one["inputs"] for one in of["resources"][stack] if one["name"] == name)
    return found


def rendered(**files: str) -> dict[str, Any]:
    """Return what the brokers' role brings about on a host: files by the last part of their path."""
    units = {
        "kafka": {
            "name": "kafka",
            "running": True,
            "restart_on": ["/etc/kafka/server.properties"],
            "reload_on": ["/etc/kafka/log.xml"],
        }
    }
    return {
        "files": {f"/etc/kafka/{name.replace('_', '.')}": text for name, text in files.items()},
        "units": units,
        "tasks": {},
        "unseen": {},
    }
