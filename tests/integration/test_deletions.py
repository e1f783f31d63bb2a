"""What was deleted for good stays deleted: real stores with their rights, and a forwarder that sweeps."""

from __future__ import annotations

import json
import sqlite3
from typing import Any

import pytest
from botocore.exceptions import ClientError

from workloads.common.deletions import record_key
from workloads.common.names import ExposureName
from workloads.health.questions import DAY

pytestmark = pytest.mark.root


def _states(system: Any, exposure: ExposureName) -> set[tuple[str, str]]:
    """Return what the forwarder's journal says of an exposure's objects: site and state."""
    path = system.miniature.folder / "data/summit/forwarder/journal.db"
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
        return set(database.execute("SELECT site, state FROM transfers WHERE key LIKE ?", (f"{exposure.prefix}%",)))


def _has(system: Any, site: str, key: str) -> bool:
    try:
        system.miniature.s3(site).head_object(Bucket="raw", Key=key)
    except ClientError:
        return False
    return True


def test_a_sweep_brings_back_nothing_that_was_deleted(system: Any) -> None:
    deleted, other = ExposureName(20200202, 7), ExposureName(20200202, 8)
    record = {"key": deleted.expected_sensors_key, "sha256": "", "reason": "not wanted at the base", "time": ""}
    system.miniature.s3("base").put_object(
        Bucket="raw", Key=record_key(deleted.expected_sensors_key), Body=json.dumps(record).encode()
    )
    for exposure in (deleted, other):
        system.miniature.s3("summit").put_object(Bucket="raw", Key=exposure.expected_sensors_key, Body=b"{}")
    told = {("base", "told"), ("ncsa", "told")}
    system.wait(lambda: _states(system, other) == told, "the other is everywhere")
    system.wait(lambda: ("ncsa", "told") in _states(system, deleted), "it is where nobody has deleted it")
    assert ("base", "refused") in _states(system, deleted)
    assert _has(system, "ncsa", deleted.expected_sensors_key)
    assert _has(system, "base", other.expected_sensors_key)
    assert not _has(system, "base", deleted.expected_sensors_key)
    assert "taken as not deleted" not in system.miniature.log("forwarder-summit"), "it may read the records"


def test_nobody_goes_on_asking_for_what_a_question_has_deleted(system: Any) -> None:
    system.miniature.run("health", "ncsa", "main-camera-archiving", "4712")
    exposure = ExposureName(DAY, 4712)
    system.wait(
        lambda: {state for _, state in _states(system, exposure)} <= {"told", "refused"},
        "the forwarder has done with it",
    )
    for site in ("summit", "base", "ncsa"):
        assert not _has(system, site, exposure.expected_sensors_key)
        assert _has(system, site, record_key(exposure.expected_sensors_key))
