"""What somebody orders of a change, and what is reported to them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from pydantic import Field

from dpp.model.types import Model
from dpp.operations.change.hands import Hands
from dpp.operations.change.live import LivePreviewer
from dpp.operations.change.records import Outcome
from dpp.operations.change.sides import Sides, Workshop
from dpp.operations.change.who import Who


class Report(Model):
    """What came of applying a change, or of going back from it."""

    change: str
    environment: str
    result: Literal["applied", "gone back from", "aborted", "refused", "halted", "stuck"]
    refusals: tuple[str, ...] = Field(default=(), description="Why it was not begun, or not continued: all reasons.")
    why: str = Field(default="", description="Why it went back, or cannot; how far it came, where it is halted.")
    remedy: str = Field(default="", description="What a person has to do.")
    sites: tuple[str, ...] = Field(default=(), description="Those that it touches.")
    done: tuple[str, ...] = Field(default=(), description="Where it is halted: stacks to which the change was applied.")
    left: tuple[str, ...] = Field(default=(), description="Where it is halted: those to which it was not.")
    outcome: Outcome | None = None


@dataclass(frozen=True)
class Order:
    """That somebody wants a change applied.

    Parameters
    ----------
    workshop
        Of the checkout that has the record and both commits.
    change
        Id or name of the record.
    environment
        Where; may be left out where the record has one plan alone.
    who
        Who wants it.
    now
        The clock.
    tell
        Is told what is done.
    hands
        What does it, instead of the commands of both sides.
    quiet
        Whether long steps show no progress.
    """

    workshop: Workshop
    change: str
    environment: str
    who: Who
    now: Callable[[], datetime]
    tell: Callable[[str], None]
    hands: Callable[[LivePreviewer, Sides], Hands] | None = None
    quiet: bool = True
