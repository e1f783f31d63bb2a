"""The lab as a whole: up in steps that are skipped when their result is there, down so that nothing is left."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from dpp.adapters.locks import exclusive
from dpp.adapters.phases import Phases
from dpp.adapters.process import CommandFailedError, end, run
from dpp.adapters.progress import Reporter
from dpp.build.base_image import BaseImage
from dpp.build.pruning import prune
from dpp.build.tools import TOOLS
from dpp.build.tools.build import Builder
from dpp.lab import doctor, wires
from dpp.lab.access import write_access
from dpp.lab.links import Links
from dpp.lab.machines import LABEL, Machines
from dpp.model.environment import Environment
from dpp.model.errors import FatalError, RetriableError
from dpp.model.folders import Folders

SESSION = "DPP_SESSION"
"""Environment variable that marks the processes of an instance's `up`, so that `down` finds them after a crash."""

_GRACE_SECONDS = 5.0
_MONITOR_SECONDS = 60.0
_PARALLEL = 4
_REMOVALS = 3
_REMOVE_SECONDS = 300.0


@dataclass(frozen=True)
class Lab:
    """One instance of the one-machine observatory.

    Parameters
    ----------
    folders
        The instance's folders.
    reporter
        Where progress is shown.
    """

    folders: Folders
    reporter: Reporter

    def up(self, apply: Callable[[Environment], bool]) -> Phases:
        """Bring everything up: machine checked, tools, base image, machines that a reboot stopped, all stacks.

        Images of earlier builds are deleted at the end. Returns where the time went.

        Parameters
        ----------
        apply
            Applies all stacks of the lab and returns whether they stand.

        Raises
        ------
        FatalError
            If this machine cannot carry the lab, or a step fails for good.
        RetriableError
            If another `up` or `down` is running, or a stack did not finish: run it again.
        """
        phases = Phases()
        with self.alone(), session(self.folders.instance):
            with phases.phase("preflight"):
                environment = Environment.load("lab")
                self._check(environment)
            with phases.phase("tools"):
                self._tools()
            with phases.phase("base image"):
                BaseImage(self.reporter).ensure()
            with phases.phase("machines that were stopped"):
                write_access(self.folders, environment)
                self._revive()
            with phases.phase("stacks"):
                if not apply(environment):
                    raise RetriableError("stacks of the lab", "not finished", "all applied", "run dpp lab up again")
            with phases.phase("images of earlier builds"):
                self._prune()
        return phases

    def down(self) -> list[str]:
        """Take everything away that carries the instance's name, whatever state it is in; return what was removed.

        Caches of tools and images stay.
        """
        removed = _named(end(_of_session(self.folders.instance)))
        with self.alone(seconds=_GRACE_SECONDS):
            removed += self._remove_containers()
            end(_monitors(self.folders.instance), patience=_MONITOR_SECONDS)
            Links.remove_all(self.folders)
            removed += _named(end(_inside(wires.namespaces(self.folders.instance))))
            for name in wires.namespaces(self.folders.instance):
                wires.remove_namespace(name)
                removed.append(f"namespace {name}")
            wires.remove_folder()
            _unmount_below(self.folders.state)
            for folder in (self.folders.state, self.folders.run):
                if folder.exists():
                    shutil.rmtree(folder)
                    removed.append(f"folder {folder}")
            self._lock.unlink(missing_ok=True)  # who waits for it sees that it is gone, and makes it anew
        for parent in (self.folders.state.parent, self.folders.run.parent):
            with suppress(OSError):  # other instances are there
                parent.rmdir()
        return removed

    def restart(self, host: str) -> None:
        """Shut a machine down and boot it again; errors as of `stop`."""
        machines = Machines(self.folders)
        machines.existing(host)
        with self.alone():
            machines.stop(host)
            machines.start(host)

    def stop(self, host: str) -> None:
        """Shut a machine down.

        Raises
        ------
        RetriableError
            If another command is at work on the lab.
        """
        machines = Machines(self.folders)
        machines.existing(host)
        with self.alone():
            machines.stop(host)

    # -- steps of up -------------------------------------------------------------------------------------------------

    def _check(self, environment: Environment) -> None:
        with self.reporter.step("preflight"):
            missing = doctor.missing_packages()
            if missing and os.geteuid() == 0:
                self.reporter.note(f"installing {', '.join(missing)}")
                doctor.install_packages(missing)
            checks = doctor.examine(environment, self.folders)
        for check in checks:
            if check.verdict == "warning":
                self.reporter.note(f"{check.name}: {check.found}, better {check.expected}: {check.remedy}")
        if lacks := doctor.lacks(checks):
            first = lacks[0]
            more = f" (and {len(lacks) - 1} more: dpp doctor)" if len(lacks) > 1 else ""
            raise FatalError(first.name, first.found, first.expected, first.remedy + more)

    def _tools(self) -> None:
        if missing := [tool for tool in TOOLS.values() if not tool.built]:
            Builder(self.reporter).build(missing)

    def _revive(self) -> None:
        """Start machines that exist and do not run, their networks made anew: what a reboot of the host leaves."""
        machines = Machines(self.folders)
        stopped = [state for state in machines.all() if state.system == "off" or not state.plugged]
        if not stopped:
            return
        with self.reporter.step("starting machines", len(stopped)) as step, ThreadPoolExecutor(_PARALLEL) as pool:
            for state in pool.map(lambda one: machines.start(one.host), stopped):
                step.advance(state.host)

    def _prune(self) -> None:
        if gone := prune(self.folders, self.reporter):
            self.reporter.note(f"{len(gone)} images of earlier builds removed")

    # -- steps of down -----------------------------------------------------------------------------------------------

    def _remove_containers(self) -> list[str]:
        """Kill all machines at once, since nothing of them is kept, and remove them until podman knows none."""
        found = self._containers()
        if not found:
            return []
        with self.reporter.step("removing machines", len(found)) as step:
            for container in found:
                _kill_machine(container)
            left, failure = found, "they came back"
            for _ in range(_REMOVALS):
                try:
                    Machines(self.folders).podman.run(
                        "rm", "--force", "--time=0", "--ignore", *map(_name, left), timeout=_REMOVE_SECONDS
                    )
                except CommandFailedError as error:  # one that is busy does not keep the others, and is tried again
                    failure = error.found
                left = self._containers()
                step.advance(by=len(found) - len(left) - step.done)
                if not left:
                    return [f"machine {_name(container)}" for container in found]
        names = ", ".join(map(_name, left))
        raise RetriableError(f"machines {names}", f"not removed: {failure}", "gone", "run dpp lab down again")

    def _containers(self) -> list[dict[str, Any]]:
        return Machines(self.folders).podman.containers({f"{LABEL}instance": self.folders.instance})

    def alone(self, seconds: float = 0.0) -> AbstractContextManager[None]:
        """Hold the instance alone, after waiting so long for another holder; one that died holds nothing."""
        return exclusive(self._lock, subject=f"lab {self.folders.instance}", seconds=seconds)

    @property
    def _lock(self) -> Path:
        return self.folders.run.with_name(f"{self.folders.instance}.lock")


