"""Workers that are lost while they hold an exposure, killed or stopped dead: others take over, and a spare one works for nobody else.

An exposure is held for sure: whoever processes it waits for a table that the test has locked.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from integration.conftest import DETECTOR, System, rows, stamped
from workloads.common.names import ExposureName
from workloads.common.s3 import ReplacedError, Store
from workloads.prompt_processing.packets import Packets, PacketStore

pytestmark = pytest.mark.root
PROMPT, SECOND = "prompt_processing-ncsa", "prompt_processing-second"
_HELD = "SELECT client_port FROM pg_stat_activity WHERE datname = 'apdb' AND usename = 'prompt-processing' AND wait_event_type = 'Lock'"


def _said(system: System, name: str = PROMPT) -> list[dict[str, Any]]:
    """Return the lines that workers have logged."""
    lines = system.miniature.log(name).splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("\n")]


def _worked(system: System, name: str, *obs_ids: str) -> set[int]:
    """Return the processes that had to do with exposures."""
    return {line["process"] for line in _said(system, name) if line.get("obs_id") in obs_ids}


def _exposures(folder: Path) -> list[str]:
    return sorted({row["obsId"] for row in rows(folder / "exposures.jsonl")})


def _packets(system: System, obs_id: str) -> str:
    """Return the tag of the packets that are kept of an exposure."""
    key = f"packets/{ExposureName.from_obs_id(obs_id).prefix}{obs_id}_{DETECTOR}.zip"
    return str(system.miniature.s3("ncsa").head_object(Bucket="alerts", Key=key)["ETag"])


LOCKS = {
    "before its packets are kept": '"DiaObjectLast" IN ACCESS EXCLUSIVE MODE',
    "while its rows are stored": '"DiaSource" IN SHARE MODE',
}
"""Places on the way of an exposure, by the lock on which its worker waits there."""


@pytest.fixture(params=LOCKS)
def lock(request: pytest.FixtureRequest) -> str:
    return LOCKS[request.param]


@contextmanager
def _in_mid_visit(system: System, lock: str) -> Iterator[psutil.Process]:
    """Yield the worker that has an exposure in hand and cannot go on; it can, if it lives, when the block is over."""
    where: dict[str, Any] = {
        "host": "127.0.0.1",
        "port": system.miniature.database_port,
        "user": "postgres",
        "dbname": "apdb",
    }
    with psycopg.connect(**where) as holder, psycopg.connect(**where, autocommit=True) as observer:
        holder.execute(f"LOCK TABLE {lock}")
        system.wait(lambda: bool(observer.execute(_HELD).fetchall()), "a worker holds an exposure")
        [[port]] = observer.execute(_HELD).fetchall()
        workers = [psutil.Process(pid) for name in (PROMPT, SECOND) for pid in _children(system, name)]
        [worker] = [one for one in workers if port in {end.laddr.port for end in one.net_connections("tcp")}]
        yield worker


def _children(system: System, name: str) -> list[int]:
    return system.miniature.children(name) if name in system.miniature.pids() else []


def _judge(folder: Path, visits: int) -> None:
    """Ask the consumer outside, and the camera's own records, whether every visit was processed whole and once."""
    report = json.loads((folder / "report.json").read_text())
    exposures, alerts = report["exposures"], report["alerts"]
    assert (exposures["lost"], exposures["processed"], exposures["archived"]) == (0, visits, visits), exposures
    assert (alerts["missing"], alerts["duplicates"], alerts["undecodable"]) == (0, 0, 0), alerts
    assert alerts["received"] == alerts["made"] > 0
    assert len(stamped(folder, "alerted")) == visits


def test_a_spare_worker_has_nothing_to_do_while_nobody_is_lost(system: System, night: Path) -> None:
    workers = system.miniature.children(PROMPT)
    assert len(workers) == 2
    assert len(_worked(system, PROMPT, *_exposures(night))) == 1
    assert _count(system, PROMPT, "spare") >= 1


