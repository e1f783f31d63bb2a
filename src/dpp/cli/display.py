"""What people see of an operation: lines while it works, a tree of what would change, and how it ended."""

from __future__ import annotations

import difflib
import json
import shutil
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any, Final, Self, TextIO

from dpp.adapters.pulumi.events import Event, Result
from dpp.model.units import UNITS

_SIGNS: Final = {
    "create": ("+", "32"),
    "update": ("~", "33"),
    "replace": ("±", "35"),
    "delete-replaced": ("-", "31"),
    "delete": ("-", "31"),
    "forget": ("-", "31"),
    "read": ("<", "36"),
    "refresh": ("?", "36"),
    "same": (" ", "0"),
}
_DONE: Final = {
    "create": "created",
    "update": "updated",
    "replace": "replaced",
    "delete-replaced": "deleted to be replaced",
    "delete": "deleted",
    "forget": "gone",
    "read": "read",
    "same": "unchanged",
}
_DOING: Final = {
    "create": "creating",
    "update": "updating",
    "replace": "creating replacement",
    "delete-replaced": "deleting to replace",
    "delete": "deleting",
    "forget": "forgetting",
}
_COUNTED: Final = ("create", "update", "replace", "delete", "forget")
_REMIND_SECONDS: Final = 15.0
_SLOW_SECONDS: Final = 2.0
_DIFF_LINES: Final = 16
_UNIT_WIDTH: Final = max(map(len, UNITS))


def short(urn: str) -> tuple[str, str]:
    """Return the last part of a resource's type, and its name."""
    _, _, chain, name = urn.split("::", 3)
    return chain.rpartition("$")[2].rpartition(":")[2], name


