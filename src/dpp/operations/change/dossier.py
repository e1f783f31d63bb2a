"""The dossier as a page: Markdown for a forge, HTML for everybody else, from the same findings."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any, Final

from dpp.operations.change.findings import Dossier, Noun, Plan, Step

_TEMPLATES: Final = Path(__file__).with_name("templates")
_SHOWN: Final = 6
"""How many of many places are named; the JSON has all."""
_LINES: Final = 120
"""How many lines of one difference a page shows."""
_NUMBER = re.compile(r"\d+(?=\.)")


def markdown(dossier: Dossier) -> str:
    """Return the page for a pull request."""
    return _page("dossier.md.j2", dossier)


def html(dossier: Dossier) -> str:
    """Return the page for a browser, whole in one file, printable."""
    return _page("dossier.html.j2", dossier)


def _page(template: str, dossier: Dossier) -> str:
    text = _templates(template).render(
        dossier=dossier,
        nouns=_by_kind(dossier.nouns),
        risk=risk_of(dossier),
        silent=not dossier.deploys and not any(one.kind in {"rule", "person", "freeze"} for one in dossier.nouns),
        minutes=round(sum(one.seconds for one in dossier.proofs) / 60 + 0.5),
    )
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def risk_of(dossier: Dossier) -> str:
    """Return the greatest risk of all environments, as the order of judgements goes: none where nothing is planned."""
    order = ("none", "low", "moderate", "high")
    found = [plan.judgement.risk for plan in dossier.plans if plan.judgement]
    return max(found, key=lambda risk: order.index(risk) if risk in order else len(order), default="none")


@cache
def _templates(name: str) -> Any:
    import jinja2  # noqa: PLC0415

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=name.endswith(".html.j2"),
    )
    filters = {
        "places": places,
        "shown": shown,
        "folded": folded,
        "seconds": seconds,
        "approvals": approvals,
        "cell": cell,
    }
    environment.filters |= filters | {
        "plural": plural,
        "direct": direct,
        "indirect": indirect,
        "lasting": lasting,
        "counts": counts,
    }
    return environment.get_template(name)


def _by_kind(nouns: Iterable[Noun]) -> dict[str, list[Noun]]:
    found: dict[str, list[Noun]] = defaultdict(list)
    for one in nouns:
        found[one.kind].append(one)
    return dict(found)


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


def folded(steps: tuple[Step, ...]) -> list[dict[str, Any]]:
    """Return steps in rows, those of one kind on numbered hosts of one function and site in one, in the order of steps."""
    rows: dict[tuple[str, str, str], list[Step]] = {}
    for one in steps:
        rows.setdefault((one.verb, one.kind, _NUMBER.sub("*", one.name)), []).append(one)
    found = []
    for (verb, kind, _), group in rows.items():
        changes = list(dict.fromkeys(change for one in group for change in one.changes))
        more = f" and {len(changes) - _SHOWN} more" if len(changes) > _SHOWN else ""
        names = places(tuple(one.name for one in group))
        found.append(
            {
                "verb": verb,
                "kind": kind.rpartition(":")[2],
                "names": names,
                "changes": ", ".join(changes[:_SHOWN]) + more,
            }
        )
    return found


def seconds(value: int | None) -> str:
    """Return for how long something is away, in words."""
    return "not declared" if value is None else "not away" if value == 0 else f"{value} s"


def lasting(plan: Plan) -> str:
    """Return for how long something of a plan is away at most, in words."""
    found = [one.seconds for one in plan.effects if one.verb not in {"converges", "is made"}]
    known = [one for one in found if one is not None]
    most = max(known, default=0)
    longest = seconds(most) if most else "nothing is away"
    return (
        f"{longest}; of {plural(len(found) - len(known), 'effect')} it is not declared"
        if len(known) < len(found)
        else longest
    )


def approvals(wanted: dict[str, int]) -> str:
    """Return who must agree, in words."""
    return ", ".join(role if count == 1 else f"{count} x {role}" for role, count in wanted.items()) or "none"


def plural(count: int, noun: str) -> str:
    """Return a number with its noun."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun[:-1] + 'ies' if noun.endswith('y') else noun + 's'}"


def counts(nouns: dict[str, list[Noun]]) -> str:
    """Return how many of each kind of noun there are, in words."""
    return ", ".join(plural(len(found), kind) for kind, found in nouns.items()) or "nothing"


def cell(text: str) -> str:
    """Return a text as a table's cell may hold it."""
    return " ".join(text.split()).replace("|", "\\|")


def direct(plan: Plan) -> list[Any]:
    """Return the services that a plan touches."""
    return [one for one in plan.services if one.direct]


def indirect(plan: Plan) -> list[Any]:
    """Return the services that depend on those."""
    return [one for one in plan.services if not one.direct]
