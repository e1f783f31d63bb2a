"""What an apply waits for, in which order it goes, and how differences are told."""

from __future__ import annotations

import pytest

from dpp.adapters.kubernetes.objects import Key, check_owner, differences, plain
from dpp.adapters.kubernetes.ready import waiting_for
from dpp.model.errors import FatalError


def live(kind: str, spec: dict[str, object], status: dict[str, object], generation: int = 1) -> dict[str, object]:
    return {"kind": kind, "metadata": {"generation": generation}, "spec": spec, "status": status}


@pytest.mark.parametrize(
    ("manifest", "reason"),
    [
        (live("Deployment", {"replicas": 2}, {"observedGeneration": 0}), "not seen by its controller yet"),
        (
            live("Deployment", {"replicas": 2}, {"observedGeneration": 1, "updatedReplicas": 1}),
            "1 of 2 updated replicas",
        ),
        (
            live(
                "Deployment",
                {"replicas": 1},
                {"observedGeneration": 1, "conditions": [{"type": "ReplicaFailure", "message": "quota is used up"}]},
            ),
            "0 of 1 updated replicas (quota is used up)",
        ),
        (live("Deployment", {"replicas": 0}, {"observedGeneration": 1}), ""),
        (
            live("DaemonSet", {}, {"observedGeneration": 1, "desiredNumberScheduled": 3, "updatedNumberScheduled": 3}),
            "0 of 3 number ready",
        ),
        (live("Job", {"parallelism": 1, "completions": 1}, {}), "0 of 1 pods ready"),
        (live("Job", {"parallelism": 1, "completions": 1}, {"ready": 1}), ""),
        (live("Job", {"suspend": True}, {}), ""),
        (live("Job", {}, {"conditions": [{"type": "Complete", "status": "True"}]}), ""),
        (
            live("Job", {}, {"conditions": [{"type": "Failed", "status": "True", "message": "too often"}]}),
            "failed: too often",
        ),
        (live("Namespace", {}, {"phase": "Terminating"}), "phase Terminating"),
        (live("ConfigMap", {}, {}), ""),
    ],
)
def test_waiting_says_what_for(manifest: dict[str, object], reason: str):
    assert waiting_for(manifest) == reason


def test_grounds_come_before_what_stands_on_them():
    kinds = ["Deployment", "Service", "ConfigMap", "Namespace", "NetworkPolicy"]
    keys = [Key("v1", kind, "", "one") for kind in kinds]
    ordered = [key.kind for key in sorted(keys, key=lambda key: key.rank)]
    assert ordered == ["Namespace", "NetworkPolicy", "ConfigMap", "Service", "Deployment"]


def test_differences_name_paths_and_both_values():
    before = {"spec": {"replicas": 1, "list": [{"a": 1}], "gone": "x"}}
    after = {"spec": {"replicas": 2, "list": [{"a": 2}]}}
    assert differences(before, after) == {
        "spec.gone": ("x", None),
        "spec.list[0].a": (1, 2),
        "spec.replicas": (1, 2),
    }


def test_what_the_server_keeps_for_itself_is_no_difference():
    one = {"metadata": {"name": "a", "resourceVersion": "1", "managedFields": []}, "status": {"x": 1}}
    assert plain(one) == {"metadata": {"name": "a"}}


def test_an_object_of_another_owner_is_left_alone():
    key = Key("v1", "Namespace", "", "one")
    owned = {"metadata": {"annotations": {"dpp.lsst.org/owner": "urn:other"}}}
    with pytest.raises(FatalError, match="Namespace one: it belongs to urn:other; expected urn:mine"):
        check_owner(key, owned, "urn:mine")
