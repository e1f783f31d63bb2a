"""One test session: the stages in order from the fastest to the whole observatory, and a ledger of where the time went."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

import quiet

HERE = Path(__file__).parent
STAGES = ("lint", "unit", "pixels", "stacks", "k8s", "integration", "network", "roles", "chaos", "lab", "bench")
"""Folders of tests in the order in which they run: what fails fastest comes first."""
FIRST = "test_night.py"
"""What a lab is for is tried before it is tampered with."""
NEEDS = {
    "network": ["root"],
    "roles": ["root"],
    "lab": ["root", "lab"],
    "chaos": ["root", "lab"],
    "integration": ["root"],
}
"""Markers that every test of a folder carries."""
MACHINES = {"network", "lab"}
"""Folders whose tests make many machines: one after the other, for a host's inotify instances suffice for one lab.

The one to three machines of a role or of a killed engine find room beside it.
"""

_SHOWN = 4000
"""Characters of a failure, from its end."""

_seconds: dict[str, float] = defaultdict(float)
_counts: dict[str, int] = defaultdict(int)


def _stage(path: Path) -> str:
    return path.relative_to(HERE).parts[0] if path.is_relative_to(HERE) else "other"


class Lanes(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """Hand tests to processes by module, and all tests with machines to one process, in the order of their stages.

    In that order a folder's modules follow each other, so that the servers they share are started once.
    """

    def __init__(self, config: pytest.Config, log: Any) -> None:
        super().__init__(config, log)
        config.option.loadscopereorder = False

    def _split_scope(self, nodeid: str) -> str:
        path = Path(nodeid.partition("::")[0])
        return "machines" if _stage(HERE.parent / path) in MACHINES else str(path)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Lanes:
    """Return the scheduler of runs in several processes."""
    return Lanes(config, log)


class FailuresAtOnce:
    """Shows why a test failed when it fails: the summary comes an hour later.

    Parameters
    ----------
    terminal
        Where to.
    """

    def __init__(self, terminal: Any) -> None:
        self._terminal = terminal

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Show the end of a failure's text."""
        if report.failed:
            self._terminal.write_line(f"\n{report.nodeid}, {report.when}:\n{str(report.longrepr)[-_SHOWN:]}")


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Show failures at once, in the process that has the terminal; share quiet between those that run tests."""
    if hasattr(config, "workerinput"):
        quiet.share(Path(config.option.basetemp).parent / "quiet")
    terminal = config.pluginmanager.get_plugin("terminalreporter")
    if terminal and not hasattr(config, "workerinput"):
        config.pluginmanager.register(FailuresAtOnce(terminal), "failures-at-once")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol() -> Iterator[None]:
    """Be at work while a test, its set-up and its tear-down run."""
    with quiet.work():
        return (yield)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark by folder, then order by stage (the order inside a stage stays, but for what comes first).

    In several processes those with machines come before all others: theirs is the longest way.
    """
    lanes = hasattr(config, "workerinput")

    def place(item: pytest.Item) -> tuple[bool, int, bool]:
        stage = _stage(item.path)
        rank = STAGES.index(stage) if stage in STAGES else len(STAGES)
        return not (lanes and stage in MACHINES), rank, item.path.name != FIRST

    for item in items:
        for marker in NEEDS.get(_stage(item.path), []):
            item.add_marker(marker)
    items.sort(key=place)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Add a test's set-up, call and tear-down to its stage."""
    stage = Path(report.nodeid.split("::")[0]).parts
    name = stage[1] if len(stage) > 1 and stage[0] == "tests" else stage[0]
    _seconds[name] += report.duration
    _counts[name] += report.when == "call"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the ledger of time per stage and every reason for a skip."""
    terminalreporter.section("time per stage")
    for stage in sorted(_seconds, key=lambda s: STAGES.index(s) if s in STAGES else len(STAGES)):
        terminalreporter.write_line(f"{stage:12s} {_counts[stage]:5d} tests {_seconds[stage]:8.1f} s")
    for report in terminalreporter.stats.get("skipped", []):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        terminalreporter.write_line(f"skipped: {report.nodeid}: {reason}")
