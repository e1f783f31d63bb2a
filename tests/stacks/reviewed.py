"""A repository of one's own to review changes of: this tree, committed, and edits on top."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from dpp.model.folders import REPOSITORY

_HASH = re.compile(r"`?\b[0-9a-f]{12,64}\b`?")
_PROOFS = re.compile(r"## Proofs owed\n.*?(?=^Plan over)|; \S+ proofs? (?:is )?owed", re.DOTALL | re.MULTILINE)
_APART = {".venv", "__pycache__", ".cache", ".pytest_cache", ".mypy_cache", ".ruff_cache"}
_IDENTITY = ("-c", "user.name=Author", "-c", "user.email=author@example.org", "-c", "commit.gpgsign=false")

_DATES = {"GIT_AUTHOR_DATE": "2026-01-01T00:00:00Z", "GIT_COMMITTER_DATE": "2026-01-01T00:00:00Z"}
"""Of all commits: the same tree is the same commit, so that what a base declares is worked out once for all tests."""


@dataclass
class Reviewed:
    """A copy of this tree with a history."""

    root: Path

    @classmethod
    def make(cls, root: Path) -> Reviewed:
        for path in _files():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPOSITORY / path, root / path, follow_symlinks=False)
        reviewed = cls(root)
        reviewed.git("init", "--quiet", "--initial-branch=main")
        reviewed.commit("Begin")
        return reviewed

    def git(self, *words: str) -> str:
        command = ["git", *_IDENTITY, *words]
        variables = os.environ | _DATES
        return subprocess.run(command, cwd=self.root, capture_output=True, text=True, check=True, env=variables).stdout

    def commit(self, about: str) -> str:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--no-verify", "--allow-empty", f"--message={about}")
        return self.git("rev-parse", "HEAD").strip()

    def edit(self, file: str, old: str, new: str) -> None:
        path = self.root / file
        text = path.read_text()
        assert old in text, f"{file} has changed: {old!r} is not in it; correct this test"
        path.write_text(text.replace(old, new, 1))

    def write(self, file: str, text: str) -> None:
        (self.root / file).parent.mkdir(parents=True, exist_ok=True)
        (self.root / file).write_text(text)


def _files() -> list[str]:
    """Return the files of this tree; that of a proof has only what it declares, and no history."""
    if not (REPOSITORY / ".git").exists():
        found = (path for path in REPOSITORY.rglob("*") if path.is_file() and not _APART.intersection(path.parts))
        return [str(path.relative_to(REPOSITORY)) for path in found]
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(listed, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return [path for path in done.stdout.split("\0") if path and (REPOSITORY / path).is_file()]


def without_hashes(page: str) -> str:
    """Return a page without what follows from all of the tree: commits, digests, and the proofs that it owes anyway."""
    return _HASH.sub("#", _PROOFS.sub("", page))
