"""The dossier of a change: both sides tell of themselves, what differs is found, the engine is asked, the rules judge."""

from __future__ import annotations

import fnmatch
import hashlib
import json
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from dpp.adapters.progress import Reporter
from dpp.model.errors import DppError
from dpp.operations.change import compare, impact
from dpp.operations.change.compare import EMPTY, State
from dpp.operations.change.findings import Dossier, Noun, Plan, Preview, Proof, Right
from dpp.operations.change.freezes import FILE as FREEZES
from dpp.operations.change.judges import Judges, judged_by
from dpp.operations.change.people import FILE as PEOPLE
from dpp.operations.change.people import People
from dpp.operations.change.previews import Previewer, normalised
from dpp.operations.change.rules import FILE as RULES
from dpp.operations.change.sides import Side, Sides, Workshop

_OF_ENVIRONMENT: Final = ("inventories/{}/*", "k8s/clusters/{}/*")
_VARIABLES: Final = ("inventories/*", "services/*", "k8s/clusters/*", "src/dpp/*", "ansible.cfg")
"""Files on which the variables of hosts may depend."""
_AUTHORISES: Final = (RULES, PEOPLE, FREEZES)
Rendered = Mapping[str, Mapping[str, Mapping[str, Any]]]


def plan(workshop: Workshop, between: str = "", reporter: Reporter | None = None) -> Dossier:
    """Return the dossier of what differs between two commits.

    Parameters
    ----------
    between
        ``BASE..HEAD``, ``BASE..`` for the working tree; by default what the current commit has beside main.

    Raises
    ------
    FatalError
        If the base cannot tell what it declares.
    """
    return _Planner(workshop, workshop.sides(between), reporter or Reporter(quiet=True)).dossier()


