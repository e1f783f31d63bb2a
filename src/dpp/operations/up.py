"""Bring the stacks of an environment to what it declares, those side by side that do not need each other."""

from __future__ import annotations

import time
from collections.abc import Collection
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from typing import Any

from dpp.adapters.progress import Reporter
from dpp.adapters.pulumi.events import Listener, Result, ignore
from dpp.adapters.pulumi.stacks import Stacks
from dpp.adapters.secrets import Secrets
from dpp.model.environment import Environment
from dpp.model.errors import DppError
from dpp.model.principals import Principals
from dpp.model.rights import gone
from dpp.model.units import NEEDS, UNITS
from dpp.operations.products import exchange_products
from dpp.operations.stacks import stacks_of


@dataclass
class Applied:
    """How an environment's stacks ended.

    Parameters
    ----------
    environment
        Its name.
    results
        One for each stack that was begun, in the order in which they ended.
    begun
        By stack, seconds from the start of the operation to its own.
    seconds
        How long all took together.
    """

    environment: str
    results: list[Result] = field(default_factory=list)
    begun: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def changes(self) -> int:
        """Number of resources that changed."""
        return sum(result.changes for result in self.results)

    @property
    def ok(self) -> bool:
        """Whether every stack was done."""
        return all(result.ok for result in self.results)

    def rows(self) -> list[dict[str, Any]]:
        """Return when each stack began, how long it took and how it ended."""
        return [
            {
                "stack": result.stack,
                "began": round(self.begun[result.stack], 1),
                "seconds": round(result.seconds, 1),
                "changes": result.changes,
                "ok": result.ok,
            }
            for result in self.results
        ]

    def as_json(self) -> dict[str, Any]:
        """Return it for programs."""
        return {
            "environment": self.environment,
            "stacks": [result.as_json() for result in self.results],
            "rows": self.rows(),
            "changes": self.changes,
            "seconds": round(self.seconds, 1),
            "ok": self.ok,
        }


def up(
    environment: Environment,
    listener: Listener = ignore,
    *,
    only: Collection[str] = (),
    refresh: bool = False,
    parallel: int = 8,
    wait_for_lock: bool = False,
) -> Applied:
    """Apply the stacks of an environment; after one that fails no other begins, and running again goes on there.

    Where all were applied, passwords of those who are no principals any more are deleted.

    Parameters
    ----------
    listener
        Is told of every stack's events, from several threads.
    only
        Units to apply; all of them by default.

    Raises
    ------
    FatalError
        If the environment may not be applied.
    """
    environment.require_apply()
    stacks = stacks_of(environment, parallel=parallel, wait=wait_for_lock)
    chosen = [unit for unit in UNITS if not only or unit in only]
    applied = _Run(environment, stacks, listener, refresh).all(chosen)
    if applied.ok and not only:  # nobody knows them any more: neither hosts nor clusters
        secrets = Secrets(environment.folders.secrets)
        for name in gone(Principals.load(environment), secrets.passwords()):
            secrets.forget(name)
    return applied


class _Run:
    """One run over the stacks."""

    def __init__(self, environment: Environment, stacks: Stacks, listener: Listener, refresh: bool) -> None:
        self._environment, self._stacks, self._listener, self._refresh = environment, stacks, listener, refresh
        self._applied = Applied(environment.name)
        self._began = time.monotonic()

    def all(self, units: Collection[str]) -> Applied:
        """Apply `units`, each once what it needs stands."""
        order = TopologicalSorter({unit: [need for need in NEEDS[unit] if need in units] for unit in units})
        order.prepare()
        running: dict[Future[Result], str] = {}
        with ThreadPoolExecutor(len(units)) as pool:
            try:
                while order.is_active() and (running or self._applied.ok):
                    if self._applied.ok:
                        running |= {pool.submit(self._one, unit): unit for unit in order.get_ready()}
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        self._applied.results.append(future.result())
                        order.done(running.pop(future))
            except KeyboardInterrupt:
                self._finish(running)
                raise
        self._applied.seconds = time.monotonic() - self._began
        return self._applied

    def _finish(self, running: Collection[Future[Result]]) -> None:
        """Have all that runs finish its steps; where somebody insists, end at once."""
        while not all(future.done() for future in running):
            self._stacks.interrupt()
            with suppress(KeyboardInterrupt):
                wait(running)

    def _one(self, unit: str) -> Result:
        stack = f"{self._applied.environment}.{unit}"
        self._applied.begun[stack] = time.monotonic() - self._began
        try:
            if unit == "workloads" and self._environment.made:  # before a Job begins to make what is kept
                exchange_products(self._environment, self._environment.folders, Reporter(quiet=True))
            return self._stacks.up(stack, self._listener, refresh=self._refresh)
        except DppError as error:  # the others finish what they are at
            return Result("up", stack, errors=[str(error)])
