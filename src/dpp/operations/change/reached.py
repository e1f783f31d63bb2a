"""What an environment says itself of a change, where it can be reached: drift, what the engine does to its stacks, what Ansible would do to its hosts.

It is shown beside the plan and is no part of it. The engine is asked as it is before the change is applied (`live`): the
base's programs after every object has been read again, for drift; then the change's. Both sides work with their own code, on
what really stands: whoever asks has read what the change does to that.
"""  # fmt: skip

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Protocol

from dpp.adapters.progress import Reporter
from dpp.adapters.pulumi.events import Event, Result
from dpp.adapters.pulumi.locks import holders
from dpp.adapters.pulumi.stacks import Stacks
from dpp.model.errors import DppError, FatalError, RetriableError, UsageError
from dpp.model.folders import Folders
from dpp.operations.change.check_mode import CheckRun, Found, Veil, condensed
from dpp.operations.change.compare import EMPTY, State, changed_hosts, unified
from dpp.operations.change.findings import Dossier, Drift, Live, Plan, Preview, Step
from dpp.operations.change.live import UNSOUND, LivePreviewer, differing, places_of, tasks_by_host, unsound
from dpp.operations.change.places import folders_of
from dpp.operations.change.previews import in_order, resource_of, steps_of
from dpp.operations.change.sides import WORKING_TREE, Side, Sides, Workshop, lead_to_this_environment

_AT_ONCE: Final = 2
_ROUTER: Final = "dpp:network:DeviceConfiguration"
_STANDS_NOT: Final = "it does not stand yet"


class Engine(Protocol):
    """Has the real stacks of an environment, whose programs are those of a side."""

    def stacks(self, side: Side) -> Stacks:
        """Return them."""


def beside(
    workshop: Workshop, dossier: Dossier, environment: str, now: datetime, reporter: Reporter | None = None
) -> Dossier:
    """Return a dossier that also says what an environment itself says; its plans and their digests stay as they are.

    Parameters
    ----------
    workshop
        In which the dossier was made.
    environment
        Name of one that the change touches.
    now
        When it is asked.

    Raises
    ------
    UsageError
        If no stack of the environment is touched.
    FatalError
        If nothing of the environment stands here.
    RetriableError
        If it cannot be reached: what it is compared with is never another thing than what was asked for.
    """
    plan = touched_plan(dossier, environment)
    head = "" if dossier.head == WORKING_TREE else dossier.head
    sides = workshop.sides(f"{dossier.base}..{head}")
    for side in (sides.base, sides.head):
        if side.committed:
            lead_to_this_environment(side.root)
    base, after = (workshop.state(side, environment) or EMPTY for side in (sides.base, sides.head))
    folders = folders_of(sides.base.root).get(environment)
    if folders is None:
        raise FatalError(f"environment {environment}", f"not declared by the base {sides.base.name[:12]}", "one that stands", "leave --live out")  # fmt: skip
    live = LivePreviewer(environment, folders, sides.base, sides.head)
    asked = Asked(environment, folders, sides, base, after)
    return with_live(dossier, environment, Reached(asked, live, reporter or Reporter(quiet=True)).asked(plan, now))


def touched_plan(dossier: Dossier, environment: str) -> Plan:
    """Return the plan for an environment of which a stack is touched."""
    touched = {plan.environment: plan for plan in dossier.plans if plan.previews}
    if environment not in touched:
        raise UsageError(f"--live {environment}", "no stack of it is touched by the change", f"one of {', '.join(touched) or 'none'}", "leave --live out")  # fmt: skip
    return touched[environment]


def with_live(dossier: Dossier, environment: str, live: Live) -> Dossier:
    """Return a dossier with what an environment said; what it is compared with is dated."""
    plans = tuple(one.model_copy(update={"live": live}) if one.environment == environment else one for one in dossier.plans)  # fmt: skip
    others = [one.environment for one in plans if one.live is None]
    declared = f"BASE as declared ({dossier.base[:12]})"
    rest = f"; {', '.join(others)} with {declared} alone" if others else ""
    compared = f"live, {live.asked}: {environment} as it stands, beside {declared}{rest}"
    return dossier.model_copy(update={"plans": plans, "compared_with": compared})


@dataclass(frozen=True)
class Asked:
    """Of what an environment is asked.

    Parameters
    ----------
    environment
        Its name.
    folders
        Its folders.
    sides
        Both sides, in trees of their own.
    base, head
        What both sides declare of it.
    """

    environment: str
    folders: Folders
    sides: Sides
    base: State
    head: State


@dataclass(frozen=True)
class Standing:
    """What a stack answers.

    Parameters
    ----------
    stack
        Its name.
    events
        What the base's programs would do to it.
    why
        Why it is not asked.
    """

    stack: str
    events: tuple[Event, ...] = ()
    why: str = ""