@contextmanager
def session(instance: str) -> Iterator[None]:
    """Mark the processes that are started meanwhile as the instance's."""
    os.environ[SESSION] = instance
    os.environ["DPP_LAB"] = instance
    try:
        yield
    finally:
        del os.environ[SESSION]


def _processes(wanted: Callable[[psutil.Process], bool]) -> list[psutil.Process]:
    """Return the processes of which `wanted` is true, other than this one and those that it descends from."""
    here = psutil.Process()
    own, found = {here, *here.parents()}, []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):  # it ended while we looked
            if process not in own and wanted(process):
                found.append(process)
    return found


def _of_session(instance: str) -> list[psutil.Process]:
    """Return the processes that an `up` of the instance started and left behind."""
    return _processes(lambda process: process.environ().get(SESSION) == instance)


def _inside(names: list[str]) -> list[psutil.Process]:
    """Return the processes that live in these network namespaces."""
    inodes = {(wires.NAMESPACES / name).stat().st_ino for name in names}
    return _processes(lambda process: Path(f"/proc/{process.pid}/ns/net").stat().st_ino in inodes)


def _monitors(instance: str) -> list[psutil.Process]:
    """Return podman's monitors of an instance's machines: one ends a little after its machine was removed."""
    mark = wires.namespace(instance, "")
    return _processes(lambda process: process.name() == "conmon" and any(mark in word for word in process.cmdline()))


def _named(processes: list[psutil.Process]) -> list[str]:
    return [f"process {process.pid}" for process in processes]


def _name(container: Mapping[str, Any]) -> str:
    return str(container["Names"][0])


def _kill_machine(container: Mapping[str, Any]) -> None:
    """Kill a running machine's first process, and the kernel all others with it; what is no machine is left to podman."""
    pid = int(container.get("Pid") or 0)
    try:
        own, named = Path(f"/proc/{pid}/ns/net").stat(), (wires.NAMESPACES / _name(container)).stat()
    except OSError:
        return
    if pid > 1 and own.st_ino == named.st_ino:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _unmount_below(folder: Path) -> None:
    targets = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for target in sorted((t for t in targets if Path(t).is_relative_to(folder)), reverse=True):
        run(["umount", "--lazy", target], timeout=_REMOVE_SECONDS)
