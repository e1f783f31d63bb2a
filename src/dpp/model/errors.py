"""What can go wrong, as types: the message names the object, what was found, what was expected and what to do next.

Whether an operation may be tried again is a type (`RetriableError`), never a guess from a message.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(eq=False)
class DppError(Exception):
    """An error that a person can act on.

    Parameters
    ----------
    subject
        The object at fault: a file, a host, a circuit, a resource.
    found
        What was observed.
    expected
        What would have been right.
    remedy
        The next step for the reader.
    """

    subject: str
    found: str
    expected: str = ""
    remedy: str = ""

    def __str__(self) -> str:
        parts = [f"{self.subject}: {self.found}"]
        if self.expected:
            parts.append(f"expected {self.expected}")
        if self.remedy:
            parts.append(self.remedy)
        return "; ".join(parts)


class RetriableError(DppError):
    """The same call may succeed later: an unreachable host, a busy lock, a time-out."""


class FatalError(DppError):
    """Repeating the call cannot help: wrong input, a refused configuration, a missing object."""


class UsageError(FatalError):
    """The command line or its arguments are wrong (exit code 2)."""
