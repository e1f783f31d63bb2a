"""The dossier as a page: Markdown for a forge, HTML for everybody else, from the same findings."""

from __future__ import annotations

import html as entities
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

from dpp.operations.change.findings import Affected, Dossier, Noun, Plan, Step

_TEMPLATES: Final = Path(__file__).with_name("templates")
_SHOWN: Final = 6
"""How many of many places are named; the JSON has all."""
_LINES: Final = 120
"""How many lines of one difference a page shows."""
_OWNER: Final = "service-owner"
"""The role whose persons follow from the services touched."""
_OWNERS: Final = 4
"""How many owners are named; the table of services has all."""
_RISKS: Final = ("none", "low", "moderate", "high")
_NUMBER = re.compile(r"\d+(?=\.)")
_MARKUP: Final = {ord(character): f"&#{ord(character)};" for character in "`[]|"}
"""What Markdown would take for its own, as entities: they mean the same in text, in tables' cells and in HTML."""
_MENTION = re.compile(r"(?<!\w)@(?=\w)|#(?=\d)")
"""What a forge would make into a call of somebody, or a reference to something."""


def markdown(dossier: Dossier) -> str:
    """Return the page for a pull request."""
    return _page("dossier.md.j2", dossier)


def html(dossier: Dossier) -> str:
    """Return the page for a browser, whole in one file, printable."""
    return _page("dossier.html.j2", dossier)


def _page(template: str, dossier: Dossier) -> str:
    text = _template(template).render(
        dossier=dossier,
        plans=worst_first(dossier),
        nouns=_by_kind(dossier.nouns),
        risk=risk_of(dossier),
        risks=_RISKS,
        silent=is_silent(dossier),
        minutes=round(sum(proof.seconds for proof in dossier.proofs) / 60 + 0.5),
    )
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def is_silent(dossier: Dossier) -> bool:
    """Say whether there is nothing to decide: nothing is deployed, and nobody may authorise more than before."""
    return not dossier.deploys and not any(noun.kind in {"rule", "person", "freeze"} for noun in dossier.nouns)


def risk_of(dossier: Dossier) -> str:
    """Return the greatest risk of all environments, as the order of judgements goes: none where nothing is planned."""
    return max((plan.judgement.risk for plan in dossier.plans if plan.judgement), key=_rank, default="none")


def worst_first(dossier: Dossier) -> list[Plan]:
    """Return the plans that there is something to decide about, those of the greatest risk first."""
    judged = [(plan, plan.judgement.risk) for plan in dossier.plans if plan.judgement]
    return [
        plan
        for plan, risk in sorted(judged, key=lambda pair: -_rank(pair[1]))
        if plan.deploys or risk != "none"
    ]  # fmt: skip


def _rank(risk: str) -> int:
    return _RISKS.index(risk) if risk in _RISKS else len(_RISKS)


@cache
def _template(name: str) -> Any:
    import jinja2  # noqa: PLC0415

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=name.endswith(".html.j2"),
        finalize=None if name.endswith(".html.j2") else plain,
    )
    environment.filters |= {filter_.__name__: filter_ for filter_ in _FILTERS}
    return environment.get_template(name)


def plain(value: Any) -> Any:
    """Return a value of a template as text that is nothing but text to Markdown; what is marked as safe stays.

    A dossier's words come from whoever proposes the change: they make no link, call nobody, and end no table.
    """
    if hasattr(value, "__html__"):
        return value
    escaped = entities.escape(" ".join(str(value).split()), quote=False)
    return _MENTION.sub(lambda match: f"{match[0]}&#8203;", escaped).translate(_MARKUP)


def _by_kind(nouns: Iterable[Noun]) -> dict[str, list[Noun]]:
    kinds: dict[str, list[Noun]] = defaultdict(list)
    for noun in nouns:
        kinds[noun.kind].append(noun)
    return dict(kinds)


# -- filters -------------------------------------------------------------------------------------------------------------


def places(names: tuple[str, ...]) -> str:
    """Return some of many names, and how many there are."""
    if len(names) <= _SHOWN:
        return ", ".join(names)
    return f"{len(names)} places: {', '.join(names[:_SHOWN])} ..."


def shown(diff: str) -> str:
    """Return a difference, cut where it is long."""
    lines = diff.splitlines()
    more = [f"... {len(lines) - _LINES} more lines, see --json"] if len(lines) > _LINES else []
    return "\n".join([*lines[:_LINES], *more])


