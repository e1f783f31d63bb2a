"""What of a stack that a change added may be taken away, what holds data, and what stays."""

from __future__ import annotations

from typing import Any

import pytest

from dpp.operations.change.added import Added


def state(*rows: tuple[str, str, dict[str, Any]], pending: tuple[tuple[str, str, dict[str, Any]], ...] = ()) -> dict[str, Any]:  # fmt: skip
    top = [
        {"urn": "urn:pulumi:lab.x::observatory::pulumi:pulumi:Stack::x", "type": "pulumi:pulumi:Stack"},
        {
            "urn": "urn:pulumi:lab.x::observatory::pulumi:providers:dpp::d",
            "type": "pulumi:providers:dpp",
            "custom": True,
        },
    ]
    made = [*top, *(_row(*one) for one in rows)]
    return {"resources": made, "pending_operations": [{"resource": _row(*one), "type": "creating"} for one in pending]}


def _row(kind: str, name: str, inputs: dict[str, Any]) -> dict[str, Any]:
    return {"urn": f"urn:pulumi:lab.x::observatory::{kind}::{name}", "type": kind, "custom": True, "inputs": inputs}


def machine(host: str, *, image: str = "", volumes: tuple[str, ...] = ()) -> tuple[str, str, dict[str, Any]]:
    return "dpp:machines:Machine", host, {"host": host, "image": image, "volumes": [*volumes]}


def objects(**of: Any) -> tuple[str, str, dict[str, Any]]:
    named = {f"{key} workloads/a": value for key, value in of.items()}
    return "dpp:clusters:Manifests", "ncsa-a", {"objects": named}


@pytest.mark.parametrize(
    ("row", "data"),
    [
        (machine("a"), ()),  # it was found, and is left
        (machine("a", image="base:1"), ()),
        (machine("a", image="base:1", volumes=("/srv",)), ("machine a with /srv",)),
        (objects(Deployment={"spec": {}}, Service={}), ()),
        (objects(PersistentVolumeClaim={}), ("PersistentVolumeClaim workloads/a of ncsa-a",)),
        (objects(StatefulSet={"spec": {"replicas": 1}}), ()),
        (objects(StatefulSet={"spec": {"volumeClaimTemplates": [{}]}}), ("StatefulSet workloads/a of ncsa-a",)),
        (objects(Namespace={}), ("Namespace workloads/a of ncsa-a",)),
        (("dpp:links:Link", "base-ncsa", {"circuit": "base-ncsa"}), ()),
        (("dpp:stores:Bucket", "raw", {}), ("dpp:stores:Bucket raw, of which nobody knows whether it holds data",)),
    ],
)
def test_what_holds_data(row: tuple[str, str, dict[str, Any]], data: tuple[str, ...]) -> None:
    assert Added.of(state(row)).data == data
    assert Added.of(state(pending=(row,))).data == data, "it may have been made before its engine was killed"
    assert Added.of(state(row)).objects == 1


def test_nothing_stands_of_what_was_never_applied_or_is_gone() -> None:
    assert Added.of(None) == Added.of(state()) == Added(0, (), ())


def test_what_stays_is_what_is_left_as_it_is() -> None:
    rows = (
        machine("rt01.base", image="base:1"), machine("rt02.base"),
        ("dpp:hosts:Convergence", "routers", {"digests": {"rt01.base": "a", "rt02.base": "b"}}),
        ("dpp:network:DeviceConfiguration", "rt01.base", {"host": "rt01.base"}),
        ("dpp:network:DeviceConfiguration", "rt02.base", {"host": "rt02.base"}),
        ("dpp:images:WorkloadImages", "base", {"site": "base"}),
    )  # fmt: skip
    assert Added.of(state(*rows)).stays == (
        "what was converged on rt02.base",
        "the configuration of router rt02.base",
        "images in the registry of base",
    )
