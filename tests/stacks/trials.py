"""Changes of random edits, each with its dossier and with what the engine then does to an environment whose objects are files.

What the engine says and does is read here from its own stream of events and from the objects themselves: nothing of it goes
through the code that makes dossiers.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from dpp.adapters.pulumi.backend import Backend
from dpp.adapters.pulumi.stacks import Stacks
from dpp.build.tools import tool
from dpp.model.units import UNITS
from dpp.operations.change.findings import Dossier, Plan
from dpp.operations.change.plan import plan
from dpp.operations.change.sides import Side, lead_to_this_environment, own_variables
from stacks.edits import Edit, Kind, drawn, make
from stacks.reviewed import Reviewed
from stacks.standing import PROVIDER, Standing

_PROVIDER: Final = ("Pulumi.yaml", "path: ./src/dpp/provider", f"path: {PROVIDER}")
_ELSEWHERE: Final = ("inventories/production", "k8s/clusters/production")
_CHECK: Final = """
from dpp.model.environment import Environment
from dpp.model.errors import DppError
from dpp.model.principals import Principals
try:
    principals = Principals.load(Environment.load("lab"))
    assert principals.present and principals.topics
except DppError as error:
    print(error)
    raise SystemExit(1)
"""
STACKS: Final = tuple(f"lab.{unit}" for unit in UNITS)
_AT_ONCE: Final = 2
_SAME: Final = frozenset({"same", "read", "refresh"})
_SPARE: Final = 2
"""How many times as many edits are drawn as are wanted: the model refuses some."""

Step = tuple[str, str, str, str]
"""Stack, verb, type, name."""


@dataclass(frozen=True)
class Filed(Backend):
    """Stacks whose objects are files."""

    standing: Standing | None = None

    def variables(self) -> dict[str, str]:
        """Return what the engine needs, and what leads the provider to the files."""
        assert self.standing
        mine = self.standing.variables() | own_variables(Side("standing", self.project))
        return super().variables() | mine


@dataclass(frozen=True)
class Done:
    """What the engine would do, and did.

    Parameters
    ----------
    previewed, applied
        Steps: a preview has those as well of which it cannot know whether anything differs.
    before, after
        Inputs of all objects, by type and name.
    """

    previewed: frozenset[Step]
    applied: frozenset[Step]
    before: Mapping[str, Any]
    after: Mapping[str, Any]


@dataclass(frozen=True)
class Trial:
    """A change, its dossier's plan of the lab, and what came of it.

    Parameters
    ----------
    base, head
        Folders with what both sides declare: services and inventories.
    """

    edits: tuple[Edit, ...]
    dossier: Dossier
    plan: Plan
    done: Done
    base: Path
    head: Path


@dataclass(frozen=True)
class Refused:
    """An edit that the model does not allow, and why."""

    edit: Edit
    why: str


@dataclass
class Stand:
    """An environment that stands as the base declares it, and a repository of which changes are made.

    Parameters
    ----------
    standing
        Repository, objects and states.
    base
        Commit of the base.
    """

    standing: Standing
    base: str
    refused: list[Refused] = field(default_factory=list)
    _trials: dict[int, Trial] = field(default_factory=dict)

    @classmethod
    def make(cls, top: Path) -> Stand:
        """Have all stacks of the lab stand, as files."""
        standing = Standing(top)
        (top / "objects").mkdir()
        reviewed = Reviewed.make(top / "repository")
        for (
            folder
        ) in _ELSEWHERE:  # the lab alone: an environment that is only previewed has nothing to be compared with
            shutil.rmtree(reviewed.root / folder, ignore_errors=True)
        reviewed.edit(*_PROVIDER)
        base = reviewed.commit("Begin with the lab")
        lead_to_this_environment(reviewed.root)
        made = cls(standing, base)
        with ThreadPoolExecutor(_AT_ONCE) as pool:  # no machine is needed, so that none waits for another
            results = list(pool.map(Stacks(made.backend).up, STACKS))
        assert not [error for result in results for error in result.errors], results
        for name in ("objects", "state"):
            shutil.copytree(top / name, top / f"pristine-{name}", symlinks=True)
        return made

    @property
    def reviewed(self) -> Reviewed:
        return self.standing.reviewed

    # -- changes -----------------------------------------------------------------------------------------------------------

    def trial(self, seed: int, count: int) -> Trial:
        """Return the change that a seed decides, tried once."""
        if seed not in self._trials:
            self._trials[seed] = self._tried(self.accepted(seed, count))
        return self._trials[seed]

    def accepted(self, seed: int, count: int, kinds: tuple[Kind, ...] = ()) -> list[Edit]:
        """Return edits that the model allows, together; those that it refuses are kept apart, with its words."""
        self.begin()
        candidates = drawn(seed, self.reviewed.root, _SPARE * count, kinds)
        print(f"\nseed {seed}:", *candidates, sep="\n  ")
        taken: list[Edit] = []
        while candidates and len(taken) < count:
            wanted = count - len(taken)
            more, candidates = self._allowed(candidates[:wanted]), candidates[wanted:]
            taken += more if not taken or not self.refusal([*taken, *more]) else []
        assert len(taken) == count, f"seed {seed} yields only {len(taken)} edits that may be made together"
        return taken

    def _allowed(self, edits: list[Edit]) -> list[Edit]:
        """Return those of some edits that the model allows, each by itself and together; halving finds the others."""
        why = self.refusal(edits) if edits else ""
        if not why:
            return edits
        if len(edits) == 1:
            self.refused.append(Refused(edits[0], why))
            return []
        middle = len(edits) // 2
        first, second = self._allowed(edits[:middle]), self._allowed(edits[middle:])
        both = [*first, *second]
        return first if len(both) == len(edits) or (first and second and self.refusal(both)) else both

    def begin(self) -> None:
        """Have the repository's tree as the base is."""
        self.reviewed.git("checkout", "--quiet", "--force", "--detach", self.base)

    def refusal(self, edits: list[Edit]) -> str:
        """Return why the model does not allow edits, empty where it does."""
        make(self.reviewed.root, edits)
        tree = Side("edited", self.reviewed.root)
        command = [sys.executable, "-P", "-c", _CHECK]
        variables = os.environ | own_variables(tree)
        done = subprocess.run(command, cwd=tree.root, env=variables, capture_output=True, text=True, check=False)
        self.begin()
        assert done.returncode in {0, 1}, done.stderr
        return done.stdout.strip()

    def commit(self, edits: list[Edit]) -> str:
        """Make a change, and have its tree."""
        self.begin()
        make(self.reviewed.root, edits)
        return self.reviewed.commit("Edit at random")

    def dossier(self, head: str) -> Dossier:
        """Return what is said of a change."""
        return plan(self.standing.workshop, f"{self.base}..{head}")

    def _tried(self, edits: list[Edit]) -> Trial:
        head = self.commit(edits)
        dossier = self.dossier(head)
        plans = [one for one in dossier.plans if one.environment == "lab"] or [Plan(environment="lab", applied=True)]
        return Trial(tuple(edits), dossier, plans[0], self.done(), self._declared(self.base), self._declared(head))

    def _declared(self, commit: str) -> Path:
        """Return a folder with what a commit declares: the trees of its review go when others are reviewed."""
        folder = self.standing.top / "declared" / commit
        if not folder.exists():
            archive = folder.with_suffix(".tar")
            folder.mkdir(parents=True)
            self.reviewed.git("archive", f"--output={archive}", commit, "services", "inventories")
            shutil.unpack_archive(archive, folder, filter="data")
        return folder

    # -- the engine ----------------------------------------------------------------------------------------------------------

    def done(self) -> Done:
        """Have the engine preview and apply the repository's tree to all that stands at the base, and put that back."""
        before = self.objects()
        try:
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                previewed = dict(zip(STACKS, pool.map(self.preview, STACKS), strict=True))
                touched = [stack for stack, steps in previewed.items() if steps]
                applied = list(pool.map(lambda stack: self.operate(stack, "up", "--yes", "--skip-preview"), touched))
            return Done(frozenset().union(*previewed.values()), frozenset().union(*applied), before, self.objects())
        finally:
            for name in ("objects", "state"):
                shutil.rmtree(self.standing.top / name)
                shutil.copytree(self.standing.top / f"pristine-{name}", self.standing.top / name, symlinks=True)

    def preview(self, stack: str) -> frozenset[Step]:
        """Return what the engine says that it would do to a stack, having read each object again."""
        return self.operate(stack, "preview", "--refresh")

    def operate(self, stack: str, *words: str) -> frozenset[Step]:
        """Run the engine on a stack, and return the steps of its own stream of events that change a resource."""
        done = self.engine(stack, *words)
        assert done.returncode == 0, f"pulumi {' '.join(words)} of {stack}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
        return frozenset(_steps(stack, done.stdout.splitlines()))

    def engine(self, stack: str, *words: str) -> subprocess.CompletedProcess[str]:
        """Run the engine's own command on a stack that stands."""
        backend = self.backend
        command = backend.engine(words[0], "-s", stack, "--json", *words[1:])
        variables = os.environ | backend.variables()
        return subprocess.run(command, cwd=backend.project, env=variables, capture_output=True, text=True, check=False)

    @property
    def backend(self) -> Filed:
        """The stacks that stand, whose programs are those of the repository's tree."""
        top, root = self.standing.top, self.reviewed.root
        return Filed("lab", top / "state/dpp/tried", tool("pulumi").folder / "bin/pulumi", root, self.standing)

    def objects(self) -> dict[str, Any]:
        """Return the inputs of all objects that stand, by type and name."""
        return {
            f"{name.partition('-')[0]} {name.split('-', 2)[2].removesuffix('.json')}": inputs
            for name, inputs in self.standing.objects().items()
        }


def _steps(stack: str, lines: Iterable[str]) -> Iterable[Step]:
    for line in lines:
        if not line.startswith("{"):
            continue
        event = json.loads(line)
        told = event.get("resourcePreEvent") or event.get("resOutputsEvent") or {}
        step = told.get("metadata")
        if not step or step["op"] in _SAME or not (step.get("new") or step.get("old") or {}).get("custom"):
            continue
        if "resOutputsEvent" in event and not told.get("planning"):
            continue  # the same step once more, when it is over
        yield stack, step["op"], step["type"], step["urn"].rpartition("::")[2]