class _Planner:
    def __init__(self, workshop: Workshop, sides: Sides, reporter: Reporter) -> None:
        self._workshop, self._sides, self._reporter = workshop, sides, reporter
        self._paths = [one.path for one in sides.paths]
        self._rules = Judges.in_tree(sides.base.root).rules

    def dossier(self) -> Dossier:
        """Return the whole page."""
        states = self._states()
        nouns = compare.nouns(states, self._sides.paths)
        plans = tuple(self._plan(name, both, nouns) for name, both in states.items()) or self._of_persons()
        judged = tuple(one.model_copy(update={"judgement": self._rules.judge(one, nouns)}) for one in plans)
        return Dossier(
            base=self._sides.base.name,
            head=self._sides.head.name,
            compared_with=f"BASE as declared ({self._sides.base.name[:12]}): no environment was asked",
            judged_by=judged_by(self._sides.base.name),
            files=len(self._paths),
            nouns=nouns,
            plans=judged,
            proofs=self._proofs(),
            authors=self._sides.authors,
            digest=digest_of({one.environment: one.digest for one in judged}),
        )

    # -- both sides ------------------------------------------------------------------------------------------------------

    def _states(self) -> dict[str, tuple[State, State]]:
        """Return what both sides declare in each environment that the change can touch."""
        names = environments(self._sides.base.environments, self._sides.head.environments, self._paths)
        asked = [(name, side) for name in names for side in (self._sides.base, self._sides.head)]
        with self._reporter.step("declared and rendered", len(asked)) as step, ThreadPoolExecutor(2) as pool:

            def ask(one: tuple[str, Side]) -> State:
                name, side = one
                found = self._state(side, name)
                step.advance(f"{name} at {side.name[:12]}")
                return found

            found = list(pool.map(ask, asked))
        return dict(zip(names, zip(found[::2], found[1::2], strict=True), strict=True))

    def _state(self, side: Side, name: str) -> State:
        try:
            return self._workshop.state(side, name) or EMPTY
        except DppError as error:
            if side == self._sides.base:
                raise
            return {**EMPTY, "failed": {name: str(error)}}

    # -- one environment -------------------------------------------------------------------------------------------------

    def _plan(self, name: str, states: tuple[State, State], nouns: Iterable[Noun]) -> Plan:
        base, head = states
        if not head["resources"] and head["failed"]:
            broken = Plan(environment=name, applied=False, errors=tuple(head["failed"].values()))
            return with_digest(broken, {"declaration": list(broken.errors)})
        stacks = compare.differing_stacks(base, head)
        previews = self._previews(name, stacks, states)
        before, after = self._hosts(name, base, head)
        old, new = impact.merged(before), impact.merged(after)
        differences = (*compare.text_differences(base, head), *compare.host_differences(old, new))
        gained, lost = compare.rights(base, head)
        mine = {}
        for noun in nouns:
            if noun.kind in compare.EVERYWHERE:
                mine[noun.file.rpartition("/")[2].removesuffix(".yml")] = f"its {noun.kind} {noun.name} is {noun.verb}"
        found = Plan(
            environment=name,
            applied=bool(head.get("apply")),
            previews=previews,
            differences=differences,
            gained=(*gained, *self._persons(gained=True)),
            lost=(*lost, *self._persons(gained=False)),
            effects=impact.effects(base, head, new, differences, self._rules.away),
            services=impact.services(base, head, impact.touched_roles(differences, after), mine),
            unseen=_unseen(new),
            errors=tuple(f"{side}: {error}" for side, error in self._troubles),
        )
        parts = {one.stack: normalised(base, head, one) for one in previews}
        night = list(compare.paths_of(base["night"], head["night"]))
        return with_digest(found, parts | ({"night": night} if night else {}) | self._authorising())

    def _previews(self, name: str, stacks: list[str], states: tuple[State, State]) -> tuple[Preview, ...]:
        if not stacks:
            return ()
        with self._reporter.step(f"previews of {name}", len(stacks)) as step:
            return Previewer(self._workshop, self._sides.base, self._sides.head, name).all(stacks, states, step.advance)

    _troubles: tuple[tuple[str, str], ...] = ()

    def _hosts(self, name: str, base: State, head: State) -> tuple[Rendered, Rendered]:
        """Return what roles bring about on the hosts that are converged, on both sides, by host and role."""
        self._troubles = ()
        changed = compare.changed_hosts(base, head)
        variables = any(fnmatch.fnmatch(path, pattern) for path in self._paths for pattern in _VARIABLES)
        wanted = compare.roles_to_render(base, head, changed, variables=variables)
        if not wanted:
            return {}, {}
        with self._reporter.step(f"files of {len(wanted)} hosts of {name}", 2) as step, ThreadPoolExecutor(2) as pool:

            def ask(side: Side) -> Rendered:
                try:
                    found: Rendered = self._workshop.run(side, "files.py", given={"environment": name, "hosts": wanted})
                except DppError as error:
                    self._troubles = (*self._troubles, (f"files of hosts at {side.name[:12]}", str(error)[-300:]))
                    return {}
                step.advance(side.name[:12])
                return found

            before, after = pool.map(ask, (self._sides.base, self._sides.head))
        return ({}, {}) if self._troubles else (before, after)

    # -- persons and proofs ----------------------------------------------------------------------------------------------

    def _of_persons(self) -> tuple[Plan, ...]:
        """Return plans of environments where nothing is deployed, for a change of who may authorise what."""
        if not any(path in _AUTHORISES for path in self._paths):
            return ()
        plans = (
            Plan(environment=name, applied=False, gained=self._persons(gained=True), lost=self._persons(gained=False))
            for name in self._sides.head.environments
        )
        return tuple(with_digest(one, self._authorising()) for one in plans)

    def _authorising(self) -> dict[str, Any]:
        """Return the parts of a plan that are about who may authorise what, and when."""
        texts = {
            path: [_text(side, path) for side in (self._sides.base, self._sides.head)]
            for path in (RULES, FREEZES)
            if path in self._paths
        }
        gained, lost = (self._persons(gained=side) for side in (True, False))
        persons = [[one.principal, one.verb, one.resource] for one in (*gained, *lost)]
        return {"rules": texts.get(RULES), "freezes": texts.get(FREEZES), "persons": persons}

    def _persons(self, *, gained: bool) -> tuple[Right, ...]:
        """Return the roles of change management that persons gain, or lose, and the keys that speak for them."""
        if PEOPLE not in self._paths:
            return ()
        before, after = (
            People.parse(_text(side, PEOPLE), PEOPLE).rights() for side in (self._sides.base, self._sides.head)
        )
        found = after - before if gained else before - after
        return tuple(Right(principal=who, verb=verb, resource=what) for who, verb, what in sorted(found))

    def _proofs(self) -> tuple[Proof, ...]:
        with self._reporter.step("proofs owed"):
            try:
                rows = self._workshop.run(self._sides.head, "owed.py", given=self._paths)
            except DppError:
                return (Proof(id="unknown", owner="", seconds=0, why="this side cannot say which proofs it owes"),)
        return tuple(Proof.model_validate(row) for row in rows)


def environments(base: Iterable[str], head: Iterable[str], paths: Iterable[str]) -> list[str]:
    """Return the environments that a change of these files can touch, lab first."""
    alive = [path for path in paths if not compare.is_inert(path)]
    if not alive:
        return []
    every = sorted({*base, *head})
    of = {
        path: {name for name in every if any(fnmatch.fnmatch(path, one.format(name)) for one in _OF_ENVIRONMENT)}
        for path in alive
    }
    if all(of.values()):
        return sorted(set().union(*of.values()))
    return every


def _text(side: Side, path: str) -> str:
    file = side.root / path
    return file.read_text() if file.is_file() else ""


def _unseen(hosts: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for one in hosts.values():
        found |= one["unseen"]
    return dict(sorted(found.items()))


def digest_of(content: Any) -> str:
    """Return the digest of plain values: the same for the same content, whatever the order of keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def with_digest(found: Plan, parts: Mapping[str, Any]) -> Plan:
    """Return a plan with the digest of each part and of all; parts in which nothing is done have none."""
    digests = {name: digest_of(part) for name, part in sorted(parts.items()) if part}
    return found.model_copy(update={"parts": digests, "digest": digest_of({found.environment: digests})})


def drifted(approved: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Return the parts of a plan that are others than those that were approved, each with how."""
    new = [f"{name} is new" for name in sorted(now.keys() - approved.keys())]
    gone = [f"{name} is gone" for name in sorted(approved.keys() - now.keys())]
    return [
        *new,
        *gone,
        *(f"{name} differs" for name in sorted(approved.keys() & now.keys()) if approved[name] != now[name]),
    ]
