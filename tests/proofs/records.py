"""Which proofs were green, for which content (records.txt), and so what is owed."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from proofs.catalogue import Catalogue, Proof, Tree

FILE = Path(__file__).with_name("records.txt")
"""One line for each proof: its id, the digest of what it was run on, its seconds, how it ended. Committed, sorted by id."""


LAB_SECONDS = 600
"""What a lab takes to come and go: the first proof that needs one pays it."""


class End(StrEnum):
    """How a proof ended."""

    GREEN = "green"
    RED = "red"
    UNSTEADY = "unsteady"
    """Green at a second attempt at the same content: still owed, until the content is mended or the cause is known."""


@dataclass(frozen=True)
class Record:
    """How a proof ended last.

    Parameters
    ----------
    digest
        Of its command and files.
    seconds
        How long it took.
    end
        How it ended.
    """

    digest: str
    seconds: int
    end: End


@dataclass(frozen=True)
class Owed:
    """A proof that is owed.

    Parameters
    ----------
    proof
        Which.
    seconds
        What it will take, by its last record or its declaration.
    why
        Why it is owed.
    """

    proof: Proof
    seconds: int
    why: str

    def as_row(self) -> dict[str, object]:
        """Return it as plain values."""
        proof = self.proof
        row = {"id": proof.id, "owner": proof.owner, "ground": proof.ground, "seconds": self.seconds, "why": self.why}
        return row | ({"lacks": proof.lacks} if proof.lacks else {})

    def __str__(self) -> str:
        """Return it as a line for people."""
        ground = ", on a lab" if self.proof.on_lab else ""
        lacks = f"; cannot be proven here: {self.proof.lacks}" if self.proof.lacks else ""
        return f"{self.seconds:6d} s  {self.proof.id} ({self.proof.owner}{ground}): {self.why}{lacks}"


def statement(owed: list[Owed]) -> list[str]:
    """Return what is owed, line by line, with the minutes of all of it."""
    if not owed:
        return ["owed: nothing"]
    lab = LAB_SECONDS if any(one.proof.on_lab for one in owed) else 0
    minutes = (sum(one.seconds for one in owed) + lab) / 60
    return [f"owed: {len(owed)} proofs, {minutes:.0f} minutes by make prove", *map(str, owed)]


class Records:
    """The committed records.

    Parameters
    ----------
    file
        Where they stand.
    """

    def __init__(self, file: Path = FILE) -> None:
        self._file = file

    def read(self) -> dict[str, Record]:
        """Return the record of each proof that has one."""
        rows = [line.split() for line in self._file.read_text().splitlines()] if self._file.exists() else []
        return {name: Record(digest, int(seconds), End(end)) for name, digest, seconds, end in rows}

    def add(self, proof: Proof, digest: str, seconds: float, *, green: bool) -> End:
        """Record how a proof ended, and return it."""
        known = self.read()
        last = known.get(proof.id)
        stained = last is not None and last.digest == digest and last.end is not End.GREEN
        end = (End.UNSTEADY if stained else End.GREEN) if green else End.RED
        known[proof.id] = Record(digest, max(1, round(seconds)), end)
        draft = self._file.with_suffix(".partial")
        draft.write_text(
            "".join(f"{name} {one.digest} {one.seconds} {one.end}\n" for name, one in sorted(known.items()))
        )
        draft.replace(self._file)
        return end

    def seconds(self, proof: Proof) -> int:
        """Return how long a proof takes, as far as is known."""
        record = self.read().get(proof.id)
        return record.seconds if record and record.end is not End.RED else proof.seconds

    def owed(self, catalogue: Catalogue, tree: Tree) -> list[Owed]:
        """Return what is owed: the cheapest first, and those that share a lab at the end, in the order of the catalogue."""
        records, found = self.read(), []
        for proof in catalogue.proofs:
            record = records.get(proof.id)
            if record is None:
                why = "never proven"
            elif record.digest != tree.digest(proof):
                why = "its files have changed"
            elif record.end is not End.GREEN:
                why = f"{record.end} on these files"
            else:
                continue
            found.append(Owed(proof, self.seconds(proof), why))
        return sorted(found, key=lambda one: (one.proof.on_lab, 0 if one.proof.on_lab else one.seconds))
