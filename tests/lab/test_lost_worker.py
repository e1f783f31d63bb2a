"""The machine of workers is lost in the middle of a visit: others process it whole, no alert twice, none missing.

The lab's clusters have one node each, which cannot be lost without the cluster. What is lost here is what the workers' peers see
of such a loss: the pod's network falls silent, so that nobody hears a farewell, and all of its processes are killed at once.
That Kubernetes then starts the pod on another node is its own word; ``tests/k8s`` holds the manifests to asking for it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from dpp.adapters.kubernetes import Cluster
from lab.observatory import Observatory

VISITS, INTERVAL, DETECTORS, WORKERS = 3, 25, 9, 10
SEED = 1353374132
CLUSTER, PROMPT, SECOND, NODE = "ncsa", "prompt-processing", "prompt-processing-second", "k8s01.ncsa"
OWNER = "urn:test:lost-worker"
SERVICE = "app.kubernetes.io/name"
HUNG_SECONDS = 900.0
"""What takes so long hangs: it only ends the test."""


def _wait(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + HUNG_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"not within {HUNG_SECONDS:g} s: {what}"
        time.sleep(0.5)


class Pods:
    """The pods of workers, as an operator sees them."""

    def __init__(self, observatory: Observatory) -> None:
        self._observatory = observatory

    def __call__(self, *words: str) -> str:
        done = self._observatory.kubectl(CLUSTER, *words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def names(self, deployment: str) -> list[str]:
        """Return the pods of a Deployment; those of the second one have a label of their own."""
        chosen = f"{SERVICE}={PROMPT},{'dpp-second' if deployment == SECOND else '!dpp-second'}"
        return self("get", "pods", f"--selector={chosen}", "--output=jsonpath={.items[*].metadata.name}").split()

    def said(self, pod: str) -> list[dict[str, Any]]:
        """Return the lines that the workers of a pod have logged."""
        return [json.loads(line) for line in self("logs", pod).splitlines() if line.startswith("{")]

    def slots(self, pod: str) -> set[str]:
        """Return the slots that a pod's workers have, by what they say when they take and lose them."""
        holders: dict[str, set[object]] = {}
        for line in self.said(pod):
            slot, _, verb = line["message"].partition(" is ")
            if verb == "mine":
                holders.setdefault(slot, set()).add(line["worker"])
            elif verb == "another's":
                holders.setdefault(slot, set()).discard(line["worker"])
        return {slot for slot, workers in holders.items() if workers}


@pytest.fixture
def pods(observatory: Observatory) -> Iterator[Pods]:
    """Run a second pod of workers beside the lab's own, and leave the lab as it was."""
    found = Pods(observatory)
    observatory.await_workloads(CLUSTER)
    cluster = Cluster(CLUSTER, "lab", observatory.folders)
    try:
        cluster.apply([_second(json.loads(found("get", "deployment", PROMPT, "--output=json")))], OWNER, timeout=600)
        yield found
    finally:
        cluster.delete(OWNER)
        for pod in found.names(PROMPT):
            found("delete", "pod", pod, "--grace-period=0", "--force")
        observatory.await_workloads(CLUSTER)


def _second(deployment: dict[str, Any]) -> dict[str, Any]:
    """Return a Deployment of another name whose pods are the same, and may run on what the node has left."""
    labels = {SERVICE: PROMPT, "dpp-second": "yes"}
    template = deployment["spec"]["template"]
    template["metadata"]["labels"] |= labels
    for container in template["spec"]["containers"]:
        container["resources"]["requests"]["cpu"] = "20m"
    metadata = {"name": SECOND, "namespace": "workloads"}
    spec = {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}


def _lose(observatory: Observatory, pod: str) -> None:
    """Silence a pod's network, then kill all of its workers and their parent, which are known by their host's name."""
    script = (
        f"found=$(grep -lzx HOSTNAME={pod} $(grep -lzx workloads.prompt_processing /proc/[0-9]*/cmdline "
        "| sed s/cmdline/environ/) | cut -d/ -f3); set -- $found; "
        "nsenter --target $1 --net ip link set eth0 down && kill -KILL $found && echo lost $#"
    )
    assert int(observatory.on(NODE, script).split()[-1]) == WORKERS + 1


def _detectors(folder: Path) -> dict[str, dict[str, set[str]]]:
    """Return the detectors of each visit that are ingested, and those that are processed."""
    path = folder / "ledger.jsonl"
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    found: dict[str, dict[str, set[str]]] = {}
    for row in (json.loads(line) for line in lines if line.endswith("\n")):
        if row["step"] in ("ingested", "processed"):
            visit = found.setdefault(row["obsId"], {"ingested": set(), "processed": set()})
            visit[row["step"]].add(row["detector"])
    return found


def _in_hand(folder: Path, night: Future[Path]) -> bool:
    """Tell whether most detectors of a later visit than the first are in hand."""
    if night.done():
        pytest.fail(f"the night is over before a visit was in hand: {night.result()}")
    found = _detectors(folder)
    visit = found[max(found)] if len(found) > 1 else None
    return visit is not None and len(visit["ingested"]) > DETECTORS / 2 > len(visit["processed"])


def test_a_visit_whose_machine_is_lost_is_processed_whole_by_others(observatory: Observatory, pods: Pods) -> None:
    [first], [second] = pods.names(PROMPT), pods.names(SECOND)
    assert (len(pods.slots(first)), len(pods.slots(second))) == (DETECTORS, 0), "who is spare has nothing"

    nights = observatory.folders.state / "nights"
    before = set(nights.glob("*"))
    with ThreadPoolExecutor(max_workers=1) as pool:
        night = pool.submit(observatory.night, f"--visits={VISITS}", f"--interval={INTERVAL}", f"--seed={SEED}")
        _wait(lambda: night.done() or bool(set(nights.glob("*")) - before), "the night begins")
        [folder] = set(nights.glob("*")) - before
        _wait(lambda: _in_hand(folder, night), "most of a visit is in hand")
        _lose(observatory, first)
        visit, found = max(_detectors(folder).items())
        assert night.result() == folder
    assert len(found["processed"]) < DETECTORS, "the visit was in hand when its machine was lost"

    report = json.loads((folder / "report.json").read_text())
    print(json.dumps(report["requirements"], indent=1))
    exposures, alerts = report["exposures"], report["alerts"]
    assert (exposures["lost"], exposures["processed"]) == (0, VISITS * DETECTORS), exposures["losses"]
    assert (alerts["missing"], alerts["duplicates"], alerts["undecodable"]) == (0, 0, 0), alerts
    assert alerts["received"] == alerts["made"] > 0
    went_on = [
        line for line in pods.said(second) if line.get("obs_id") == visit and "after the readout" in line["message"]
    ]
    assert went_on, "others went on with the visit"
    assert len(pods.slots(second)) == DETECTORS
