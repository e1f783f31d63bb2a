"""Mistakes in declarations, gathered so that one run reports them all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dpp.model.errors import FatalError


@dataclass(frozen=True)
class Problem:
    """One mistake.

    Parameters
    ----------
    file
        Path from the root of the repository.
    line
        Line in the file, where known.
    subject
        The object: keys joined by slashes, such as ``dpp_circuits/summit-base-primary/a/host``.
    found, expected, remedy
        What stands there, what would be right, what to do.
    """

    file: str
    line: int | None
    subject: str
    found: str
    expected: str
    remedy: str

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{place}: {self.subject}: found {self.found}; expected {self.expected}; {self.remedy}"


@dataclass(frozen=True)
class Finding:
    """A mistake seen by a check, which knows keys but neither files nor lines.

    Parameters
    ----------
    path
        Keys from the variable down to the value at fault.
    about
        Other objects that the mistake is about; it is dropped when one of them was itself refused.
    """

    path: tuple[str, ...]
    found: str
    expected: str
    remedy: str
    about: tuple[str, ...] = ()


class DeclarationError(FatalError):
    """Declarations are inconsistent; `problems` has every mistake found."""

    def __init__(self, subject: str, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        noun = "problem" if len(self.problems) == 1 else "problems"
        super().__init__(subject, f"{len(self.problems)} {noun}", "consistent declarations", "correct the lines above")

    def __str__(self) -> str:
        return "\n".join([*map(str, self.problems), f"{self.subject}: {self.found}"])