def fenced(diff: str) -> Any:
    """Return a difference as a block of Markdown that no line of it can end."""
    from markupsafe import Markup  # noqa: PLC0415

    longest = max((len(run) for run in re.findall(r"`+", diff)), default=0)
    fence = "`" * max(4, longest + 1)
    return Markup(f"{fence}diff\n{shown(diff)}\n{fence}")  # noqa: S704 - in the fence nothing is markup


def folded(steps: tuple[Step, ...]) -> list[dict[str, Any]]:
    """Return steps in rows, those of one kind on numbered hosts of one function and site in one, in the order of steps."""
    groups: dict[tuple[str, str, str], list[Step]] = {}
    for step in steps:
        groups.setdefault((step.verb, step.kind, _NUMBER.sub("*", step.name)), []).append(step)
    rows = []
    for (verb, kind, _), group in groups.items():
        changes = list(dict.fromkeys(change for step in group for change in step.changes))
        more = f" and {len(changes) - _SHOWN} more" if len(changes) > _SHOWN else ""
        names = places(tuple(step.name for step in group))
        rows.append(
            {
                "verb": verb,
                "kind": kind.rpartition(":")[2],
                "names": names,
                "changes": ", ".join(changes[:_SHOWN]) + more,
            }
        )
    return rows


def seconds(value: int | None) -> str:
    """Return for how long something is away, in words."""
    return "not declared" if value is None else "not away" if value == 0 else f"{value} s"


def lasting(plan: Plan) -> str:
    """Return for how long something of a plan is away at most, in words."""
    spans = [effect.seconds for effect in plan.effects if effect.verb not in {"converges", "is made"}]
    known = [span for span in spans if span is not None]
    most = max(known, default=0)
    longest = seconds(most) if most else "none"
    return (
        f"{longest}; of {plural(len(spans) - len(known), 'effect')} it is not declared"
        if len(known) < len(spans)
        else longest
    )


def agreeing(plan: Plan) -> str:
    """Return who must agree to a plan, in words: roles, all of them, and whose owners."""
    wanted = plan.judgement.approvals if plan.judgement else {}
    owners = sorted({service.owner for service in plan.services if service.direct})
    named = {_OWNER: f"{_OWNER} ({' or '.join(owners)})" if 0 < len(owners) <= _OWNERS else _OWNER}
    roles = [
        named.get(role, role) if count == 1 else f"{count} x {named.get(role, role)}" for role, count in wanted.items()
    ]
    return " and ".join([", ".join(roles[:-1]), roles[-1]] if len(roles) > 1 else roles) or "none"


def plural(count: int, noun: str) -> str:
    """Return a number with its noun."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun[:-1] + 'ies' if noun.endswith('y') else noun + 's'}"


def counts(nouns: dict[str, list[Noun]]) -> str:
    """Return how many of each kind of noun there are, in words."""
    return ", ".join(plural(len(group), kind) for kind, group in nouns.items()) or "nothing"


def standing(plan: Plan) -> str:
    """Return how what stands compares with what the base declares, in words."""
    live = plan.live
    if live is None or not live.drifts:
        return f"as the base declares, live {live.asked}" if live else "not asked"
    steps = sum(len(one.steps) for one in live.drift)
    stacks = [one.stack for one in live.drift if one.found]
    parts = [f"{plural(steps, 'resource')} not as the base declares"] * bool(steps) + [f"{', '.join(stacks)} not applied to the end"] * bool(stacks)  # fmt: skip
    hosts = sorted({place for difference in live.drifted for place in difference.places})
    return f"{'; '.join(parts)}{f' on {places(tuple(hosts))}' if hosts else ''}, live {live.asked}"


def declared_steps(plan: Plan, stack: str) -> tuple[Step, ...]:
    """Return the steps on a stack as the declarations have them."""
    return tuple(step for preview in plan.previews if preview.stack == stack for step in preview.steps)


def direct(plan: Plan) -> list[Affected]:
    """Return the services that a plan touches."""
    return [service for service in plan.services if service.direct]


def indirect(plan: Plan) -> list[Affected]:
    """Return the services that depend on those."""
    return [service for service in plan.services if not service.direct]


def kept(diff: str) -> list[tuple[str, str]]:
    """Return the lines of a difference, cut where it is long, each with what it is: added, removed, a place, or neither."""
    kinds = {"+": "added", "-": "removed", "@": "place"}
    return [(kinds.get(line[:1], "same"), line) for line in shown(diff).splitlines()]


_FILTERS: Final[Sequence[Callable[..., Any]]] = (
    places, shown, fenced, folded, seconds, lasting, agreeing, plural, counts, standing, declared_steps, direct, indirect, kept,
)  # fmt: skip
