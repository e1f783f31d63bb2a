"""When a Kubernetes object is ready, by its kind: what it still waits for, in words."""

from __future__ import annotations

from typing import Any


def waiting_for(live: dict[str, Any]) -> str:
    """Return what an object waits for before it is ready, or an empty string where it waits for nothing."""
    kind = live["kind"]
    if kind in _CHECKS:
        return _CHECKS[kind](live.get("spec") or {}, live.get("status") or {}, live["metadata"].get("generation", 0))
    return ""


def has_failed(live: dict[str, Any]) -> bool:
    """Say whether an object will never be ready: a Job whose retries are used up."""
    return live["kind"] == "Job" and "Failed" in _conditions(live.get("status") or {})


def has_completed(live: dict[str, Any]) -> bool:
    """Say whether a Job has done all that it was to do."""
    return "Complete" in _conditions(live.get("status") or {})


def _conditions(status: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the conditions that hold, by type."""
    return {one["type"]: one for one in status.get("conditions", []) if one.get("status") == "True"}


def _deployment(spec: dict[str, Any], status: dict[str, Any], generation: int) -> str:
    wanted = spec.get("replicas", 1)
    if status.get("observedGeneration", 0) < generation:
        return "not seen by its controller yet"
    for what in ("updatedReplicas", "readyReplicas", "availableReplicas"):
        if status.get(what, 0) < wanted:
            return f"{status.get(what, 0)} of {wanted} {_words(what)}" + _failure(status)
    return "old replicas remain" if status.get("replicas", 0) > wanted else ""


def _stateful_set(spec: dict[str, Any], status: dict[str, Any], generation: int) -> str:
    wanted = spec.get("replicas", 1)
    if status.get("observedGeneration", 0) < generation:
        return "not seen by its controller yet"
    if status.get("readyReplicas", 0) < wanted:
        return f"{status.get('readyReplicas', 0)} of {wanted} ready replicas"
    return "an update is rolling" if status.get("updateRevision") != status.get("currentRevision") else ""


def _daemon_set(spec: dict[str, Any], status: dict[str, Any], generation: int) -> str:
    del spec
    wanted = status.get("desiredNumberScheduled", 0)
    if status.get("observedGeneration", 0) < generation:
        return "not seen by its controller yet"
    for what in ("updatedNumberScheduled", "numberReady"):
        if status.get(what, 0) < wanted:
            return f"{status.get(what, 0)} of {wanted} {_words(what)}"
    return ""


def _job(spec: dict[str, Any], status: dict[str, Any], generation: int) -> str:
    """Take a Job as ready when it has succeeded, waits to be started, or all its pods run: devices are Jobs that stay."""
    del generation
    conditions = _conditions(status)
    if "Failed" in conditions:
        return f"failed: {conditions['Failed'].get('message', 'no message')}"
    if "Complete" in conditions or spec.get("suspend"):
        return ""
    wanted = min(spec.get("parallelism", 1), spec.get("completions") or spec.get("parallelism", 1))
    running = status.get("ready", 0) + status.get("succeeded", 0)
    return "" if running >= wanted else f"{running} of {wanted} pods ready"


def _definition(spec: dict[str, Any], status: dict[str, Any], generation: int) -> str:
    del spec, generation
    return "" if "Established" in _conditions(status) else "not established"


def _namespace(spec: dict[str, Any], status: dict[str, Any], generation: int) -> str:
    del spec, generation
    return "" if status.get("phase") == "Active" else f"phase {status.get('phase')}"


def _failure(status: dict[str, Any]) -> str:
    reasons = [one.get("message", "") for one in status.get("conditions", []) if one["type"] == "ReplicaFailure"]
    return f" ({reasons[0]})" if reasons else ""


def _words(name: str) -> str:
    return "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in name)


_CHECKS = {
    "Deployment": _deployment,
    "StatefulSet": _stateful_set,
    "DaemonSet": _daemon_set,
    "Job": _job,
    "CustomResourceDefinition": _definition,
    "Namespace": _namespace,
}
