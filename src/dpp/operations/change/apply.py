"""A change is applied: stack by stack in the declared order, each step journalled before it is taken, or gone back from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from dpp.adapters.progress import Reporter
from dpp.model import permits
from dpp.model.errors import FatalError, UsageError
from dpp.model.folders import Folders
from dpp.model.permits import Permit
from dpp.operations.change.door import Asked, Door, Judged, require_code_of
from dpp.operations.change.hands import OwnHands
from dpp.operations.change.journal import Attempt, Entry, Journal, Side, journals
from dpp.operations.change.judges import Judges
from dpp.operations.change.live import LivePreviewer
from dpp.operations.change.orders import Order, Report
from dpp.operations.change.places import folders_of
from dpp.operations.change.records import Assessment, Outcome, Record, Records
from dpp.operations.change.rules import Rules
from dpp.operations.change.sides import WORKING_TREE, Sides, Workshop
from dpp.operations.health import QUESTIONS

_OVER: Final = {"closed", "aborted"}
_CANNOT: Final = "CANNOT GO BACK"


class _HaltedError(Exception):
    """It is no time for the next stack.

    Parameters
    ----------
    stack
        Which was to be next.
    refusals
        Why not.
    """

    def __init__(self, stack: str, refusals: tuple[str, ...]) -> None:
        super().__init__(stack)
        self.stack, self.refusals = stack, refusals


def apply(order: Order) -> Report:
    """Apply a change, or continue where somebody was killed over it; record what became of it.

    Raises
    ------
    UsageError
        If there is no such change, commit, or plan.
    RetriableError
        If the environment is being changed.
    FatalError
        If the code that runs is not that of the change's base.
    """
    with opened(order) as case:
        return case.apply()


def abort(order: Order, why: str) -> Report:
    """Go back from a change that was begun; one that was not is withdrawn.

    That asks nobody and waits for no window: what stands half way is worse than either end.

    Raises
    ------
    UsageError
        If it has ended already.
    """
    with opened(order) as case:
        return case.abort(why)


@contextmanager
def opened(order: Order) -> Iterator[Case]:
    """Hold all that a change needs for itself: its trees, and the environment's permit."""
    record = Records(order.workshop.git.root).find(order.change)
    environment = _environment(record, order.environment)
    with trees(order.workshop, record) as sides:
        require_code_of(sides.base.root)
        side = sides.base if environment in sides.base.environments else sides.head
        folders = folders_of(side.root)[environment]
        permit = Permit(environment=environment, change=record.id, person=order.who.person, reason=record.reason, begun=order.now())  # fmt: skip
        with (
            permits.held(permit, folders),
            _as_begun(order.workshop, record, Journal(folders, record.id), sides) as mine,
        ):
            yield Case(order, record, environment, mine, folders)


@contextmanager
def _as_begun(workshop: Workshop, record: Record, journal: Journal, sides: Sides) -> Iterator[Sides]:
    """Have the trees of what is half applied, where the record is of others by now: that is what is gone back from."""
    attempt = journal.attempt()
    begun = (attempt.begun.base, attempt.begun.head) if attempt and attempt.open else (sides.base.name, sides.head.name)
    if begun == (sides.base.name, sides.head.name):
        yield sides
        return
    with workshop.applied(f"{record.id}-begun", *begun) as others:
        yield others


@contextmanager
def trees(workshop: Workshop, record: Record) -> Iterator[Sides]:
    """Have both sides of a change in trees of their own, for as long as it is worked on.

    Raises
    ------
    UsageError
        If a side is no commit, or one that the checkout does not have.
    """
    if WORKING_TREE in (record.base, record.head):
        raise UsageError(f"change {record.id}", "of a working tree", "two commits", f"commit it, then dpp change new {record.name} --again")  # fmt: skip
    with workshop.applied(record.id, record.base, record.head) as sides:
        yield sides


def _environment(record: Record, wanted: str) -> str:
    names = [*record.plans]
    if wanted in names or (not wanted and len(names) == 1):
        return wanted or names[0]
    found = f"environment {wanted}" if wanted else "no environment named"
    raise UsageError(f"change {record.id}", found, f"one of {', '.join(names) or 'none'}", "give --environment")


