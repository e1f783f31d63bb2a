"""What can go wrong in a workload. Whether the same work may be tried again is a type, never a guess from a message."""

from __future__ import annotations


class WorkloadError(Exception):
    """An error whose text names the object, what was found, what was expected and what happens next."""


class RetriableError(WorkloadError):
    """The same call may succeed later: a peer that is away, a time-out. Nothing outside was changed."""


class AwayError(RetriableError):
    """A peer does not answer at all: it is waited for as long as that takes, because nothing can be done without it."""


class UnknownSchemaError(RetriableError):
    """The registry does not know a schema's id yet: a schema may come later than the first record that was written with it."""


class NonRetriableError(WorkloadError):
    """Repeating cannot help or could do harm: bad input, rows that a database refuses."""


class FencedError(WorkloadError):
    """A client of Kafka cannot go on: another has its place, or its transaction can be neither committed nor aborted.

    It is nobody's message that is wrong; the process ends, and the next one begins at the last commit.
    """


class ContractError(NonRetriableError):
    """A workload asks for what its contract does not name; only a change of `services/` or of its code can help."""

    def __init__(self, subject: str, found: str, expected: str, principal: str) -> None:
        remedy = f"declare it in the contract of {principal} in services/, or correct the code"
        super().__init__(f"{subject}: {found}; expected {expected}; {remedy}")
