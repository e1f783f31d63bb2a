"""What applying does to an environment: the commands of a tree, each run with that tree's own code, as people would type them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from dpp.adapters.process import CommandFailedError, lines, run
from dpp.model.errors import DppError, FatalError
from dpp.operations.change.added import Added
from dpp.operations.change.journal import Side as Name
from dpp.operations.change.live import LivePreviewer
from dpp.operations.change.sides import Side, Sides, own_command, own_variables

_HUNG_SECONDS: Final = 4 * 3600.0
"""What still applies a stack then does so no more: nothing takes so long."""
_ASK_SECONDS: Final = 600.0
_ATTEMPTS: Final = 6
_SHOWN: Final = 4
"""How many objects that hold data are named."""
_PAUSE_SECONDS: Final = 20.0
"""Workloads that roll and brokers that start again answer a little later."""
_ENDS_WITH_US: Final = ("setpriv", "--pdeathsig", "KILL")
"""Whoever applies is killed: then nothing of it goes on, and the engine settles what was cut short when it is continued."""
_WRONG: Final = ("✗ ", "dpp: ")
"""How `dpp` begins the lines that say what went wrong."""


@dataclass(frozen=True)
class Taken:
    """What came of taking a stack away.

    Parameters
    ----------
    trouble
        Why it could not be; empty where it could.
    stays
        What is still as the change made it.
    """

    trouble: str = ""
    stays: tuple[str, ...] = ()


class Hands(Protocol):
    """Does what is to be done; each answers why it could not, and nothing where it could."""

    def up(self, side: Name, stack: str) -> str:
        """Apply the programs of a side to a stack."""

    def take_away(self, stack: str) -> Taken:
        """Take away a stack that the change added, by the change's own program, unless data would go with it."""

    def left(self, side: Name, stack: str) -> str:
        """Say what the programs of a side would still do to a stack."""

    def ask(self, side: Name, service: str) -> str:
        """Ask a service to do a small piece of its work."""


class OwnHands:
    """Runs ``dpp`` of the trees of both sides.

    Parameters
    ----------
    environment
        Its name.
    sides
        Both sides.
    live
        Asks the engine.
    tell
        Is told of every line that is said.
    """

    def __init__(self, environment: str, sides: Sides, live: LivePreviewer, tell: Callable[[str], None]) -> None:
        self._environment, self._live, self._tell = environment, live, tell
        self._sides: dict[Name, Side] = {"base": sides.base, "head": sides.head}

    def up(self, side: Name, stack: str) -> str:
        """Apply the programs of a side to a stack, by that side's own ``dpp up``."""
        unit = stack.partition(".")[2]
        return self._told(side, "up", self._environment, "--yes", f"--only={unit}")

    def take_away(self, stack: str) -> Taken:
        """Take away a stack that the change added, by the change's own ``dpp stack destroy``, unless data would go with it."""
        backend = self._live.stacks(self._sides["head"]).backend
        before = Added.of(backend.checkpoint(stack))
        if before.data:
            return Taken(str(self._holds_data(stack, before)))
        if not before.objects:  # its program never came so far, or somebody was here
            return Taken()
        trouble = self._told("head", "stack", "destroy", stack, "--yes")
        if not trouble and Added.of(backend.checkpoint(stack)).objects:
            trouble = "its state still has objects after they were destroyed"
        return Taken(trouble, before.stays)

    def _holds_data(self, stack: str, added: Added) -> FatalError:
        shown = [*added.data[:_SHOWN], *([f"{len(added.data) - _SHOWN} more"] if len(added.data) > _SHOWN else [])]
        destroy = f"dpp stack destroy {stack} --yes"
        return FatalError(
            "what the change added",
            f"left as it is, since data would go with it: {', '.join(shown)}",
            "an added stack without data, which is taken away",
            f"save what is wanted of it, then, in a checkout of {self._sides['head'].name[:12]}: "
            f'dpp change break-glass {self._environment} --reason "..." -- {destroy}',
        )

    def _told(self, side: Name, *command: str) -> str:
        """Run ``dpp`` of a side, tell each of its lines, and return what went wrong."""
        words, tree = self._dpp(*command), self._sides[side]
        said: list[str] = []
        try:
            for line in lines(words, timeout=_HUNG_SECONDS, env=own_variables(tree), cwd=tree.root):
                self._tell(line)
                said.append(line.strip())
        except CommandFailedError as error:
            return _reason(said) or str(error)
        except DppError as error:
            return str(error)
        return ""

    def left(self, side: Name, stack: str) -> str:
        """Say what the programs of a side would still do to a stack."""
        return self._live.left(self._sides[side], stack)

    def ask(self, side: Name, service: str) -> str:
        """Ask a service by that side's own ``dpp service check``, several times where it does not answer at once."""
        reason = ""
        for attempt in range(_ATTEMPTS):
            if attempt:
                time.sleep(_PAUSE_SECONDS)
            if not (reason := self._asked(self._sides[side], service)):
                return ""
            self._tell(f"{service}: {reason}")
        return reason

    def _asked(self, tree: Side, service: str) -> str:
        words = self._dpp("service", "check", service, f"--environment={self._environment}", "--json")
        try:
            done = run(words, timeout=_ASK_SECONDS, env=own_variables(tree), cwd=tree.root, check=False)
            answer = json.loads(done.stdout) if done.stdout.strip() else {}
        except (DppError, json.JSONDecodeError) as error:
            return str(error)
        return str(answer.get("reason") or (done.said if done.code else ""))

    @staticmethod
    def _dpp(*words: str) -> list[str]:
        return [*_ENDS_WITH_US, *own_command(*words)]


def _reason(said: list[str]) -> str:
    """Return what a command said went wrong, or what it said last."""
    wrong = [line.removeprefix(word) for line in said for word in _WRONG if line.startswith(word)]
    return "; ".join(dict.fromkeys(wrong)) or " ".join(said[-3:])
