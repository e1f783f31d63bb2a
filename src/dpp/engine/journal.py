"""The state while an operation runs: every step is on disk before it begins and after it ended."""

from __future__ import annotations

from collections.abc import Callable

from dpp.engine.backend import Backend
from dpp.engine.events import Event, Listener
from dpp.engine.state import Operation, OperationType, Resource, State

_VOLATILE = frozenset({"modified", "created", "sourcePosition", "stackTrace"})


class Journal:
    """Keeps a state and its file together.

    Resources that this operation has dealt with stand before those that it has not: so everything stands behind what it
    needs, at every instant.

    Parameters
    ----------
    state
        What the stack had when the operation began.
    backend
        Where it is written; nowhere in a preview.
    emit
        Told whenever the state is on disk.
    """

    def __init__(self, state: State, backend: Backend | None, emit: Listener) -> None:
        self.state = state
        self._backend = backend
        self._emit = emit
        self._done: list[Resource] = []
        self._left = list(state.resources)
        self._living = {resource.urn: resource for resource in state.resources if not resource.condemned}
        self._stale = False

    @property
    def left(self) -> list[Resource]:
        """What this operation has not dealt with, in order."""
        return list(self._left)

    def old(self, urn: str) -> Resource | None:
        """Return what the stack has under that URN."""
        return self._living.get(urn)

    def begin(self, resource: Resource, type_: OperationType) -> Operation:
        """Note that a step begins, durably."""
        operation = Operation(resource, type_)
        self.state.pending.append(operation)
        self._stale = True
        self.save()
        return operation

    def end(self, operation: Operation, change: Callable[[], None]) -> None:
        """Note that a step ended and what it changed, durably."""
        self.state.pending.remove(operation)
        change()
        self._stale = True
        self.save()

    def add(self, new: Resource, old: Resource | None = None) -> None:
        """Put `new` in the place of `old`; `save` writes it."""
        self._stale = self._stale or old is None or _differs(new, old)
        self._done.append(new)
        self._living[new.urn] = new
        if old is not None:
            self._remove(old)

    def amend(self, new: Resource, old: Resource) -> None:
        """Replace `old` where it stands."""
        self._stale = self._stale or _differs(new, old)
        for resources in (self._done, self._left):
            for index, found in enumerate(resources):
                if found is old:
                    resources[index] = new
        if self._living.get(old.urn) is old:
            self._living[new.urn] = new

    def condemn(self, old: Resource) -> None:
        """Mark `old` as the old half of a replacement; a new half that stands already stays the living one."""
        condemned = old.with_fields(delete=True)
        self.amend(condemned, old)
        if self._living.get(old.urn) is condemned:
            del self._living[old.urn]

    def adopt(self, new: Resource) -> None:
        """Add a resource that the state did not know and that this operation has not dealt with."""
        self._left.append(new)
        self._living[new.urn] = new
        self._stale = True

    def drop(self, old: Resource) -> None:
        """Forget a resource."""
        self._remove(old)
        if self._living.get(old.urn) is old:
            del self._living[old.urn]
        self._stale = True

    def save(self, *, always: bool = False) -> None:
        """Write the state if anything changed."""
        self.state.resources = [*self._done, *self._left]
        if (self._stale or always) and self._backend:
            self._backend.write(self.state.stack, self.state.text())
            self._emit(Event("checkpoint"))
        self._stale = False

    def _remove(self, old: Resource) -> None:
        self._done = [resource for resource in self._done if resource is not old]
        self._left = [resource for resource in self._left if resource is not old]


def _differs(new: Resource, old: Resource) -> bool:
    if new.inputs != old.inputs or new.outputs != old.outputs:
        return True
    keys = (new.fields.keys() | old.fields.keys()) - _VOLATILE
    return any(new.fields.get(key) != old.fields.get(key) for key in keys)
