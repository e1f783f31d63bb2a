"""What an operation tells while it runs, and what is left to say when it is over."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal

CHANGING: Final = frozenset({"create", "update", "replace", "delete", "forget"})
"""Verbs that count as a change."""
SIGNATURE: Final = "4dabf18193072939515e22adb298388d"
SECRET: Final = "1b47061264138c4ac30d75fd1eb44270"  # noqa: S105 - the protocol's mark of secrets
UNKNOWN: Final = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
_UNSAID: Final = frozenset({"kind", "stack", "severity"})
_VERBS: Final = {"discard": "forget", "discard-replaced": "delete-replaced", "read-replacement": "read"}
_WRAPPED = re.compile(r"^Unexpected <class '[^']+'>: ")
_TRACEBACK = re.compile(r":?\n {2}File \".*", re.DOTALL)
_PARTLY = re.compile(r"^\s*\* (.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Event:
    """One piece of news.

    Parameters
    ----------
    kind
        ``step``: a resource's step begins or ends; ``log``: a line of program or provider.
    stack
        The stack that it is about.
    urn
        The resource; may be empty for lines.
    verb
        What the step does.
    progress
        How far it is: ``planned``, ``running``, ``done``, ``failed``.
    message
        The line, or why the step failed.
    severity
        Of a line: ``debug``, ``info``, ``warning``, ``error``, or ``status`` for what a resource does at the moment.
    diff
        What changes: property to old and new value, secrets masked.
    seconds
        How long a finished step took.
    """

    kind: Literal["step", "log"]
    stack: str = ""
    urn: str = ""
    verb: str = ""
    progress: str = ""
    message: str = ""
    severity: str = "info"
    diff: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    parent: str = ""


Listener = Callable[[Event], None]


def ignore(event: Event) -> None:
    """Listen to nothing."""
    del event


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
        What the stack exports, secrets masked.
    errors
        What went wrong; empty if nothing did.
    """

    operation: str
    stack: str
    steps: list[Event] = field(default_factory=list)
    outputs: dict[str, Any] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    seconds: float = 0.0

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
        """Return the result for programs."""
        return {
            **{key: getattr(self, key) for key in ("operation", "stack", "ok", "changes", "counts", "errors")},
            "seconds": round(self.seconds, 3),
            "outputs": self.outputs,
            "steps": [_said(step) for step in self.steps],
        }


def _said(event: Event) -> dict[str, Any]:
    return {key: value for key, value in asdict(event).items() if value not in ("", {}, 0.0) and key not in _UNSAID}


