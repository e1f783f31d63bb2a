"""Who and what judges a change: persons and rules of its base, never its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dpp.adapters.git import Git
from dpp.model.errors import FatalError
from dpp.operations.change.people import FILE as PEOPLE
from dpp.operations.change.people import People
from dpp.operations.change.rules import FILE as RULES
from dpp.operations.change.rules import Rules


@dataclass(frozen=True)
class Judges:
    """Persons and rules that were declared together.

    Parameters
    ----------
    people, rules
        What they are.
    """

    people: People
    rules: Rules

    @classmethod
    def in_tree(cls, root: Path) -> Judges:
        """Return those that a tree declares.

        Raises
        ------
        FatalError
            If it declares none, or not as they are to be declared.
        """

        def text(path: str) -> str | None:
            return (root / path).read_text() if (root / path).is_file() else None

        return cls._of(text, str(root))

    @classmethod
    def of_commit(cls, git: Git, commit: str) -> Judges:
        """Return those that a commit declares.

        Raises
        ------
        FatalError
            If it declares none, or not as they are to be declared.
        """
        return cls._of(lambda path: git.show(commit, path), commit[:12])

    @classmethod
    def _of(cls, text: Callable[[str], str | None], where: str) -> Judges:
        return cls(People.parse(_needed(text, PEOPLE, where), PEOPLE), Rules.parse(_needed(text, RULES, where), RULES))


def _needed(text: Callable[[str], str | None], path: str, where: str) -> str:
    content = text(path)
    if content is None:
        raise FatalError(path, f"not in {where}", "a base that says who may authorise what", "compare with a later commit")  # fmt: skip
    return content


def judged_by(commit: str) -> str:
    """Return the words by which a page names what judged it."""
    return f"{RULES} of {commit[:12]}"
