"""A provider that pretends: what it is asked to make is there at once, and nothing is touched.

Started by the engine in place of the real one, for stacks in a throw-away folder that ``DPP_THROW_AWAY`` names; it refuses
any other. Kinds and their comparison are those of the tree on PYTHONPATH.
"""

from __future__ import annotations

import os
import signal
import sys
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from google.protobuf import empty_pb2

from dpp.adapters.orphans import end, end_with_parent
from dpp.model.errors import FatalError
from dpp.provider.kinds import UNKNOWN, Kind
from dpp.provider.resource import Observation, Progress, Properties, Resource
from dpp.provider.resources import resource_of
from dpp.provider.server import Provider, start
from dpp.provider.values import has_unknown

MARK = ".throw-away"
"""File of a folder whose stacks are pretended."""


def require_throw_away() -> None:
    """Refuse, by a ``FatalError``, to serve stacks that are not in the throw-away folder."""
    named = os.environ.get("DPP_THROW_AWAY", "")
    place = Path(unquote(urlsplit(os.environ.get("PULUMI_BACKEND_URL", "")).path))
    inside = bool(named) and place.is_relative_to(named) and (Path(named) / MARK).is_file()
    if not inside:
        expected = f"stacks below the folder that DPP_THROW_AWAY names, which has a file {MARK}"
        raise FatalError("provider that pretends", f"stacks in {place}", expected, "start it by dpp change plan alone")


def _outputs(kind: type[Kind], urn: str, wanted: Any) -> Properties:
    if "references" in kind.outputs:
        of = getattr(wanted, "sources", None) or getattr(wanted, "recipes", {})
        return {"references": {name: f"{wanted.registry}/dpp/{name}@{digest}" for name, digest in of.items()}}
    if "identity" in kind.outputs:
        return {"identity": f"machine {wanted.host}"}
    return dict.fromkeys(kind.outputs, urn)


class _Pretended(Resource[Kind]):
    """Remembers what it was told, in the engine's state and nowhere else."""

    def __init__(self, real: Resource[Any]) -> None:
        self._real = real
        self.kind = real.kind  # type: ignore[misc]  # of one object here, of a class elsewhere

    def refuse(self, state: Properties, wanted: Kind) -> None:
        """Refuse what the real provider refuses."""
        self._real.refuse(state, wanted)

    def create(self, urn: str, wanted: Kind, progress: Progress) -> tuple[str, Properties]:
        """Say that it is made."""
        del progress
        return urn.rpartition("::")[2], _outputs(self.kind, urn, wanted)

    def read(self, urn: str, identifier: str, state: Properties) -> Observation | None:
        """Find what is recorded."""
        del urn, identifier
        return Observation(self.seen(state), {key: state[key] for key in self.kind.outputs if key in state})

    def update(self, urn: str, identifier: str, state: Properties, wanted: Kind, progress: Progress) -> Properties:
        """Say that it is changed."""
        del identifier, state
        return self.create(urn, wanted, progress)[1]

    def delete(self, urn: str, identifier: str, state: Properties) -> None:
        """Say that it is gone."""
        del urn, identifier, state


@cache
def _pretended(token: str) -> Resource[Any]:
    return _Pretended(resource_of(token))


class Pretending(Provider):
    """The provider's own answers to checks and comparisons; what it does is pretended."""

    def _permitted(self, urn: str, given: Properties) -> Kind:
        require_throw_away()
        known: Kind = self._wanted(urn, _without_unknown(given) if has_unknown(given) else given)
        return known

    def Delete(self, request: Any, context: Any) -> Any:  # noqa: N802 - the protocol's name
        """Say that it is gone."""
        del request, context
        require_throw_away()
        return empty_pb2.Empty()


def _without_unknown(given: Properties) -> Properties:
    return {key: "" if value is UNKNOWN else value for key, value in given.items()}


def main() -> int:
    """Serve the engine whose address is the last argument."""
    try:
        require_throw_away()
    except FatalError as error:
        print(error, file=sys.stderr)
        return 1
    end_with_parent()
    signal.signal(signal.SIGINT, lambda *_: end(0))
    server, port = start(Pretending(sys.argv[-1], _pretended))
    print(port, flush=True)
    server.wait_for_termination()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