@dataclass
class Case:
    """One change in one environment, while its permit is held."""

    order: Order
    record: Record
    environment: str
    sides: Sides
    folders: Folders
    journal: Journal = field(init=False)

    def __post_init__(self) -> None:
        self.journal = Journal(self.folders, self.record.id)
        self._live = LivePreviewer(self.environment, self.folders, self.sides.base, self.sides.head)
        make = self.order.hands
        self._hands = make(self._live, self.sides) if make else OwnHands(self.environment, self.sides, self._live, self.order.tell)  # fmt: skip

    def apply(self) -> Report:
        """Apply the change, or go on where its journal says."""
        attempt = self.journal.attempt()
        if outcome := self.unrecorded(attempt):
            return self.recorded(outcome)  # it was killed after its end
        if refusals := self.obstacles(attempt):
            return self.report("refused", refusals=refusals)
        going_back = attempt is not None and attempt.phase == "going back"
        judged = None if going_back else self.judge(attempt)
        if judged and judged.refusals:
            return self.report("refused", refusals=judged.refusals, sites=tuple(sorted(judged.sites)))
        if judged and (attempt is None or not attempt.open):
            self.begin(judged)
        else:
            self.write("continued")
        return self.run(judged)

    def abort(self, why: str) -> Report:
        """Go back from what was begun; withdraw what was not."""
        attempt = self.journal.attempt()
        if attempt is None or not attempt.open:
            return self.withdraw(attempt, why)
        if attempt.phase == "going back":
            self.write("continued")
        else:
            self.write("going back", why=why, result=attempt.ends_as if attempt.phase == "stuck" else "aborted")
        return self.run()

    # -- before ----------------------------------------------------------------------------------------------------------

    def unrecorded(self, attempt: Attempt | None) -> Outcome | None:
        """Return what became of it, where its journal knows and its record does not."""
        mine = attempt and attempt.begun.recorded == self.record.recorded
        outcome = attempt.outcome if attempt and mine else None
        return None if outcome == self.record.outcomes.get(self.environment) else outcome

    def obstacles(self, attempt: Attempt | None) -> tuple[str, ...]:
        """Return what stands in the way, whatever the plan is: that it has ended, or something that is half way."""
        found = [*self._ended()]
        for other in journals(self.folders):
            half = other.attempt()
            if other.change != self.record.id and half and half.open:
                found.append(f"change {other.change} is half applied to {self.environment}: dpp change apply {other.change} continues it, dpp change abort {other.change} goes back")  # fmt: skip
        if attempt and attempt.open and attempt.begun.recorded != self.record.recorded:
            found.append(f"another plan of it is half applied to {self.environment}: dpp change abort {self.record.id} goes back from that")  # fmt: skip
        if attempt and attempt.phase == "stuck":
            found.append(f"it could not go back: {attempt.why}; mend that, then dpp change abort {self.record.id}")
        return tuple(found)

    def _ended(self) -> Iterator[str]:
        again = f"dpp change new {self.record.name} --again"
        if self.record.result in _OVER:
            yield f"it is {self.record.result}: {again} records it anew"
        elif outcome := self.record.outcomes.get(self.environment):
            yield f"it was {outcome.result} on {outcome.ended:%Y-%m-%d %H:%M} UTC: what is to be done again is recorded anew, by {again}"  # fmt: skip

    def judge(self, attempt: Attempt | None) -> Judged:
        """Ask the door."""
        begun = attempt.touched if attempt and attempt.open else ()
        door = Door(self.order.workshop, self._live, self.order.now, Reporter(quiet=self.order.quiet))
        return door.judge(Asked(self.record, self.environment, self.sides, begun))

    def begin(self, judged: Judged) -> None:
        """Note that it begins, with all that continuing it needs."""
        direct = [one.name for one in judged.plan.services if one.direct and one.name in QUESTIONS]
        services: dict[Side, tuple[str, ...]] = {
            "base": tuple(name for name in direct if name in judged.declared["base"]),
            "head": tuple(name for name in direct if name in judged.declared["head"]),
        }
        self.write(
            "begun", base=self.sides.base.name, head=self.sides.head.name, recorded=self.record.recorded,
            digest=judged.plan.digest, stacks=judged.stacks, added=judged.added, services=services,
        )  # fmt: skip

    def withdraw(self, attempt: Attempt | None, why: str) -> Report:
        """Record that a change that was never begun is not to be; what has ended is let be."""
        mine = attempt.outcome if attempt and attempt.begun.recorded == self.record.recorded else None
        outcome = mine or self.record.outcomes.get(self.environment)
        if outcome or self.record.result in _OVER:
            ended = outcome.result if outcome else self.record.result
            raise UsageError(f"change {self.record.id}", f"{ended} already", "one that was begun, or is open", "the way back from what was applied is a change of its own: revert its commits")  # fmt: skip
        now, who = self._now(), self.order.who
        return self.recorded(
            Outcome(result="aborted", person=who.person, machine=who.machine, begun=now, ended=now, why=why)
        )

    # -- the work --------------------------------------------------------------------------------------------------------

    def run(self, judged: Judged | None = None) -> Report:
        """Go on until it has ended, or the time refuses what is next, as the journal says where it is.

        Parameters
        ----------
        judged
            What the door said; nobody is asked where it goes back.
        """
        attempt = self._attempt()
        try:
            trouble = self._forth(attempt, judged) if judged and attempt.phase == "applying" else ""
        except _HaltedError as halted:
            return self._halt(halted)
        if trouble:
            self.order.tell(f"{trouble}: going back")
            self.write("going back", why=trouble, result="gone back from")
        attempt = self._attempt()
        if attempt.phase == "going back" and (trouble := self._back(attempt)):
            self.write("stuck", why=trouble)
            return self._stuck(trouble)
        self.write("ended", result=self._attempt().ends_as)
        attempt = self._attempt()
        assert attempt.outcome is not None  # noqa: S101 - it has just been written
        if attempt.begun.recorded != self.record.recorded:  # of another plan than the record is of now
            return self.report(attempt.outcome.result, why=attempt.outcome.why, outcome=attempt.outcome)
        return self.recorded(attempt.outcome)

    def _forth(self, attempt: Attempt, judged: Judged) -> str:
        """Apply the change's programs to what is left, each once the time is asked again; return what went wrong."""
        stacks, services = attempt.begun.stacks, attempt.begun.services.get("head", ())
        for stack in attempt.left:
            if refusals := judged.times.refusals(judged.places.get(stack, judged.sites)):
                raise _HaltedError(stack, refusals)
            between = services if stack != stacks[-1] else ()  # after the last one everything is checked
            if trouble := self._stack("head", stack, between):
                return trouble
        return self._checked("head", stacks, services)

    def _halt(self, halted: _HaltedError) -> Report:
        """Leave what is done as it is and begin nothing more."""
        self.write("halted", stack=halted.stack, why="; ".join(halted.refusals))
        attempt = self._attempt()
        why = f"halted before {halted.stack}; the change is applied to {', '.join(attempt.done) or 'nothing yet'}, not to {', '.join(attempt.left)}"
        self.order.tell(why)
        where = f"{self.record.id} --environment {self.environment}"
        remedy = f"dpp change apply {where} continues once it is time again, dpp change abort {where} goes back now"
        return self.report(
            "halted", refusals=halted.refusals, why=why, remedy=remedy, done=attempt.done, left=attempt.left
        )

    def _back(self, attempt: Attempt) -> str:
        """Apply the base's programs to all that was touched, then take away what it knows none for; return what went wrong."""
        stacks = [stack for stack in attempt.begun.stacks if stack in attempt.touched]
        added = [stack for stack in stacks if stack in attempt.begun.added]
        known = [stack for stack in stacks if stack not in added]
        for stack in known:
            if stack not in attempt.returned and (trouble := self._stack("base", stack, ())):
                return trouble
        for stack in reversed(added):  # nothing that the base declares stands on it any more
            if stack not in attempt.returned and (trouble := self._take_away(stack)):
                return trouble
        return self._checked("base", known, attempt.begun.services.get("base", ()))

    def _take_away(self, stack: str) -> str:
        self.order.tell(f"{stack}: taking away what the change added")
        self.write("stack begun", side="base", stack=stack)
        taken = self._hands.take_away(stack)
        if taken.trouble:
            return f"{stack}: {taken.trouble}"
        stays = ", ".join(taken.stays)
        if stays:
            self.order.tell(f"{stack}: as the change made it stays {stays}")
        self.write("stack done", side="base", stack=stack, why=stays)
        return ""

    def _stack(self, side: Side, stack: str, services: tuple[str, ...]) -> str:
        self.order.tell(f"{stack}: applying the {'change' if side == 'head' else 'base'}")
        self.write("stack begun", side=side, stack=stack)
        if trouble := self._hands.up(side, stack):
            return f"{stack}: {trouble}"
        if trouble := self._asked(side, services):
            return f"after {stack}: {trouble}"
        self.write("stack done", side=side, stack=stack)
        return ""

    def _checked(self, side: Side, stacks: tuple[str, ...] | list[str], services: tuple[str, ...]) -> str:
        """Return what is not as the programs of a side ask for."""
        for stack in stacks:
            if left := self._hands.left(side, stack):
                return f"{stack} is not as the {'change' if side == 'head' else 'base'} declares: {left}"
        return self._asked(side, services)

    def _asked(self, side: Side, services: tuple[str, ...]) -> str:
        for service in services:
            if reason := self._hands.ask(side, service):
                return f"service {service} does not work: {reason}"
            self.order.tell(f"service {service} works")
        return ""

    # -- journal and record ----------------------------------------------------------------------------------------------

    def write(self, event: str, **more: object) -> None:
        """Append an entry to the journal."""
        given = {"event": event, "at": self._now(), "person": self.order.who.person, "machine": self.order.who.machine}
        self.journal.write(Entry.model_validate(given | more))

    def recorded(self, outcome: Outcome) -> Report:
        """Write what became of it into its record, and when it is to be assessed."""
        self.record = with_outcome(self.record, self.environment, outcome, self._rules())
        Records(self.order.workshop.git.root).write(self.record)
        return self.report(outcome.result, why=outcome.why, outcome=outcome)

    def report(self, result: str, **more: object) -> Report:
        """Return a report."""
        given = {"change": f"{self.record.id}-{self.record.name}", "environment": self.environment, "result": result}
        return Report.model_validate(given | more)

    def _stuck(self, trouble: str) -> Report:
        remedy = f"mend what it says by hand, then dpp change abort {self.record.id} --environment {self.environment}; {self.environment} stands half way until then, and no other change is let in"  # fmt: skip
        self.order.tell(f"{_CANNOT}: {trouble}")
        return self.report("stuck", why=trouble, remedy=remedy)

    def _attempt(self) -> Attempt:
        attempt = self.journal.attempt()
        if attempt is None:
            raise FatalError(
                str(self.journal.path), "no entry", "the one with which it was begun", "somebody deleted it"
            )
        return attempt

    def _rules(self) -> Rules:
        return Judges.in_tree(self.sides.base.root).rules

    def _now(self) -> datetime:
        return self.order.now().replace(microsecond=0)


def with_outcome(record: Record, environment: str, outcome: Outcome, rules: Rules) -> Record:
    """Return a record that says what became of a change in an environment; what was applied is to be assessed."""
    due = outcome.ended + timedelta(days=rules.due_days.assessment)
    assessment = record.assessment or (None if outcome.result == "aborted" else Assessment(due=due))
    outcomes = dict(sorted((record.outcomes | {environment: outcome}).items()))
    return record.model_copy(update={"outcomes": outcomes, "result": outcome.result, "assessment": assessment})


__all__ = ["Order", "Report", "abort", "apply", "with_outcome"]
