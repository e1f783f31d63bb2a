"""The proofs that there are (proofs.yml), and the digest of what each depends on."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import subprocess
from enum import StrEnum
from functools import cache, cached_property
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

ROOT = Path(__file__).parents[2]
FILE = Path(__file__).with_name("proofs.yml")


def _flat(value: Any) -> Any:
    """Return a list of lists, as YAML's anchors make them, as one list."""
    return [inner for one in value for inner in _flat(one)] if isinstance(value, list) else [value]


@cache
def _words(command: str) -> tuple[str, ...]:
    """Return a command word by word: each test of a session is held against each."""
    return tuple(shlex.split(command))


class Ground(StrEnum):
    """What a proof stands on."""

    PROCESSES = "processes"
    """Nothing but processes on this machine."""
    MACHINES = "machines"
    """Machines that it makes and removes itself."""
    NEW_LAB = "new-lab"
    """No lab yet: it starts one, and leaves it standing."""
    LAB = "lab"
    """A standing lab of this checkout."""


class Proof(BaseModel):
    """One statement that `make test` does not make each time, and how it is proven."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(pattern=r"[a-z][a-z0-9-]*")
    owner: str = Field(description="The role, service or area that answers for it.")
    command: str = Field(description="Run at the root of a tree that holds nothing but the files.")
    files: Annotated[list[str], BeforeValidator(_flat)] = Field(
        description="What it depends on, as globs from the root: ** crosses folders, a leading ! takes away what stands before."
    )
    seconds: int = Field(gt=0, description="How long it takes, until a record knows better.")
    ground: Ground = Ground.PROCESSES
    wants: dict[str, str] = Field({}, description="Environment variables that must be set, and what each names.")

    @property
    def words(self) -> list[str]:
        """The command, word by word."""
        return list(_words(self.command))

    @property
    def tests(self) -> list[str]:
        """The files, tests and cases that the command hands to pytest."""
        program, *words = self.words
        return [word for word in words if word.startswith("tests/")] if program == "pytest" else []

    def has(self, test: str, *, slow: bool) -> bool:
        """Say whether a test (its node id, and whether it is marked slow) is one that the command runs."""
        file, _, inside = test.partition("::")
        for word in self.tests:
            path, _, part = word.partition("::")
            here = file == path or (not part and file.startswith(f"{path.rstrip('/')}/"))
            if (
                here
                and (slow or "slow" not in self.words)
                and (not part or re.match(rf"{re.escape(part)}(?![^\[:])", inside))
            ):
                return True
        return False

    @property
    def lacks(self) -> str:
        """What this machine lacks for it; empty if nothing."""
        return "; ".join(f"{name} is not set: {what}" for name, what in self.wants.items() if not os.environ.get(name))

    @property
    def on_lab(self) -> bool:
        """Whether it shares a lab with others."""
        return self.ground in {Ground.NEW_LAB, Ground.LAB}

    @cached_property
    def _rules(self) -> list[tuple[bool, re.Pattern[str]]]:
        return [(not glob.startswith("!"), pattern(glob.removeprefix("!"))) for glob in self.files]

    def covers(self, path: str) -> bool:
        """Say whether a file is one that it depends on: the last glob that matches decides."""
        return next((wanted for wanted, rule in reversed(self._rules) if rule.fullmatch(path)), False)


def pattern(glob: str) -> re.Pattern[str]:
    """Return what a glob means: * and ? stay in a folder, ** crosses folders, {a,b} is either."""
    parts = {"**/": r"(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]", "{": "(?:", "}": ")", ",": "|"}
    return re.compile("".join(parts.get(part, re.escape(part)) for part in re.split(r"(\*\*/|\*\*|[*?{},])", glob)))


class Tree:
    """The files of a checkout, as they are when they are first asked for: what git tracks, and what is new and not ignored.

    Parameters
    ----------
    root
        The checkout.
    files
        Their paths from the root, where they are not git's.
    """

    def __init__(self, root: Path = ROOT, files: list[str] | None = None) -> None:
        self.root = root
        self._digests: dict[str, bytes] = {}
        if files is not None:
            self.files = files

    @cached_property
    def files(self) -> list[str]:
        """Paths from the root, sorted."""
        command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        listed = subprocess.run(command, cwd=self.root, capture_output=True, text=True, check=True).stdout
        return sorted({path for path in listed.split("\0") if path and (self.root / path).is_file()})

    def of(self, proof: Proof) -> list[str]:
        """Return the files that a proof depends on."""
        return [path for path in self.files if proof.covers(path)]

    def digest(self, proof: Proof) -> str:
        """Return the digest of a proof's command and of the content of its files."""
        digest = hashlib.sha256(f"{proof.command}\0{proof.ground}\n".encode())
        for path in self.of(proof):
            digest.update(f"{path}\0".encode() + self._digest(path))
        return digest.hexdigest()[:16]

    def _digest(self, path: str) -> bytes:
        if path not in self._digests:
            file = self.root / path
            runs = file.stat().st_mode & 0o100
            self._digests[path] = hashlib.sha256(bytes([bool(runs)]) + file.read_bytes()).digest()
        return self._digests[path]


class Catalogue(BaseModel):
    """All proofs, in the order in which those that share a lab run."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sets: dict[str, Any] = Field(description="Lists of globs that several proofs name.")
    proofs: list[Proof]

    @classmethod
    def load(cls, file: Path = FILE) -> Catalogue:
        """Read the file of proofs."""
        return cls.model_validate(yaml.safe_load(file.read_text()))

    def of(self, test: str, *, slow: bool) -> list[Proof]:
        """Return the proofs that run a test."""
        return [proof for proof in self.proofs if proof.has(test, slow=slow)]

    def find(self, names: list[str]) -> list[Proof]:
        """Return the proofs of these names.

        Raises
        ------
        SystemExit
            There is none of a name.
        """
        known = {proof.id: proof for proof in self.proofs}
        if unknown := [name for name in names if name not in known]:
            raise SystemExit(f"no proof {', '.join(unknown)}; there are {', '.join(known)}")
        return [known[name] for name in names]