def test_a_worker_that_is_killed_with_an_exposure_in_hand_loses_nothing(system: System, lock: str) -> None:
    killed: list[int] = []

    def kill(_: Path) -> None:
        with _in_mid_visit(system, lock) as worker:
            killed.append(worker.pid)
            worker.kill()
            worker.wait()

    folder = system.night(3, during=kill)
    _judge(folder, 3)
    held = _exposures(folder)[0]
    assert _worked(system, PROMPT, held) > set(killed), "another went on with it"


def test_a_worker_that_stands_still_is_taken_over_and_may_do_nothing_more_when_it_wakes(
    system: System, lock: str
) -> None:
    seen: dict[str, Any] = {}

    def stop(folder: Path) -> None:
        with _in_mid_visit(system, lock) as worker:
            worker.suspend()
        held = min(obs_id for obs_id, _ in stamped(folder, "ingested"))
        system.wait(lambda: bool(stamped(folder, "processed")), "another has processed what it held")
        seen.update(held=held, process=worker.pid, packets=_packets(system, held))
        worker.resume()
        system.wait(lambda: _refused(system, worker.pid), "what it would still have done is refused")
        assert worker.is_running()

    folder = system.night(3, during=stop)
    _judge(folder, 3)
    assert _packets(system, seen["held"]) == seen["packets"]
    assert _worked(system, PROMPT, seen["held"]) > {seen["process"]}


def _refused(system: System, process: int) -> bool:
    """Tell whether a worker has been told that the database has done without it, and that its slot is another's."""
    own = [line["message"] for line in _said(system) if line.get("process") == process]
    return any("alert database: away: " in said for said in own) and f"{DETECTOR} is another's" in own


def test_packets_that_come_too_late_are_refused(system: System) -> None:
    store = PacketStore(Store(system.miniature.told("prompt-processing", "ncsa"), "ncsa", "alerts"))
    exposure, late = ExposureName(20260101, 1), Packets({1: b"one"}, {"alerts": 1.0}, 5)
    store.save(exposure, DETECTOR, late)
    with pytest.raises(ReplacedError, match="stored by somebody else meanwhile"):
        store.save(exposure, DETECTOR, replace(late, messages={2: b"two"}))
    kept = store.load(exposure, DETECTOR)
    assert kept is not None
    assert kept.messages == {1: b"one"}
    store.save(exposure, DETECTOR, replace(kept, messages={3: b"three"}))
    with pytest.raises(ReplacedError):
        store.save(exposure, DETECTOR, replace(kept, messages={4: b"four"}))
    now = store.load(exposure, DETECTOR)
    assert now is not None
    assert (now.messages, now.offset) == ({3: b"three"}, 5)


def test_a_pod_that_is_lost_with_all_its_workers_is_taken_over_by_another(system: System) -> None:
    system.miniature.workload("prompt_processing", "ncsa", name=SECOND)
    system.wait(lambda: _count(system, SECOND, "spare") == 2, "the workers of the second pod are warm")

    def lose(_: Path) -> None:
        with _in_mid_visit(system, LOCKS["before its packets are kept"]) as worker:
            assert worker.pid in system.miniature.children(PROMPT), "who had the slot has it still"
            system.miniature.end(PROMPT, signal.SIGKILL)
            system.wait(lambda: not psutil.pid_exists(worker.pid), "workers end with their parent")

    folder = system.night(3, during=lose)
    _judge(folder, 3)
    assert len(_worked(system, SECOND, *_exposures(folder))) == 1
    spare, ready = _count(system, PROMPT, "spare"), _count(system, PROMPT, "ready")
    system.miniature.start_again(PROMPT)
    system.wait(lambda: _count(system, PROMPT, "spare") == spare + 2, "the first pod is back, and has nothing to do")
    assert system.miniature.end(SECOND) == 0
    system.wait(lambda: _count(system, PROMPT, "ready") > ready, "who is told to end hands its slots over")


def _count(system: System, name: str, message: str) -> int:
    return len([line for line in _said(system, name) if line["message"] == message])
