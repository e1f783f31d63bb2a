"""A page of Markdown, cut where a forge takes no more: no table, fence or fold is left open."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

_FENCE = re.compile(r" {0,3}(?P<run>`{3,}|~{3,})(?P<about>.*)$")
_DELIMITER = re.compile(r" {0,3}\|?[ :|-]*-[ :|-]*$")


@dataclass(frozen=True)
class _Open:
    """What is open behind a line.

    Parameters
    ----------
    fence
        The run of characters that closes a block of code; empty outside.
    folds
        How many ``<details>``.
    """

    fence: str = ""
    folds: int = 0

    def after(self, line: str) -> _Open:
        match = _FENCE.match(line)
        if self.fence:
            closes = match and match["run"].startswith(self.fence) and not match["about"].strip()
            return replace(self, fence="") if closes else self
        if match:
            return replace(self, fence=match["run"])
        return replace(self, folds=self.folds + line.count("<details") - line.count("</details>"))

    @property
    def closing(self) -> str:
        return (f"{self.fence}\n" if self.fence else "") + "</details>\n" * self.folds


def cut(page: str, limit: int, notice: str) -> str:
    """Return a page of at most `limit` characters: as it is, or its beginning with what is open closed, and `notice`.

    Parameters
    ----------
    page
        Markdown, with a newline at its end.
    limit
        How many characters the forge takes.
    notice
        Says where the rest is.
    """
    if len(page) <= limit:
        return page
    lines = page.splitlines(keepends=True)
    best, length, state = "", 0, _Open()
    for number, line in enumerate(lines[:-1]):
        state, length = state.after(line), length + len(line)
        end = f"{state.closing}\n{notice}\n"
        if length + len(end) > limit:
            break
        if not (line.lstrip().startswith("|") and _is_delimiter(lines[number + 1], state)):
            best = "".join(lines[: number + 1]) + end
    return best or f"{notice}\n"[:limit]


def _is_delimiter(line: str, state: _Open) -> bool:
    """Say whether a line makes the one before it the head of a table: the two are not parted."""
    return not state.fence and bool(_DELIMITER.match(line.rstrip("\n")))
