"""Why pods are not ready, from objects as API servers return them."""

from __future__ import annotations

from typing import Any

import pytest

from dpp.adapters.kubernetes.ready import has_failed
from dpp.adapters.kubernetes.reasons import why


def pod(name: str = "one", *, created: str = "2026-11-23T00:00:00Z", **status: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "uid": f"uid-{name}", "creationTimestamp": created}, "status": status}


def event(uid: str, reason: str, message: str, last: str = "2026-11-23T00:00:10Z") -> dict[str, Any]:
    return {"involvedObject": {"uid": uid}, "reason": reason, "message": message, "lastTimestamp": last}


def container(**state: Any) -> dict[str, Any]:
    return {"name": "main", "restartCount": 3, "state": state}


def ended(code: int, reason: str = "Error") -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "reason": reason}}


def log(pod_name: str, container_name: str, previous: bool) -> str:
    assert (pod_name, container_name) == ("one", "main")
    return "Traceback\nValueError: no such topic\n" if previous else ""


UNSCHEDULABLE = "0/1 nodes are available: 1 node(s) had untolerated taint {node.kubernetes.io/disk-pressure: }."
CRASHED = {
    "name": "main", "restartCount": 3, "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s"}}, "lastState": ended(1),
}  # fmt: skip


@pytest.mark.parametrize(
    ("status", "events", "reason"),
    [
        (
            {
                "phase": "Pending",
                "conditions": [
                    {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": UNSCHEDULABLE}
                ],
            },
            [],
            f"pod one: not scheduled: {UNSCHEDULABLE}",
        ),
        (
            {
                "phase": "Pending",
                "containerStatuses": [
                    container(waiting={"reason": "ImagePullBackOff", "message": "Back-off pulling image"})
                ],
            },
            [],
            "pod one: container main: ImagePullBackOff: Back-off pulling image",
        ),
        (
            {"phase": "Running", "containerStatuses": [CRASHED]},
            [event("uid-one", "Unhealthy", "Startup probe failed: connection refused")],
            (
                "pod one: container main: CrashLoopBackOff, restarted 3 times, ended with 1 (Error): "
                "Traceback\nValueError: no such topic"
            ),
        ),
        (
            {"phase": "Running", "containerStatuses": [container(**ended(137, "OOMKilled"))]},
            [],
            "pod one: container main: ended with 137 (OOMKilled): Traceback\nValueError: no such topic",
        ),
        (
            {"phase": "Running", "containerStatuses": [container(running={})]},
            [
                event("uid-one", "FailedScheduling", "no node yet", "2026-11-23T00:00:50Z"),
                event("uid-one", "Unhealthy", "Readiness probe failed: status code 503", "2026-11-23T00:00:40Z"),
                event("uid-one", "Unhealthy", "Startup probe failed: connection refused", "2026-11-23T00:00:20Z"),
                event("uid-other", "Unhealthy", "of another pod", "2026-11-23T00:01:00Z"),
            ],
            "pod one: Unhealthy: Readiness probe failed: status code 503",
        ),
        (
            {"phase": "Running", "containerStatuses": [container(running={})]},
            [],
            "pod one: running, not ready yet",
        ),
        (
            {"phase": "Pending", "containerStatuses": [container(waiting={"reason": "ContainerCreating"})]},
            [event("uid-one", "FailedMount", 'secret "workloads" not found')],
            'pod one: FailedMount: secret "workloads" not found',
        ),
        ({"phase": "Pending", "containerStatuses": [container(waiting={"reason": "ContainerCreating"})]}, [], ""),
        (
            {"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: ephemeral-storage."},
            [],
            "pod one: Evicted: The node was low on resource: ephemeral-storage.",
        ),
        ({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}, [], ""),
    ],
)
def test_a_pod_says_why_it_is_not_ready(status: dict[str, Any], events: list[dict[str, Any]], reason: str):
    assert why([pod(**status)], ["uid-maker"], events, log) == reason


def test_a_pod_that_is_refused_is_told_by_its_maker():
    message = 'pods "one" is forbidden: exceeded quota: workloads, requested: pods=1, used: pods=100, limited: pods=100'
    assert why([], ["uid-maker"], [event("uid-maker", "FailedCreate", message)], log) == f"FailedCreate: {message}"


def test_the_newest_pod_is_told_and_one_that_ends_last():
    waiting = {"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "message": "no room"}]}
    old, new = pod("old", **waiting), pod("new", created="2026-11-23T00:01:00Z", **waiting)
    assert why([old, new], [], [], log) == "pod new: not scheduled: no room"
    old["metadata"]["deletionTimestamp"] = "2026-11-23T00:01:00Z"
    assert why([old], [], [], log) == "pod old is still ending"


def test_a_long_log_keeps_its_end():
    status = {"phase": "Running", "containerStatuses": [CRASHED]}
    told = why([pod(**status)], [], [], lambda *_: "x" * 5000 + " and the reason")
    assert len(told) < 700
    assert told.endswith(" and the reason")


def test_only_a_job_can_fail_for_good():
    failed = {"conditions": [{"type": "Failed", "status": "True"}]}
    assert has_failed({"kind": "Job", "status": failed})
    assert not has_failed({"kind": "Job", "status": {}})
    assert not has_failed({"kind": "Deployment", "status": failed})
