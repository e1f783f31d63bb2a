"""Why the pods of a Deployment, Job, StatefulSet or DaemonSet are not ready, in the words of whoever knows.

The scheduler says it in a pod's conditions, the container runtime in its containers' states, a failing probe or mount
and a quota that refuses a pod in events, and the program itself in the last lines of its log.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from dpp.adapters.kubernetes.api import Api
from dpp.adapters.kubernetes.objects import Manifest

Log = Callable[[str, str, bool], str]
"""Returns the last lines of a log: by pod, container, and whether the container's former life is meant."""

_LOG_LINES = 5
_LONGEST = 600
"""Characters of one reason; the end of it says most."""
_PROBES = frozenset({"Unhealthy", "ProbeWarning"})
"""Events about pods whose containers run; all other warnings are about what comes before."""


def why_not_ready(api: Api, live: Manifest) -> str:
    """Return why a live object's pods are not ready, or nothing where it has no pods or nothing is known."""
    labels = ((live.get("spec") or {}).get("selector") or {}).get("matchLabels")
    if not labels:
        return ""
    namespace = live["metadata"]["namespace"]
    pods = api.list("v1", "Pod", namespace, labels)
    makers = [live, *(api.list("apps/v1", "ReplicaSet", namespace, labels) if live["kind"] == "Deployment" else ())]
    events = api.list("v1", "Event", namespace, {}, fields="type=Warning")

    def log(pod: str, container: str, previous: bool) -> str:
        return api.log(namespace, pod, container, previous=previous, lines=_LOG_LINES)

    return why(pods, [one["metadata"]["uid"] for one in makers], events, log)


def why(pods: list[Manifest], makers: list[str], events: list[Manifest], log: Log) -> str:
    """Return the first reason that is found, newest pod first, or nothing.

    Parameters
    ----------
    pods
        The pods that should be ready.
    makers
        Uids of the objects that make such pods.
    events
        Warnings of the namespace.
    log
        How to read a container's log.
    """
    alive = [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]
    for pod in sorted(alive, key=lambda one: str(one["metadata"].get("creationTimestamp")), reverse=True):
        if reason := next(_of_pod(pod, events, log), ""):
            return _short(f"pod {pod['metadata']['name']}: {reason}")
    if refused := _last([one for one in events if one.get("reason") == "FailedCreate"], makers):
        return _short(refused)
    ending = [pod["metadata"]["name"] for pod in pods if pod not in alive]
    return f"pod {ending[0]} is still ending" if ending else ""


def _of_pod(pod: Manifest, events: list[Manifest], log: Log) -> Iterator[str]:
    """Yield the reasons of one pod, what comes first in its life first."""
    status, uid = pod.get("status") or {}, [pod["metadata"]["uid"]]
    conditions = {one["type"]: one for one in status.get("conditions") or ()}
    if status.get("phase") == "Succeeded" or conditions.get("Ready", {}).get("status") == "True":
        return
    if conditions.get("PodScheduled", {}).get("status") == "False":
        yield f"not scheduled: {conditions['PodScheduled'].get('message') or 'no message'}"
    if status.get("phase") == "Failed" and status.get("reason"):
        yield f"{status['reason']}: {status.get('message', '')}"
    for container in [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]:
        if reason := _of_container(pod["metadata"]["name"], container, log):
            yield reason
    starting = status.get("phase") != "Running"
    if said := _last([one for one in events if (one.get("reason") in _PROBES) != starting], uid):
        yield said
    if not starting:
        yield "running, not ready yet"


def _of_container(pod: str, container: dict[str, Any], log: Log) -> str:
    """Return why a container does not run: an image that does not come, or a program that ends."""
    name, state = container["name"], container.get("state") or {}
    waiting, ended = state.get("waiting") or {}, state.get("terminated") or {}
    if waiting.get("reason") == "CrashLoopBackOff":
        ended = (container.get("lastState") or {}).get("terminated") or {}
        times = f"restarted {container.get('restartCount', 0)} times, "
        return f"container {name}: CrashLoopBackOff, {times}{_end(pod, name, ended, log, previous=True)}"
    if waiting and waiting.get("reason") not in {"ContainerCreating", "PodInitializing"}:
        return f"container {name}: {waiting.get('reason')}: {waiting.get('message') or 'no message'}"
    if ended.get("exitCode"):
        return f"container {name}: {_end(pod, name, ended, log, previous=False)}"
    return ""


def _end(pod: str, container: str, ended: dict[str, Any], log: Log, *, previous: bool) -> str:
    said = log(pod, container, previous).strip() or log(pod, container, not previous).strip()
    code = f"ended with {ended.get('exitCode', 'an unknown code')} ({ended.get('reason', 'no reason')})"
    return f"{code}: {said}" if said else code


def _last(events: list[Manifest], uids: list[str]) -> str:
    """Return the newest event about one of some objects, or nothing."""
    about = sorted((one for one in events if one["involvedObject"].get("uid") in uids), key=_time)
    return f"{about[-1]['reason']}: {about[-1].get('message', '')}" if about else ""


def _time(event: Manifest) -> str:
    series = (event.get("series") or {}).get("lastObservedTime")
    return str(series or event.get("lastTimestamp") or event.get("eventTime") or "")


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 4]} ... {text[-3 * _LONGEST // 4 :]}"
