"""What an operation tells while it runs, and what is left to say when it is over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from dpp.engine.values import mask

Verb = Literal[
    "same",
    "create",
    "update",
    "replace",
    "create-replacement",
    "delete-replaced",
    "delete",
    "read",
    "refresh",
    "forget",
]
Progress = Literal["planned", "running", "done", "failed"]
CHANGING: frozenset[str] = frozenset({"create", "update", "replace", "delete", "forget"})
"""Verbs that count as a change."""


@dataclass(frozen=True)
class Event:
    """One piece of news.

    Parameters
    ----------
    kind
        ``step``: a resource's step begins or ends; ``log``: a line of program or provider; ``checkpoint``: the state is
        on disk; ``outputs``: what the stack exports.
    urn
        The resource; may be empty for lines.
    verb
        What the step does.
    progress
        How far it is.
    message
        The line, or why the step failed.
    severity
        Of a line: ``debug``, ``info``, ``warning``, ``error``, or ``status`` for what a resource does at the moment.
    diff
        What changes: property to old and new value, secrets masked.
    seconds
        How long a finished step took.
    """

    kind: Literal["step", "log", "checkpoint", "outputs"]
    urn: str = ""
    verb: str = ""
    progress: str = ""
    message: str = ""
    severity: str = "info"
    diff: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    parent: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "diff", mask(self.diff))


Listener = Callable[[Event], None]


@dataclass
class Result:
    """How an operation ended.

    Parameters
    ----------
    operation
        ``preview``, ``up``, ``refresh`` or ``destroy``.
    stack
        Name of the stack.
    steps
        The last event of each resource's step, in order.
    outputs
        What the stack exports, secrets marked and open.
    errors
        What went wrong; empty if nothing did.
    """

    operation: str
    stack: str
    steps: list[Event] = field(default_factory=list)
    outputs: dict[str, Any] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    seconds: float = 0.0
    engine: str = "dpp"

    def note(self, event: Event) -> None:
        """Remember how a step ended."""
        if event.kind == "step" and event.progress != "running":
            foreseen = (event.urn, event.verb, "planned")
            self.steps = [step for step in self.steps if (step.urn, step.verb, step.progress) != foreseen]
            self.steps.append(event)

    @property
    def ok(self) -> bool:
        """Whether everything was done."""
        return not self.errors

    @property
    def counts(self) -> dict[str, int]:
        """Number of resources by verb; failed ones under ``failed``."""
        return dict(Counter("failed" if step.progress == "failed" else step.verb for step in self.steps))

    @property
    def changes(self) -> int:
        """Number of resources that changed, or would."""
        return sum(1 for step in self.steps if step.verb in CHANGING and step.progress != "failed")

    def as_json(self) -> dict[str, Any]:
        """Return the result for programs, secrets masked."""
        return {
            **{
                key: getattr(self, key) for key in ("operation", "stack", "ok", "engine", "changes", "counts", "errors")
            },
            "seconds": round(self.seconds, 3),
            "outputs": mask(self.outputs),
            "steps": [_step(step) for step in self.steps],
        }


def _step(event: Event) -> dict[str, Any]:
    return {
        key: value
        for key, value in asdict(event).items()
        if value not in ("", {}, 0.0) and key not in {"kind", "severity"}
    }
