"""What a peer that is away looks like, whichever library reports it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import exc

from workloads.common import s3
from workloads.common.errors import AwayError, WorkloadError

AWAY = (
    *(exc.OperationalError, exc.InterfaceError, exc.InternalError),
    *(exc.PendingRollbackError, exc.ResourceClosedError, exc.DisconnectionError, exc.TimeoutError),
    *s3.AWAY,
)
"""What drivers of databases and clients of stores raise where the other side ends, is gone, or starts."""


@contextmanager
def asking(what: str) -> Iterator[None]:
    """Tell a peer that is away from one that refuses: other errors pass as they are.

    The cause decides: pandas and the Butler wrap what a driver raises into errors of their own.

    Raises
    ------
    AwayError
        If the peer is away: only it can say, once it is back, whether it has what was written last.
    """
    try:
        yield
    except WorkloadError:
        raise
    except Exception as error:
        if any(_is_away(cause) for cause in causes(error)):
            raise AwayError(f"{what}: away: {reason(error)}") from error
        raise


def reason(error: BaseException) -> str:
    """Return what the other side said: the first line of the innermost cause, not the statement around it."""
    *_, innermost = causes(error)
    return next(iter(str(innermost).splitlines()), type(innermost).__name__)[:300]


def _is_away(error: BaseException) -> bool:
    return isinstance(error, AWAY) or type(error) is exc.DatabaseError  # no kind: the server ended before it said one


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and what it was raised for, to the innermost."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