class Reader:
    """Turns the engine's own events into ours, and into the result.

    Parameters
    ----------
    result
        Where steps, outputs and errors are noted.
    listener
        Who is told.
    clock
        Tells seconds.
    """

    def __init__(self, result: Result, listener: Listener, clock: Callable[[], float]) -> None:
        self._result, self._listener, self._clock = result, listener, clock
        self._begun: dict[tuple[str, str], float] = {}
        self._reasons: dict[str, str] = {}

    def read(self, event: Mapping[str, Any]) -> None:
        """Take one event of the engine."""
        if found := event.get("resourcePreEvent"):
            self._begins(found["metadata"], planned=bool(found.get("planning")))
        elif (found := event.get("resOutputsEvent")) and not found.get("planning"):
            self._ends(found["metadata"])
        elif found := event.get("resOpFailedEvent"):
            self._fails(found["metadata"])
        elif found := event.get("diagnosticEvent"):
            self._says(found)
        elif found := event.get("stdoutEvent"):
            self._tell(Event("log", message=str(found["message"]).rstrip()))
        elif found := event.get("errorEvent"):
            self._result.errors.append(str(found["error"]))

    def _begins(self, step: Mapping[str, Any], *, planned: bool) -> None:
        verb = _VERBS.get(step["op"], str(step["op"]))
        if planned:
            self._note(self._step(step, verb, "planned", diff=differences(step)))
        elif _is_custom(step):
            self._begun[step["urn"], verb] = self._clock()
            self._tell(self._step(step, verb, "running"))
        else:  # nothing is done to it, and nothing tells that it is over
            self._note(self._step(step, verb, "done"))

    def _ends(self, step: Mapping[str, Any]) -> None:
        if step["type"] == "pulumi:pulumi:Stack":
            self._result.outputs = mask((step.get("new") or {}).get("outputs") or {})
        if not _is_custom(step):
            return
        verb = _VERBS.get(step["op"], str(step["op"]))
        if (step["urn"], verb) in self._begun:
            seconds = self._clock() - self._begun.pop((step["urn"], verb))
            self._note(self._step(step, verb, "done", diff=differences(step), seconds=seconds))
        elif verb == "delete":  # a refresh found nothing in its place
            self._note(self._step(step, "forget", "done", message="its object is gone"))
        else:
            found = drift(step) if verb == "update" else {}
            self._note(self._step(step, verb, "done", message="drifted" * (verb == "update"), diff=found))

    def _fails(self, step: Mapping[str, Any]) -> None:
        verb = _VERBS.get(step["op"], str(step["op"]))
        self._note(self._step(step, verb, "failed", message=self._reasons.get(step["urn"], "")))

    def _says(self, found: Mapping[str, Any]) -> None:
        severity = {"info#err": "info"}.get(found["severity"], str(found["severity"]))
        urn, message = str(found.get("urn", "")), sentence(str(found["message"]))
        if severity == "error":
            self._reasons[urn] = message
            whose = urn.rpartition("::")[2] if urn and not urn.endswith(f"-{self._result.stack}") else ""
            said = f"{whose}: {message}" if whose and not message.startswith(whose) else message
            if said not in self._result.errors:
                self._result.errors.append(said)
            return  # shown with the step, or at the end
        self._tell(Event("log", urn=urn, message=message, severity="status" if found.get("ephemeral") else severity))

    def _step(self, step: Mapping[str, Any], verb: str, progress: str, **more: Any) -> Event:
        parent = str((step.get("new") or step.get("old") or {}).get("parent", ""))
        return Event("step", self._result.stack, step["urn"], verb, progress, parent=parent, **more)

    def _note(self, event: Event) -> None:
        self._result.steps.append(event)
        self._listener(event)

    def _tell(self, event: Event) -> None:
        self._listener(Event(**{**asdict(event), "stack": self._result.stack}))


def _is_custom(step: Mapping[str, Any]) -> bool:
    return bool((step.get("new") or step.get("old") or {}).get("custom"))


def sentence(text: str) -> str:
    """Return what is meant by an error: without the engine's and the SDK's wrapping, and without a traceback."""
    reasons = _PARTLY.findall(text) if "error occurred:" in text or "errors occurred:" in text else [text]
    return "; ".join(_TRACEBACK.sub("", _WRAPPED.sub("", reason)).strip() for reason in reasons)


def differences(step: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an update or replacement changes: path to old and new value."""
    old, new = step.get("old") or {}, step.get("new") or {}
    if step["op"] not in {"update", "replace"}:
        return {}
    found: dict[str, Any] = {}
    for name in step.get("diffs") or step.get("detailedDiff") or ():
        before = old.get("outputs") if name in (old.get("outputs") or {}) else old.get("inputs")
        found |= dict(_walk((before or {}).get(name, _MISSING), (new.get("inputs") or {}).get(name, _MISSING), name))
    return found


def drift(step: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a refresh found different from the state."""
    old, new = ((step.get(side) or {}).get("outputs") or {} for side in ("old", "new"))
    return dict(_walk(old, new, ""))


_MISSING: Final = object()


def _walk(old: Any, new: Any, path: str) -> Iterator[tuple[str, Any]]:
    if old == new:
        return
    if isinstance(old, dict) and isinstance(new, dict) and SIGNATURE not in old | new:
        for key in sorted(old.keys() | new.keys()):
            inner = f"{path}.{key}" if path else key
            yield from _walk(old.get(key, _MISSING), new.get(key, _MISSING), inner)
    else:
        yield path, {side: mask(value) for side, value in (("old", old), ("new", new)) if value is not _MISSING}


def mask(value: Any) -> Any:
    """Return `value` as people may see it: ``[secret]`` and ``[unknown]`` in place of what is hidden or not known yet."""
    if isinstance(value, Mapping):
        return "[secret]" if value.get(SIGNATURE) == SECRET else {key: mask(item) for key, item in value.items()}
    if isinstance(value, list):
        return [mask(item) for item in value]
    return "[unknown]" if value == UNKNOWN else value
