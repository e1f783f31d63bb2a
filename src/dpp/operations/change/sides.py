"""The two sides of a change, each in a tree of its own, and programs that each runs with its own code."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from dpp.adapters.git import ChangedPath, Git
from dpp.adapters.locks import exclusive
from dpp.adapters.process import run
from dpp.model.errors import FatalError, RetriableError, UsageError
from dpp.model.folders import Folders

PROGRAMS: Final = Path(__file__).with_name("programs")
MAIN: Final = ("main", "origin/main")
WORKING_TREE: Final = "working tree"
_KEPT: Final = 6
"""Trees, states and stacks of earlier reviews that are kept: a base is reviewed against many times."""
_SECONDS: Final = 600.0
_LOCK: Final = ".lock"
_OWN: Final = ("DPP_SSH_CONFIG", "DPP_CONSOLE")
"""Variables that lead to standing machines."""


@dataclass(frozen=True)
class Side:
    """One side of a change.

    Parameters
    ----------
    name
        Its commit, or `WORKING_TREE`.
    root
        Where its files are.
    """

    name: str
    root: Path

    @property
    def committed(self) -> bool:
        """Whether what it holds is what its name says for ever."""
        return self.name != WORKING_TREE

    @property
    def environments(self) -> tuple[str, ...]:
        """Names of the environments that it declares."""
        return tuple(sorted(path.parent.name for path in self.root.glob("inventories/*/hosts.yml")))


@dataclass(frozen=True)
class Sides:
    """Both sides.

    Parameters
    ----------
    base, head
        What stands, and what is proposed.
    paths
        The files that differ.
    authors
        Mail addresses of those who wrote it.
    """

    base: Side
    head: Side
    paths: tuple[ChangedPath, ...]
    authors: tuple[str, ...]


class Workshop:
    """The folder in which reviews work: trees, states, throw-away stacks. Nothing in it is of any environment.

    Parameters
    ----------
    root
        The checkout whose commits are reviewed.
    folder
        Where; by default beside the environments' state folders.
    """

    def __init__(self, root: Path, folder: Path | None = None) -> None:
        self.git = Git(root)
        self.folder = folder or Folders.of("changes", instances=False).state

    def sides(self, between: str = "") -> Sides:
        """Return both sides of ``BASE..HEAD``, their trees made.

        Parameters
        ----------
        between
            Two commits; without the second, the working tree; by default what the current commit has beside main.

        Raises
        ------
        UsageError
            If a commit is unknown.
        """
        git = self.git
        first, dots, second = between.partition("..")
        if dots:
            base = git.commit(first) if first else git.merge_base(self._main(), second or "HEAD")
            head = git.commit(second) if second else None
        else:
            head = git.commit(first or "HEAD")
            base = git.merge_base(self._main(), head)
        authors = set(git.authors(base, head)) | ({git.user()} - {""} if head is None else set())
        return Sides(self._side(base), self._side(head), git.changed(base, head), tuple(sorted(authors)))

    @contextmanager
    def applied(self, change: str, base: str, head: str) -> Iterator[Sides]:
        """Have the trees of a change that is applied, out of the way of reviews, which tidy theirs up.

        Parameters
        ----------
        change
            Its id.
        base, head
            Commits.

        Raises
        ------
        UsageError
            If a commit is unknown.
        RetriableError
            If somebody applies it elsewhere.
        """
        git, folder = self.git, self.folder / "applied" / change
        base, head = git.commit(base), git.commit(head)
        with exclusive(folder / _LOCK, subject=f"change {change}", seconds=0):
            os.utime(folder)
            self._forget_applied(folder)
            sides = [Side(commit, folder / name) for commit, name in ((base, "base"), (head, "head"))]
            for side in sides:
                git.worktree(side.name, side.root)
                lead_to_this_environment(side.root)
            yield Sides(sides[0], sides[1], git.changed(base, head), git.authors(base, head))

    def _forget_applied(self, mine: Path) -> None:
        """Remove the trees of changes that were applied long ago and are not now."""
        for old in _oldest(mine.parent, "[0-9]*", _KEPT):
            with suppress(RetriableError), exclusive(old / _LOCK, seconds=0):
                for tree in ("base", "head"):
                    self.git.remove_worktree(old / tree)
                shutil.rmtree(old, ignore_errors=True)

    def state(self, side: Side, environment: str) -> dict[str, Any] | None:
        """Return what a side declares and would deploy in an environment; ``None`` where it has none of the name."""
        name = f"{side.name[:12]}-{environment}-{programs_digest()}.json"
        kept = self.folder / "states" / name
        if side.committed and kept.exists():
            os.utime(kept)
            found: dict[str, Any] | None = json.loads(kept.read_text())
            return found
        found = self.run(side, "state.py", environment)
        if side.committed:
            kept.parent.mkdir(parents=True, exist_ok=True)
            draft = kept.with_suffix(f".{os.getpid()}")
            draft.write_text(json.dumps(found))
            draft.rename(kept)
            prune(kept.parent, "*.json", 2 * _KEPT)
        return found

    def run(self, side: Side, program: str, *words: str, given: Any = None) -> Any:
        """Run a program with the code of a side and return the JSON that it prints.

        Raises
        ------
        FatalError
            If that code cannot tell; the text says why.
        """
        if not (side.root / "src/dpp/rendering").is_dir():  # else the code of this tool would answer, of its own tree
            raise FatalError(f"tree of {side.name[:12]}", "no src/dpp/rendering", "one that can tell what it would deploy", "compare with a later commit")  # fmt: skip
        done = run(
            [sys.executable, "-P", PROGRAMS / program, *words],
            timeout=_SECONDS,
            input=None if given is None else json.dumps(given),
            env=self.variables(side),
            cwd=side.root,
            check=False,
        )
        if done.code:
            raise FatalError(
                f"{program.removesuffix('.py')} of {side.name[:12]}", done.said[-1500:], "what this side declares"
            )
        return json.loads(done.stdout)

    def variables(self, side: Side) -> dict[str, str]:
        """Return the variables with which a side's code runs: its own modules, no environment's state, no secrets."""
        return {
            "PYTHONPATH": os.pathsep.join([str(side.root / "src"), str(side.root / "tests")]),
            "XDG_STATE_HOME": str(self.folder / "nowhere"),
            "ANSIBLE_CONFIG": str(side.root / "ansible.cfg"),
            "ANSIBLE_LOOKUP_PLUGINS": str(side.root / "src/dpp/adapters/ansible_plugins/lookup"),
            "DPP_LAB": "lab",
            **dict.fromkeys(_OWN, ""),
        }

    def _main(self) -> str:
        for name in MAIN:
            try:
                return self.git.commit(name)
            except UsageError:
                continue
        raise UsageError("branch main", "neither here nor at origin", "a branch to compare with", "name BASE..HEAD")

    def _side(self, commit: str | None) -> Side:
        if commit is None:
            return Side(WORKING_TREE, self.git.root)
        trees = self.folder / "trees"
        trees.mkdir(parents=True, exist_ok=True)
        folder = trees / commit[:12]
        with exclusive(trees / ".lock"):
            self.git.worktree(commit, folder)
            os.utime(folder)
            for old in _oldest(trees, "[0-9a-f]*", _KEPT):
                self.git.remove_worktree(old)
        return Side(commit, folder)


def code_of(root: Path) -> str:
    """Return a digest of the tool's code in a tree."""
    digest = hashlib.sha256()
    for path in sorted((root / "src/dpp").rglob("*")):
        if path.is_file() and path.suffix != ".pyc":
            digest.update(f"{path.relative_to(root)}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def own_variables(side: Side) -> dict[str, str]:
    """Return the variables with which a side's own code works on what really stands."""
    return {
        "PYTHONPATH": os.pathsep.join([str(side.root / "src"), str(side.root / "workloads/src")]),
        "ANSIBLE_CONFIG": str(side.root / "ansible.cfg"),
        "DPP_PYTHON": sys.executable,
    }


def own_command(*words: str) -> list[str]:
    """Return the words that run ``dpp`` of the tree whose variables (`own_variables`) go with them."""
    return [sys.executable, "-P", "-c", "from dpp.cli import main; raise SystemExit(main())", *words]


def lead_to_this_environment(root: Path) -> None:
    """Let a tree find the locked environment where Pulumi.yaml looks for it."""
    link, environment = root / ".venv", Path(sys.executable).parents[1]
    if link.is_symlink() and link.readlink() != environment:
        link.unlink()
    if not link.exists():
        link.symlink_to(environment)


def programs_digest() -> str:
    """Return a digest of the programs by which sides tell of themselves: what they told before another one counts no more."""
    digest = hashlib.sha256()
    for path in sorted(PROGRAMS.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:8]


def _oldest(folder: Path, pattern: str, kept: int) -> list[Path]:
    return sorted(folder.glob(pattern), key=lambda path: path.stat().st_mtime, reverse=True)[kept:]


def prune(folder: Path, pattern: str, kept: int) -> None:
    """Delete all but those entries of a folder that were used last."""
    for old in _oldest(folder, pattern, kept):
        if old.is_dir():
            shutil.rmtree(old, ignore_errors=True)
        else:
            old.unlink(missing_ok=True)