class Display:
    """Prints what happens as it happens.

    Parameters
    ----------
    stream
        Where to; by default standard output.
    full
        Whether to show whole differences and debugging lines.
    several
        Whether several stacks are worked on at once: every line then says whose it is.
    """

    def __init__(self, stream: TextIO | None = None, *, full: bool = False, several: bool = False) -> None:
        self._stream = stream = stream or sys.stdout
        self._full, self._several = full, several
        self._terminal = stream.isatty()
        self._running: dict[tuple[str, str], float] = {}
        self._status: dict[str, tuple[str, float]] = {}
        self._guard = threading.RLock()
        self._ended = threading.Event()
        self._reminder = threading.Thread(target=self._remind, daemon=True)
        self._began = time.monotonic()

    def __enter__(self) -> Self:
        self._reminder.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._reminder.join()

    def __call__(self, event: Event) -> None:
        """Show one event."""
        with self._guard:
            if event.kind == "step":
                self._step(event)
            elif event.severity == "status":
                self._note_status(event)
            elif event.kind == "log" and event.message and (event.severity != "debug" or self._full):
                self._log(event)

    def _note_status(self, event: Event) -> None:
        """Keep what a resource does for the last line; without a terminal, print it now and then."""
        _, shown = self._status.get(event.urn, ("", 0.0))
        now = time.monotonic()
        if not self._terminal and now - shown >= _REMIND_SECONDS:
            self._log(event)
            shown = now
        self._status[event.urn] = (event.message.strip(), shown)

    def _step(self, event: Event) -> None:
        key = (event.urn, event.verb)
        if event.progress == "running":
            self._running[key] = time.monotonic()
            if event.verb in _DOING:
                self._line(event, _DOING[event.verb])
        elif event.progress in {"done", "failed"}:
            self._running.pop(key, None)
            self._status.pop(event.urn, None)
            if event.progress == "failed":
                self._line(event, self._paint(f"failed: {event.message}", "31"))
            elif event.verb not in {"same", "read"} and (event.seconds or event.diff or event.message):
                word = event.message or _DONE.get(event.verb, event.verb)
                self._line(event, f"{word} {_seconds(event.seconds)}".rstrip())
                if event.verb == "update":
                    self._print(*self._differences(event, " " * 6))

    def _log(self, event: Event) -> None:
        colour = {"warning": "33", "error": "31"}.get(event.severity, "2")
        origin = f"{short(event.urn)[1]}: " if event.urn.count("::") == 3 and event.severity != "warning" else ""
        for line in event.message.splitlines():
            self._print(self._paint(f"      {self._whose(event)}{origin}{line}", colour))

    def _line(self, event: Event, words: str) -> None:
        kind, name = short(event.urn)
        sign, colour = _SIGNS.get(event.verb, ("*", "0"))
        clock = _clock(time.monotonic() - self._began)
        self._print(f"{clock} {self._whose(event)}{self._paint(sign, colour)} {kind} {self._paint(name, '1')}  {words}")

    def _whose(self, event: Event) -> str:
        """Return the unit, in a column of its own, where lines of several stacks stand between each other."""
        return f"{event.stack.partition('.')[2]:{_UNIT_WIDTH}} " if self._several else ""

    def _remind(self) -> None:
        """Say what runs: on a terminal in a last line every second, elsewhere in a line of its own now and then."""
        last = time.monotonic()
        while not self._ended.wait(1.0):
            with self._guard:
                now = time.monotonic()
                slow = sorted((now - began, urn) for (urn, _), began in self._running.items())
                text = ", ".join(self._working(urn, age) for age, urn in reversed(slow[-6:]) if age >= _SLOW_SECONDS)
                if self._terminal and text:
                    width = shutil.get_terminal_size().columns - 1
                    self._stream.write(f"\r\x1b[K{f'  … {text}'[:width]}\r")
                    self._stream.flush()
                elif text and now - last >= _REMIND_SECONDS:
                    self._print(f"{_clock(now - self._began)} … still at work: {text}")
                    last = now

    def _working(self, urn: str, age: float) -> str:
        status = self._status.get(urn, ("", 0.0))[0] if self._terminal else ""
        return f"{short(urn)[1]} {age:.0f} s" + (f" ({status})" if status else "")

    def finish(self, result: Result) -> None:
        """Show how an operation ended; a preview also shows its tree."""
        if result.operation == "preview" or any(step.progress == "planned" for step in result.steps):
            self._print(*self._tree(result))
        if result.outputs and result.ok and result.operation in {"preview", "up"}:
            self._print("Outputs", *(f"  {key}: {_brief(value)}" for key, value in sorted(result.outputs.items())))
        for error in result.errors:
            first, *rest = error.splitlines() or [""]
            self._print(self._paint(f"✗ {first}", "31"), *(f"  {line}" for line in rest))
        self._print(self._summary(result))

    def _summary(self, result: Result) -> str:
        planned = any(step.progress == "planned" for step in result.steps)
        counts = result.counts
        verbs = {
            "create": "to create",
            "update": "to update",
            "replace": "to replace",
            "delete": "to delete",
            "forget": "to forget",
        }
        words = verbs if planned else _DONE
        parts = [self._paint(f"{counts[verb]} {words[verb]}", _SIGNS[verb][1]) for verb in _COUNTED if counts.get(verb)]
        if counts.get("failed"):
            parts.append(self._paint(f"{counts['failed']} failed", "31"))
        if counts.get("same"):
            parts.append(f"{counts['same']} unchanged")
        nothing = "nothing there" if result.operation == "destroy" else "nothing to do"
        end = "" if result.ok else self._paint(" — not finished", "31")
        return f"{self._paint(result.stack, '1')} {result.operation}: {', '.join(parts) or nothing} ({result.seconds:.1f} s){end}"

    def _tree(self, result: Result) -> Iterator[str]:
        steps = [step for step in result.steps if step.verb != "read"]
        children: dict[str, list[Event]] = {}
        known = {step.urn for step in steps}
        for step in steps:
            children.setdefault(step.parent if step.parent in known and step.parent != step.urn else "", []).append(
                step
            )
        changing = {id(step) for step in steps if step.verb != "same"}

        def walk(parent: str, depth: int) -> Iterator[tuple[int, Event, bool]]:
            for step in children.get(parent, ()):
                below = list(walk(step.urn, depth + 1)) if step.verb != "delete-replaced" else []
                if id(step) in changing or any(shown for _, _, shown in below):
                    yield depth, step, True
                    yield from below

        for depth, step, _ in walk("", 0):
            yield from self._branch(depth, step)

    def _branch(self, depth: int, step: Event) -> Iterator[str]:
        kind, name = short(step.urn)
        sign, colour = _SIGNS.get(step.verb, ("*", "0"))
        note = {"replace": " (replace)", "delete-replaced": " (delete, to be replaced)"}.get(step.verb, "")
        note = self._paint(f" failed: {step.message}", "31") if step.progress == "failed" else note
        indent = "  " * depth
        yield f" {self._paint(sign, colour)} {indent}{kind} {self._paint(name, '1')}{note}"
        if step.verb in {"create", "update", "replace"} and step.progress != "failed":
            yield from self._differences(step, f"   {indent}    ")

    def _differences(self, event: Event, indent: str) -> Iterable[str]:
        for path, pair in sorted(event.diff.items()):
            old, new = pair.get("old"), pair.get("new")
            if isinstance(old, str) and isinstance(new, str) and "\n" in old + new:
                yield f"{indent}{path}:"
                yield from self._text_difference(old, new, indent + "  ")
            elif "old" not in pair:
                yield f"{indent}{path}: {_brief(new, self._full)}"
            elif "new" not in pair:
                yield f"{indent}{path}: {_brief(old, self._full)} → {self._paint('removed', '31')}"
            else:
                yield f"{indent}{path}: {_brief(old, self._full)} → {_brief(new, self._full)}"

    def _text_difference(self, old: str, new: str, indent: str) -> Iterator[str]:
        lines = list(difflib.unified_diff(old.splitlines(), new.splitlines(), lineterm="", n=2))[2:]
        shown = lines if self._full else lines[:_DIFF_LINES]
        for line in shown:
            yield indent + self._paint(line, {"+": "32", "-": "31"}.get(line[:1], "2"))
        if len(shown) < len(lines):
            yield f"{indent}… {len(lines) - len(shown)} more lines (--diff shows all)"

    def _paint(self, text: str, colour: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self._terminal and colour != "0" else text

    def _print(self, *lines: str) -> None:
        with self._guard:
            if self._terminal:
                self._stream.write("\r\x1b[K")
            self._stream.writelines(f"{line}\n" for line in lines)
            self._stream.flush()


def _brief(value: Any, full: bool = False) -> str:
    if value in ("[secret]", "[unknown]"):
        return str(value)
    text = json.dumps(value, ensure_ascii=False)
    return text if full or len(text) <= 100 else f"{text[:97]}…"


def _seconds(value: float) -> str:
    return f"{value:.1f} s" if value >= 0.05 else ""


def _clock(value: float) -> str:
    return f"{int(value) // 60:3d}:{int(value) % 60:02d}"
