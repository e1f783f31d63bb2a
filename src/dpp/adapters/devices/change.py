"""What a change does to a configuration."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pydantic import BaseModel, ConfigDict, Field


class Change(BaseModel):
    """Lines that go and lines that come, each with the sections that it stands in."""

    model_config = ConfigDict(frozen=True)

    delete: tuple[str, ...] = ()
    add: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.delete or self.add)

    @classmethod
    def of(cls, delete: Iterable[str], add: Iterable[str]) -> Change:
        """Read indented lines, where a section's line stands before each line in it."""
        return cls(delete=tuple(_flat(delete)), add=tuple(_flat(add)))

    def text(self) -> str:
        """Return the change as people read it: a minus or a plus and a line each."""
        return "\n".join([*(f"- {line}" for line in self.delete), *(f"+ {line}" for line in self.add)])


class Applied(BaseModel):
    """A change that was made, checked and confirmed."""

    model_config = ConfigDict(frozen=True)

    host: str
    change: Change
    established: tuple[str, ...] = Field(description="Neighbours whose session is up.")
    waiting: tuple[str, ...] = Field(description="Neighbours whose session was down before and is not up yet.")


def _flat(lines: Iterable[str]) -> Iterator[str]:
    stack: list[tuple[int, str]] = []
    for line in [*lines, ""]:
        depth = len(line) - len(line.lstrip())
        if stack and (not line or depth <= stack[-1][0]):
            yield " / ".join(text for _, text in stack)
        while stack and stack[-1][0] >= depth:
            stack.pop()
        stack.append((depth, line.strip()))
