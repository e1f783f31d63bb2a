"""Whatever the order in which services come up: no command, event, alert or deletion of before (DMS-REQ-0297).

One order, and six more in a proof of their own. The seed is printed; ``DPP_FUZZ_SEED`` repeats it.
"""

from __future__ import annotations

import json
import os
import random
import signal
import time
from typing import Any

import pytest

from integration.conftest import rows, stamped
from workloads.camera.commander import Commander
from workloads.common.kafka import Bus
from workloads.common.names import ExposureName

ORDERS = [0, *(pytest.param(number, marks=pytest.mark.slow) for number in range(1, 7))]
SEED = int(os.environ.get("DPP_FUZZ_SEED", "0")) or time.time_ns() % 1_000_000_007
SERVICES = (
    "schema_registry-summit", "forwarder-summit", "data_backbone-ncsa", "visit_ledger-ncsa", "prompt_processing-ncsa", "broker-ncsa",
    "alert_distribution-ncsa",
)  # fmt: skip


def _command_before_the_start(system: Any) -> None:
    """Send the archiver commands while there is none: nobody is to carry them out later."""
    yesterday = Commander(Bus(system.miniature.told("camera", "summit")), "MTArchiver")
    for name in ("start", "enable", "exitControl"):
        yesterday.remote.send(name)


def _listed(system: Any) -> dict[tuple[str, str], str]:
    """Return every object of every store with its digest."""
    found = {}
    for site in ("summit", "base", "ncsa"):
        s3 = system.miniature.s3(site)
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket="raw"):
            found |= {(site, one["Key"]): one["ETag"] for one in page.get("Contents", [])}
    return found


@pytest.mark.usefixtures("fed")  # there is something that could come again
@pytest.mark.parametrize("number", ORDERS)
def test_nothing_of_before_comes_of_a_start(system: Any, number: int) -> None:
    chance = random.Random(SEED + number)  # noqa: S311 - no secret
    order = chance.sample(SERVICES, len(SERVICES))
    print(f"seed {SEED + number}: {', '.join(order)}")
    stored, ready = _listed(system), system.miniature.log("prompt_processing-ncsa").count('"ready"')
    _command_before_the_start(system)  # its sender needs a registry
    for name in chance.sample(SERVICES, len(SERVICES)):
        system.miniature.end(name, signal.SIGTERM)
    for name in order:
        system.miniature.start_again(name)
        time.sleep(chance.uniform(0.0, 2.0))
    system.wait(lambda: system.miniature.log("prompt_processing-ncsa").count('"ready"') > ready, "the worker is ready")
    folder = system.night(1)
    report = json.loads((folder / "report.json").read_text())
    assert (report["exposures"]["lost"], report["exposures"]["processed"]) == (0, 1)
    assert (report["alerts"]["missing"], report["alerts"]["duplicates"]) == (0, 0)
    own = {row["obsId"] for row in rows(folder / "exposures.jsonl")}
    assert {obs_id for obs_id, _ in stamped(folder, "arrived", "processed", "alerted", "lost", "failed")} == own
    assert {row["visit"] for row in rows(folder / "alerts.jsonl")} <= {
        ExposureName.from_obs_id(one).exposure_id for one in own
    }
    now = _listed(system)
    assert {where: now.get(where) for where in stored} == stored
    assert all(any(obs_id in key for obs_id in own) for _, key in now.keys() - stored.keys())
