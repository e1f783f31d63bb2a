"""What the time of day refuses of a change: its window, observing nights and freezes, asked when it begins and before each stack."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from dpp.operations.change import freezes
from dpp.operations.change.freezes import Freeze
from dpp.operations.change.rules import Rules
from dpp.operations.change.windows import Telescopes, observing


@dataclass(frozen=True)
class Times:
    """When a change of an environment may be worked on.

    Parameters
    ----------
    environment
        Where.
    kind
        Of the change.
    rules
        Those of the base.
    window
        Of the plan, as the rules name it; empty where they judge nothing.
    telescopes
        Those of the environment.
    declared
        Reads the freezes as they are declared by now.
    now
        The clock.
    """

    environment: str
    kind: Literal["normal", "standard", "emergency"]
    rules: Rules
    window: str
    telescopes: Telescopes
    declared: Callable[[], Sequence[Freeze]]
    now: Callable[[], datetime]

    def refusals(self, sites: Collection[str]) -> tuple[str, ...]:
        """Return why nothing may be done to these sites now, a sentence each."""
        now = self.now()
        passes = self.rules.emergency_passes if self.kind == "emergency" else ()
        found: list[str] = []
        if self.window and "window" not in passes:
            found.append(self.rules.windows[self.window].refusal(self.window, now, self.telescopes))
        if "observing" not in passes:
            found += self._observing(sites, now)
        found += freezes.refusals(self.declared(), self.environment, sites, self.kind, now)
        return tuple(one for one in found if one)

    def _observing(self, sites: Collection[str], now: datetime) -> Iterator[str]:
        for site in sorted(set(sites) & self.telescopes.keys()):
            yield observing(site, self.telescopes[site], now)
