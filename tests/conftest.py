"""One test session: stages in order from the fastest to the whole observatory, and an end to what hangs."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

HERE = Path(__file__).parent
STAGES = ("lint", "unit", "contracts", "pixels", "stacks", "k8s", "integration", "network", "roles", "chaos", "lab")
"""Folders of tests in the order in which they run: what fails fastest comes first."""
EARLY = ("integration", "lint", "stacks")
"""Begun first where there are several processes: what takes long would leave one process alone at the end."""
SHARING = {"integration", "k8s"}
"""Folders whose modules share servers: one process runs them all, so that they are started once."""
MACHINES = {"network", "roles", "chaos", "lab"}
"""Folders whose tests make machines."""
NEEDS = {"integration": "root", "network": "root", "roles": "root", "chaos": "root", "lab": "lab"}
"""The marker that every test of a folder carries."""
HUNG_SECONDS = {"lint": 1200, "integration": 3600, "network": 3600, "roles": 9000, "chaos": 3600, "lab": 9000}
"""Ten times what the longest test of a folder, with the servers that it begins with, usually takes."""
HUNG_ELSE_SECONDS = 900
COLLECTED = pytest.StashKey[list[tuple[str, bool]]]()
"""Every test that a session has come upon, and whether it is marked slow."""
FIRST, LAST = "test_night.py", "test_going.py"
"""What a lab is for is tried before it is tampered with; it goes when everything has been asked of it."""

_SHOWN = 4000
"""Characters of a failure, from its end."""


def _stage(path: Path) -> str:
    return path.relative_to(HERE).parts[0] if path.is_relative_to(HERE) else "other"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Tell the tests of `make test` from those that belong to proofs."""
    parser.addoption("--unproven", action="store_true", help="leave out the tests that belong to a proof")


class Lanes(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """Hand tests to processes by module, or by folder where modules share servers, in the order of their stages."""

    def __init__(self, config: pytest.Config, log: Any) -> None:
        super().__init__(config, log)
        config.option.loadscopereorder = False

    def _split_scope(self, nodeid: str) -> str:
        path = Path(nodeid.partition("::")[0])
        stage = _stage(HERE.parent / path)
        return stage if stage in SHARING else str(path)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Lanes:
    """Return the scheduler of runs in several processes."""
    return Lanes(config, log)


class FailuresAtOnce:
    """Shows why a test failed when it fails: the summary comes minutes later.

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
    """Show failures at once, in the process that has the terminal."""
    terminal = config.pluginmanager.get_plugin("terminalreporter")
    if terminal and not hasattr(config, "workerinput"):
        config.pluginmanager.register(FailuresAtOnce(terminal), "failures-at-once")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark by folder, leave out what belongs to proofs where that is asked for, then order by stage."""
    config.stash[COLLECTED] = [(item.nodeid, item.get_closest_marker("slow") is not None) for item in items]
    if config.option.unproven:
        from proofs.catalogue import Catalogue

        catalogue = Catalogue.load()
        left_out = {item for item in items if catalogue.of(item.nodeid, slow=bool(item.get_closest_marker("slow")))}
        config.hook.pytest_deselected(items=list(left_out))
        items[:] = [item for item in items if item not in left_out]
    several = hasattr(config, "workerinput")

    def place(item: pytest.Item) -> tuple[int, int, bool, bool]:
        stage = _stage(item.path)
        rank = STAGES.index(stage) if stage in STAGES else len(STAGES)
        early = EARLY.index(stage) if several and stage in EARLY else len(EARLY)
        return early, rank, item.path.name == LAST, item.path.name != FIRST

    for item in items:
        stage = _stage(item.path)
        if stage in NEEDS:
            item.add_marker(NEEDS[stage])
        if stage in MACHINES and isinstance(item, pytest.Function):
            item.fixturenames.insert(0, "machines")
        if not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(HUNG_SECONDS.get(stage, HUNG_ELSE_SECONDS)))
    items.sort(key=place)


@pytest.fixture(scope="session")
def come_upon(pytestconfig: pytest.Config) -> list[tuple[str, bool]]:
    """Return every test of the files that this session looked at, and whether it is slow; nothing where it looked for some."""
    return [] if any("::" in word for word in pytestconfig.args) else pytestconfig.stash[COLLECTED]


@pytest.fixture(scope="session")
def machines() -> Iterator[None]:
    """Be the only one on this host who makes machines."""
    from instances import turn

    with turn():
        yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    """Say of a test that was ended that it hung: no limit here judges how fast a thing is."""
    report = yield
    if call.excinfo is not None and str(call.excinfo.value).startswith("Timeout ("):
        report.longrepr = f"{item.nodeid} hung: {call.excinfo.value}\n{report.longrepr}"
    return report
