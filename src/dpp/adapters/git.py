"""Git as reviews use it: what differs between two commits, who wrote it, and a working tree of each."""

from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dpp.adapters.process import CommandFailedError, run
from dpp.model.errors import UsageError

_SECONDS: Final = 120.0


@dataclass(frozen=True)
class ChangedPath:
    """A file that differs.

    Parameters
    ----------
    path
        From the root of the repository.
    verb
        ``added``, ``changed`` or ``deleted``.
    """

    path: str
    verb: str


class Git:
    """One checkout.

    Parameters
    ----------
    root
        Its folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def commit(self, name: str) -> str:
        """Return the commit that `name` stands for.

        Raises
        ------
        UsageError
            If there is none.
        """
        done = run(["git", "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}"], timeout=_SECONDS, cwd=self.root, check=False)  # fmt: skip
        if done.code:
            raise UsageError(f"commit {name!r}", f"not in {self.root}", "a branch, tag or commit", "fetch it, or correct the name")  # fmt: skip
        return done.stdout.strip()

    def merge_base(self, one: str, other: str) -> str:
        """Return the last commit that two have in common; ``UsageError`` where there is none."""
        done = run(["git", "merge-base", one, other], timeout=_SECONDS, cwd=self.root, check=False)
        if done.code:
            raise UsageError(f"{one} and {other}", "no commit in common", "two lines of one history", "name a base")
        return done.stdout.strip()

    def contains(self, name: str, commit: str) -> bool:
        """Say whether a commit is in the history of `name`; not where there is no such name."""
        words = ["git", "merge-base", "--is-ancestor", commit, name]
        return run(words, timeout=_SECONDS, cwd=self.root, check=False).code == 0

    def changed(self, base: str, head: str | None) -> tuple[ChangedPath, ...]:
        """Return the files that differ between two commits, or between one and the working tree."""
        words = ["git", "diff", "--name-status", "--no-renames", "-z", base, *([head] if head else []), "--"]
        fields = self._said(*words).split("\0")
        verbs = {"A": "added", "D": "deleted"}
        found = [
            ChangedPath(path, verbs.get(verb, "changed")) for verb, path in zip(fields[::2], fields[1::2], strict=False)
        ]
        if head is None:
            new = self._said("git", "ls-files", "--others", "--exclude-standard", "-z").split("\0")
            found += [ChangedPath(path, "added") for path in new if path]
        return tuple(sorted(found, key=lambda one: one.path))

    def authors(self, base: str, head: str | None) -> tuple[str, ...]:
        """Return the mail addresses of those who wrote the commits between two."""
        said = self._said("git", "log", "--format=%ae", f"{base}..{head or 'HEAD'}")
        return tuple(sorted(set(said.split())))

    def user(self) -> str:
        """Return the mail address of whoever works here; empty where git knows none."""
        return run(["git", "config", "user.email"], timeout=_SECONDS, cwd=self.root, check=False).stdout.strip()

    def show(self, commit: str, path: str) -> str | None:
        """Return a file as it is in a commit; ``None`` where it has none of the name."""
        done = run(["git", "show", f"{commit}:{path}"], timeout=_SECONDS, cwd=self.root, check=False)
        return None if done.code else done.stdout

    def worktree(self, commit: str, folder: Path) -> None:
        """Have the tree of a commit in `folder`; what is there already is used where it is exactly that."""
        if self._is(folder, commit):
            return
        if folder.exists():
            shutil.rmtree(folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        self._said("git", "worktree", "prune")
        self._said("git", "worktree", "add", "--force", "--detach", str(folder), commit)

    def remove_worktree(self, folder: Path) -> None:
        """Remove a working tree that `worktree` made."""
        shutil.rmtree(folder, ignore_errors=True)  # what is left is made anew, whole, when it is needed
        with suppress(CommandFailedError):
            self._said("git", "worktree", "prune")

    def _is(self, folder: Path, commit: str) -> bool:
        if not (folder / ".git").is_file():
            return False
        with suppress(CommandFailedError):
            there = Git(folder)
            same = there._said("git", "rev-parse", "HEAD").strip() == commit
            return same and not there._said("git", "status", "--porcelain", "--ignored=no")
        return False

    def _said(self, *words: str) -> str:
        return run(words, timeout=_SECONDS, cwd=self.root).stdout