class Reached:
    """Asks an environment that can be reached.

    Parameters
    ----------
    asked
        Of what.
    engine
        Has its stacks.
    reporter
        Is told of what takes long.
    """

    def __init__(self, asked: Asked, engine: Engine, reporter: Reporter) -> None:
        self._of, self._engine, self._reporter = asked, engine, reporter
        self._base, self._head = engine.stacks(asked.sides.base), engine.stacks(asked.sides.head)

    def asked(self, plan: Plan, now: datetime) -> Live:
        """Return what it says of a plan."""
        stacks = [one.stack for one in plan.previews]
        self._require_standing(stacks)
        with self._reporter.step(f"what stands of {self._of.environment}", 2 * len(stacks)) as step, ThreadPoolExecutor(_AT_ONCE) as pool:  # fmt: skip
            drift = [one for one in pool.map(lambda stack: self._from_base(stack, step.advance), stacks) if one]
            unasked = self._unasked(plan.previews, drift)
            asked = [one for one in plan.previews if one.stack not in unasked]
            previews = tuple(pool.map(lambda one: self._from_head(one, step.advance), asked))
        events = [event for one in drift for event in one.events]
        away = self._away(unasked)
        hosts = tuple(sorted(changed_hosts(self._of.base, self._of.head).keys() - away.keys()))
        drifted, checked = self._on_hosts(
            {host for event in events for host in tasks_by_host(event)} - away.keys(), hosts
        )
        return Live(
            asked=f"{now.astimezone(UTC):%Y-%m-%dT%H:%MZ}",
            drift=tuple(drift_of(one) for one in drift if one.events or one.why),
            drifted=condensed({*self._routers(events), *drifted}),
            previews=previews,
            hosts=hosts,
            checked=condensed(checked - drifted),
            unasked=unasked | away,
        )  # fmt: skip

    def _away(self, unasked: Mapping[str, str]) -> dict[str, str]:
        """Return the hosts that cannot be asked, as the change brings them or their stack does not stand whole."""
        known = self._of.base["groups"]
        stacks = changed_hosts(self._of.base, self._of.head)
        return {host: unasked.get(stack, _STANDS_NOT) for host, stack in sorted(stacks.items()) if stack in unasked or host not in known}  # fmt: skip

    # -- stacks ----------------------------------------------------------------------------------------------------------

    def _require_standing(self, stacks: Iterable[str]) -> None:
        """Refuse an environment of which nothing stands here, and one on whose stacks somebody is at work."""
        backend, name = self._base.backend, self._of.environment
        if not any(backend.checkpoint(stack) is not None for stack in self._of.base["resources"]):
            raise FatalError(f"environment {name}", f"no stack of it was applied from here ({backend.folder} has none)", "an environment that this machine reaches", "ask where its stacks are applied from; without --live the page compares with BASE as declared")  # fmt: skip
        for stack in stacks:
            for holder in holders(backend.locks(stack)):
                if holder.lives:
                    raise RetriableError(f"stack {stack}", f"{holder} is at work on it", "one that nobody works on", "wait for it to end")  # fmt: skip

    def _from_base(self, stack: str, tell: Callable[[str], None]) -> Standing | None:
        """Return what the base's programs would do to a stack, every object read again; nothing where they have none."""
        if stack not in self._of.base["resources"]:
            return None
        if why := unsound(self._base.backend.checkpoint(stack)):
            return Standing(stack, why=UNSOUND[why])
        found = self._previewed(self._base, stack, refresh=True)
        if found.errors:
            raise self._silent(stack, "; ".join(found.errors))
        tell(f"{stack} as it stands")
        return Standing(stack, tuple(differing(found)))

    def _unasked(self, previews: Iterable[Preview], drift: Iterable[Standing]) -> dict[str, str]:
        """Return the stacks that are not asked what the change does to them: asking one that does not stand would make it."""
        known = {one.stack: one.why for one in drift if one.why}
        missing = (one.stack for one in previews if self._head.backend.checkpoint(one.stack) is None)
        return dict.fromkeys(missing, _STANDS_NOT) | known

    def _from_head(self, preview: Preview, tell: Callable[[str], None]) -> Preview:
        """Return what the change's programs do to a stack that stands."""
        if preview.errors:  # there is nothing to be asked about
            return preview
        stack = preview.stack
        result = self._previewed(self._head, stack)
        tell(f"{stack} with the change")
        source = "the engine, compared with the stack as it was applied last"
        return Preview(stack=stack, steps=steps_of(result, stack, self._of.base, self._of.head), errors=tuple(result.errors), source=source)  # fmt: skip

    def _previewed(self, stacks: Stacks, stack: str, *, refresh: bool = False) -> Result:
        try:
            return stacks.preview(stack, refresh=refresh)
        except DppError as error:
            raise self._silent(stack, str(error)) from error

    def _silent(self, stack: str, said: str) -> RetriableError:
        return RetriableError(f"environment {self._of.environment}, stack {stack}", f"cannot be asked: {Veil(self._of.folders)(said)}", "objects that answer", "see dpp status, bring back what it names, and ask again; without --live the page compares with BASE as declared")  # fmt: skip

    # -- hosts -----------------------------------------------------------------------------------------------------------

    def _on_hosts(self, drift: Collection[str], hosts: Collection[str]) -> tuple[frozenset[Found], frozenset[Found]]:
        """Return what the base's playbook would do to hosts that drifted, and the change's to those that it converges."""
        of = self._of
        with self._reporter.step(f"check run on {len({*drift, *hosts})} hosts of {of.environment}", 2) as step:
            drifted = CheckRun(of.sides.base, of.environment, of.folders).differences(sorted(drift))
            step.advance("as the base declares")
            checked = CheckRun(of.sides.head, of.environment, of.folders).differences(sorted(hosts))
            step.advance("with the change")
        return drifted, checked

    def _routers(self, events: Iterable[Event]) -> Iterator[Found]:
        veil = Veil(self._of.folders)
        for event in events:
            kind, name = resource_of(event)
            for found in event.diff.values() if kind == _ROUTER else ():
                old, new = (str(found.get(side, "")) for side in ("old", "new"))
                if diff := unified(veil(old), veil(new)):
                    yield "router", "configuration", diff, name


def drift_of(standing: Standing) -> Drift:
    """Return how a stack stands otherwise than the base declares it."""
    steps = (Step(verb=one.verb, kind=resource_of(one)[0], name=resource_of(one)[1], changes=places_of(one)) for one in standing.events)  # fmt: skip
    return Drift(stack=standing.stack, steps=in_order(steps), found=standing.why)
