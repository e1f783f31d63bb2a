"""What a workload shows to its cluster: that all its loops go on, and that all is prepared."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from workloads.common import serve
from workloads.common.serve import Health, serve_health
from workloads.prompt_processing import board as boards
from workloads.prompt_processing.board import Board


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(serve, "time", clock)
    monkeypatch.setattr(boards, "time", clock)
    return clock


def asked(port: int, path: str) -> tuple[int, dict[str, object]]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}") as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Health, Board, int]]:
    monkeypatch.setenv("DPP_HEALTH_PORT", "0")
    board = Board(["R22_S10", "R22_S11"])
    health = Health(120.0, board)
    server = serve_health(health)
    yield health, board, server.server_address[1]
    server.shutdown()


def test_ready_is_prepared_and_alive_is_every_loop(clock: Clock, shown: tuple[Health, Board, int]) -> None:
    health, board, port = shown
    assert asked(port, "/healthz")[0] == 200
    assert asked(port, "/readyz") == (503, {"unprepared": ["main", "R22_S10", "R22_S11"], "stale": {}})
    health.ready()
    board.prepared("R22_S10")
    assert asked(port, "/readyz")[1]["unprepared"] == ["R22_S11"]
    board.prepared("R22_S11")
    assert asked(port, "/readyz")[0] == 200
    clock.now += 100.0
    health.beat("main")
    board.beat("R22_S11")
    clock.now += 50.0
    assert asked(port, "/healthz") == (503, {"stale": {"R22_S10": 150.0}})
    assert asked(port, "/readyz")[0] == 503
    board.begin("R22_S10")
    assert asked(port, "/healthz")[0] == 200, "a worker that was replaced is prepared anew"
    assert asked(port, "/readyz")[1]["unprepared"] == ["R22_S10"]


def test_a_worker_that_hangs_is_known_and_one_that_begins_does_not_hang(clock: Clock) -> None:
    board = Board(["0", "1", "2"])
    for name in ("0", "1"):
        board.beat(name)
    clock.now += 60.0
    board.beat("1")
    clock.now += 61.0
    assert board.hung(120.0) == ["0"]
    board.begin("0")
    assert board.hung(120.0) == []


def test_what_a_worker_writes_its_parent_reads() -> None:
    board = Board(["one", "two"])
    pid = os.fork()
    if pid == 0:
        board.prepared("two")
        os._exit(0)
    os.waitpid(pid, 0)
    assert board.unprepared() == ["one"]
    assert list(board.beats()) == ["two"]
