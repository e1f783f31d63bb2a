"""Whether a change may be applied to an environment: signatures, roles, time and plan, each judged by the base's own word."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from dpp.adapters.signatures import sign, verified
from dpp.model.errors import FatalError
from dpp.operations.change.findings import Dossier, Noun, Plan
from dpp.operations.change.people import People
from dpp.operations.change.plan import digest_of, drifted
from dpp.operations.change.records import Approval, Planned, Record, statement
from dpp.operations.change.rules import Rules

NAMESPACE: Final = "dpp-change"
VALID_FOR: Final = timedelta(days=14)
_OPEN: Final = "open"


@dataclass(frozen=True)
class Verdict:
    """What is said of an approval, or of all of them.

    Parameters
    ----------
    valid
        Whether it counts.
    why
        A sentence: why not, or what it counts for.
    """

    valid: bool
    why: str


def approve(record: Record, environment: str, person: str, role: str, key: Path, people: People, plan: Plan, now: datetime) -> Record:  # fmt: skip
    """Return a record with an approval of somebody.

    Raises
    ------
    FatalError
        If the plan has drifted since it was recorded, or the approval would not count: it says why.
    """
    recorded = _recorded(record, environment)
    if moved := changed_parts(recorded, plan):
        raise FatalError(f"change {record.id}", f"its plan for {environment} has drifted: {'; '.join(moved)}", "the plan as recorded", f"look at it again, then dpp change new {record.name} --again")  # fmt: skip
    expires = (now + VALID_FOR).replace(microsecond=0)
    text = statement(record.id, environment, role, expires, recorded.digest)
    if refusal := _may_not(record, person, role, people):
        raise FatalError(f"approval of {person} as {role}", refusal, "a person who may", "ask somebody else")
    made = Approval(
        person=person, role=role, environment=environment, expires=expires, digest=recorded.digest, signature=sign(text, key, NAMESPACE),
    )  # fmt: skip
    verdict = judge(record, made, people, now)
    if not verdict.valid:
        raise FatalError(f"approval of {person} as {role}", verdict.why, f"a key that changes/people.yml has for {person}", f"sign with that, not {key}")  # fmt: skip
    others = tuple(
        one for one in record.approvals if (one.person, one.role, one.environment) != (person, role, environment)
    )
    return record.model_copy(update={"approvals": (*others, made)})


def judge(record: Record, approval: Approval, people: People, now: datetime) -> Verdict:
    """Say whether an approval counts.

    Parameters
    ----------
    people
        Those of the base of the change.
    now
        The time of the judgement.
    """
    recorded = record.plans.get(approval.environment)
    if refusal := _may_not(record, approval.person, approval.role, people):
        return Verdict(valid=False, why=refusal)
    if recorded is None or approval.digest != recorded.digest:
        return Verdict(valid=False, why=f"it is of another plan ({approval.digest[:16]}) than the one recorded")
    if approval.expires <= now:
        return Verdict(valid=False, why=f"it expired on {approval.expires:%Y-%m-%d %H:%M} UTC")
    keys = people.people[approval.person].keys
    if not verified(approval.statement(record.id), approval.signature, keys, NAMESPACE):
        return Verdict(valid=False, why=f"its signature is by no key of {approval.person} over this change, environment, role, time and plan")  # fmt: skip
    return Verdict(valid=True, why=f"{approval.role}, until {approval.expires:%Y-%m-%d %H:%M} UTC")


def authorised(record: Record, environment: str, people: People, rules: Rules, plan: Plan | None, nouns: Iterable[Noun], now: datetime) -> Verdict:  # fmt: skip
    """Say whether a change may be applied to an environment now, as far as approvals decide that.

    Parameters
    ----------
    people, rules
        Those of the base of the change.
    plan
        The plan as it is now, judged; none where only the record is to be looked at.
    nouns
        What the change declares otherwise.
    """
    if refusal := _not_as_recorded(record, environment, plan):
        return Verdict(valid=False, why=refusal)
    recorded = record.plans[environment]
    wanted = dict(plan.judgement.approvals if plan and plan.judgement else recorded.approvals)
    if record.kind == "standard":
        return _standard(record, rules, plan, list(nouns))
    missing = _missing(record, environment, wanted, people, now)
    if record.kind == "emergency":
        return _emergency(record, environment, people, rules, missing, now)
    if missing:
        return Verdict(valid=False, why=f"it lacks {', '.join(missing)}")
    return Verdict(valid=True, why="approved by all whom the rules name")


def _not_as_recorded(record: Record, environment: str, plan: Plan | None) -> str:
    """Return why the plan is not the one that was recorded; empty where it is."""
    recorded = record.plans.get(environment)
    if recorded is None:
        return f"it has no plan for {environment}"
    if digest_of({environment: dict(sorted(recorded.parts.items()))}) != recorded.digest:
        return "the parts that it records are not those of the plan that it records"
    if plan is not None and (moved := changed_parts(recorded, plan)):
        return f"the plan has drifted since it was recorded: {'; '.join(moved)}"
    return ""


def changed_parts(recorded: Planned, plan: Plan) -> list[str]:
    """Return how a plan differs from the recorded one, part by part; empty where it is the same."""
    if recorded.digest == plan.digest:
        return []
    return drifted(recorded.parts, plan.parts) or ["the plan as a whole differs"]


def owed(record: Record, rules: Rules, now: datetime) -> list[str]:
    """Return what is owed of a change: a retrospective of an emergency, an assessment of what was applied."""
    found = []
    if record.kind == "emergency" and (record.assessment is None or record.assessment.found is None):
        late = "late: " if now > record.created + timedelta(days=rules.due_days.retrospective) else ""
        found.append(f"{late}retrospective of an emergency")
    elif record.assessment and record.assessment.found is None and record.result != _OPEN:
        found.append(f"{'late: ' if now > record.assessment.due else ''}assessment")
    return found


def _recorded(record: Record, environment: str) -> Planned:
    if environment in record.plans:
        return record.plans[environment]
    raise FatalError(
        f"change {record.id}", f"no plan for {environment}", f"one of {', '.join(record.plans) or 'none'}", "name it"
    )


def _may_not(record: Record, person: str, role: str, people: People) -> str:
    """Return why somebody may not approve a change in a role; empty where they may."""
    known = people.people.get(person)
    if known is None:
        return f"changes/people.yml of its base knows no {person}"
    if role not in known.roles:
        return f"{person} is no {role}"
    if set(known.email) & set(record.authors):
        return f"{person} wrote it: authors do not approve their own"
    return ""


def _missing(record: Record, environment: str, wanted: dict[str, int], people: People, now: datetime) -> list[str]:
    """Return which roles have not agreed yet; one person agrees in one role only."""
    valid = [
        one for one in record.approvals if one.environment == environment and judge(record, one, people, now).valid
    ]
    left = _most(wanted, [(one.person, one.role) for one in valid])
    return [role if count == 1 else f"{count} x {role}" for role, count in left.items() if count]


def _most(wanted: dict[str, int], given: list[tuple[str, str]]) -> dict[str, int]:
    """Return what is left of `wanted` when each person counts once, where that fills most of it."""
    best = dict(wanted)
    for index, (person, role) in enumerate(given):
        if wanted.get(role):
            rest = [one for one in given[index + 1 :] if one[0] != person]
            left = _most(wanted | {role: wanted[role] - 1}, rest)
            best = min(best, left, key=lambda one: sum(one.values()))
    return best


def _standard(record: Record, rules: Rules, plan: Plan | None, nouns: list[Noun]) -> Verdict:
    pattern = rules.standard.get(record.pattern or "")
    if pattern is None:
        return Verdict(valid=False, why=f"no standard pattern {record.pattern!r} is declared")
    if plan is None:
        return Verdict(valid=False, why="a standard change is judged by its plan: dpp change show")
    exceeds = []
    if other := sorted({one.kind for one in nouns} - {*pattern.nouns, "change record"}):
        exceeds.append(f"it changes {', '.join(other)}")
    if verbs := sorted({step.verb for step in plan.steps} - set(pattern.verbs)):
        exceeds.append(f"it does {', '.join(verbs)}")
    if len(plan.steps) > pattern.steps:
        exceeds.append(f"it has {len(plan.steps)} steps, at most {pattern.steps}")
    risk = plan.judgement.risk if plan.judgement else rules.risks[-1]
    if rules.risks.index(risk) > rules.risks.index(pattern.risk):
        exceeds.append(f"its risk is {risk}, at most {pattern.risk}")
    if exceeds:
        return Verdict(valid=False, why=f"beyond standard pattern {record.pattern}: {'; '.join(exceeds)}")
    return Verdict(valid=True, why=f"authorised beforehand as {record.pattern}")


def _emergency(
    record: Record, environment: str, people: People, rules: Rules, missing: list[str], now: datetime
) -> Verdict:
    valid = [
        one for one in record.approvals if one.environment == environment and judge(record, one, people, now).valid
    ]
    if not any(one.role in rules.emergency_roles for one in valid):
        return Verdict(
            valid=False, why=f"an emergency is declared by {' or '.join(rules.emergency_roles)}, by signature"
        )
    due = f"; owed afterwards: {', '.join(missing)}" if missing else ""
    return Verdict(valid=True, why=f"declared an emergency by {valid[0].person}{due}; a retrospective is owed")


def recorded_plans(dossier: Dossier) -> dict[str, Plan]:
    """Return the plans of a dossier by environment."""
    return {plan.environment: plan for plan in dossier.plans}
