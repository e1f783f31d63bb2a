"""The declared rules by which a plan is judged: ``changes/rules.yml``."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable
from typing import Any, Literal

from pydantic import Field

from dpp.model.errors import FatalError
from dpp.model.types import Kebab, Model, Positive
from dpp.operations.change.declarations import parsed
from dpp.operations.change.findings import Judgement, Noun, Plan
from dpp.operations.change.windows import Window

FILE = "changes/rules.yml"


class Condition(Model):
    """When a rule applies: all that is named must hold."""

    deploys: bool | None = None
    environments: tuple[str, ...] = Field(default=(), description="Names, with * for any.")
    verbs: tuple[str, ...] = Field(default=(), description="One of these is done to a resource.")
    kinds: tuple[str, ...] = Field(default=(), description="A step is about a resource of such a type, with * for any.")
    nouns: tuple[str, ...] = Field(default=(), description="Such a thing is declared otherwise.")
    tiers: tuple[str, ...] = Field(default=(), description="A service of such a tier is touched directly.")
    rights_grow: bool | None = None
    away_seconds: int | None = Field(
        default=None, description="Something is away for at least so long, or nobody knows."
    )
    hosts: int | None = Field(default=None, description="At least so many hosts are converged.")
    errors: bool | None = Field(default=None, description="Something of the plan cannot be told.")


class Rule(Model):
    """What follows where its condition holds."""

    name: Kebab
    when: Condition
    because: str = Field(min_length=10, description="Why, as reviewers read it.")
    risk: str
    approvals: dict[str, int] = Field(default={}, description="How many of each role.")
    window: str = "any-time"
    way_back: str = ""


class Due(Model):
    """Within how many days something is owed."""

    assessment: Positive = Field(description="Of what was applied: whether it did what it was for.")
    retrospective: Positive = Field(description="Of an emergency, from its record on.")


class Rules(Model):
    """All rules, and the words that they use."""

    risks: tuple[str, ...] = Field(description="From the least to the greatest.")
    windows: dict[Kebab, Window] = Field(description="From the widest to the narrowest.")
    away: dict[str, int] = Field(description="Seconds for which a thing is away, by `verb name` or `verb`.")
    kinds: dict[Literal["normal", "standard", "emergency"], str] = Field(
        description="Of changes, and what each is for."
    )
    standard: dict[Kebab, StandardPattern] = Field(default={}, description="Patterns that are authorised beforehand.")
    emergency_roles: tuple[str, ...] = Field(description="Who may declare an emergency.")
    emergency_passes: tuple[Literal["window", "observing"], ...] = Field(
        default=(), description="What does not hold an emergency up; each freeze says for itself whether it does."
    )
    due_days: Due
    rules: tuple[Rule, ...]

    @classmethod
    def parse(cls, text: str, origin: str) -> Rules:
        """Read rules.

        Raises
        ------
        FatalError
            If they are no rules, or name a risk or window that is not declared.
        """
        found = parsed(cls, text, origin, "rules as docs/operators/changes.md says")
        for rule in found.rules:
            if rule.risk not in found.risks or rule.window not in found.windows:
                raise FatalError(f"{origin}: rule {rule.name}", f"risk {rule.risk}, window {rule.window}", "declared ones", "correct it")  # fmt: skip
        return found

    def judge(self, plan: Plan, nouns: Iterable[Noun]) -> Judgement:
        """Return what the rules say of a plan: the greatest risk, all approvals, the narrowest window, every way back."""
        about = [one for one in nouns if not one.environments or plan.environment in one.environments]
        apply = [rule for rule in self.rules if _holds(rule.when, plan, about)]
        risk = max((rule.risk for rule in apply), key=self.risks.index, default=self.risks[0])
        windows = [*self.windows]
        window = max((rule.window for rule in apply), key=windows.index, default=windows[0])
        approvals: dict[str, int] = {}
        for rule in apply:
            approvals |= {role: max(count, approvals.get(role, 0)) for role, count in rule.approvals.items()}
        return Judgement(
            risk=risk,
            rules=tuple(f"{rule.name} ({rule.risk}): {rule.because}" for rule in apply),
            approvals=dict(sorted(approvals.items())),
            window=window,
            window_text=self.windows[window].text,
            way_back=tuple(dict.fromkeys(rule.way_back for rule in apply if rule.way_back)),
        )


class StandardPattern(Model):
    """A change that is authorised beforehand, within limits."""

    about: str = Field(min_length=10)
    nouns: tuple[str, ...] = Field(description="It declares nothing but these otherwise.")
    verbs: tuple[str, ...] = Field(description="It does nothing but this to resources.")
    risk: str = Field(description="At most.")
    steps: int = Field(description="At most.")


def _any(names: Iterable[str], patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatch(name, pattern) for name in names for pattern in patterns)


def _holds(when: Condition, plan: Plan, nouns: list[Noun]) -> bool:
    steps = plan.steps
    away = [effect.seconds for effect in plan.effects if effect.verb not in {"converges", "is made"}]
    hosts = sum(len(one.places) for one in plan.effects if one.verb == "converges")
    troubled = bool(plan.errors) or any(one.errors for one in plan.previews)
    checks: list[tuple[Any, bool]] = [
        (when.deploys, plan.deploys == when.deploys),
        (when.environments, _any([plan.environment], when.environments)),
        (when.verbs or when.kinds, any(_is_of(when, one.verb, one.kind) for one in steps)),
        (when.nouns, _any([one.kind for one in nouns], when.nouns)),
        (when.tiers, any(one.direct and one.tier in when.tiers for one in plan.services)),
        (when.rights_grow, bool(plan.gained) == when.rights_grow),
        (when.away_seconds, any(one is None or one >= (when.away_seconds or 0) for one in away)),
        (when.hosts, hosts >= (when.hosts or 0)),
        (when.errors, troubled == when.errors),
    ]
    return all(holds for asked, holds in checks if asked not in (None, ()))


def _is_of(when: Condition, verb: str, kind: str) -> bool:
    return (not when.verbs or verb in when.verbs) and (not when.kinds or _any([kind], when.kinds))


Rules.model_rebuild()
