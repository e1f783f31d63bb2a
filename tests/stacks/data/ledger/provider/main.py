"""Our provider's server on objects that are files, so that tests can count them after a crash.

Every object carries the URN that owns it; `create` adopts only an object of its own URN, and works in two stages, so
that it can be cut short half way. Its folder holds what the tests look at: ``objects`` with one file for each object and
a ``.log`` of what was made and deleted, ``boundaries`` with a line for each call's start, end, and the middle of its work,
and ``kill``, which says at which of them who is to be killed: ``engine 12`` or ``provider Create base half``.
"""

import json
import os
import signal
import sys
import threading
import time
from functools import wraps
from pathlib import Path
from types import SimpleNamespace

from dpp.adapters.orphans import end, end_with_parent
from dpp.model.errors import FatalError
from dpp.provider import server
from dpp.provider.kinds import Kind
from dpp.provider.resource import Observation, Resource

HERE = Path(__file__).resolve().parents[2]
FOLDER = HERE / "objects"
CALLS = ("Check", "Diff", "Create", "Read", "Update", "Delete")
COUNTING = threading.Lock()


class Only(Kind):
    """An object whose name is its own alone."""

    token = "ledger:index:Only"
    replaces = frozenset({"place"})
    outputs = frozenset({"finished"})
    name: str
    place: object
    size: object
    secret: object


class Beside(Only):
    """An object that has a name per place, so that old and new may stand side by side."""

    token = "ledger:index:Beside"


def boundary(name):
    with COUNTING:
        with (HERE / "boundaries").open("a+") as file:
            file.write(f"{name}\n")
            file.seek(0)
            number = len(file.readlines())
        victim, _, at = (HERE / "kill").read_text().partition(" ") if (HERE / "kill").exists() else ("", "", "")
        if at in {str(number), name}:
            os.kill(os.getppid() if victim == "engine" else os.getpid(), signal.SIGKILL)
            threading.Event().wait()  # whoever was killed, nothing more is done here


def write(name, record):
    draft = FOLDER / f".{name}.{os.getpid()}"
    draft.write_text(json.dumps(record))
    draft.replace(FOLDER / name)


def load(name):
    path = FOLDER / name
    return json.loads(path.read_text()) if path.exists() else None


def note(what, name):
    with (FOLDER / ".log").open("a") as log:
        log.write(f"{what} {name}\n")


def pause():
    while (HERE / "pause").exists():
        time.sleep(0.01)


class Ledger(Resource):
    """What is done for both kinds."""

    def __init__(self, kind):
        self.kind = kind

    def find(self, wanted):
        return f"{wanted.name}-{wanted.place}" if self.kind is Beside else wanted.name

    def create(self, urn, wanted, progress):
        name = self.find(wanted)
        found = load(name)
        if found and found["urn"] != urn:
            raise FatalError(name, f"owned by {found['urn']}", "nobody")
        progress(f"writing {name}")
        write(name, {"urn": urn, "inputs": wanted.given(), "finished": False})
        if not found:
            note("create", name)  # after the fact: killed in between, nothing was made twice
        boundary(f"Create {name} half")
        pause()
        if wanted.place == "half":
            raise FatalError("place half", "the second stage failed")
        if wanted.place == "nowhere":
            (FOLDER / name).unlink()
            raise FatalError("place nowhere", "nothing can be there")
        write(name, {"urn": urn, "inputs": wanted.given(), "finished": True})
        return name, {"finished": True}

    def read(self, urn, identifier, state):
        found = load(identifier)
        if not found or found["urn"] != urn:
            return None
        return Observation(found["inputs"], {"finished": found["finished"]})

    def update(self, urn, identifier, state, wanted, progress):
        write(identifier, {"urn": urn, "inputs": wanted.given(), "finished": False})
        boundary(f"Update {identifier} half")
        write(identifier, {"urn": urn, "inputs": wanted.given(), "finished": True})
        return {"finished": True}

    def delete(self, urn, identifier, state):
        note("delete", identifier)  # before the fact: what is made after it is new
        boundary(f"Delete {identifier} half")
        (FOLDER / identifier).unlink(missing_ok=True)


def watched(method):
    @wraps(method)
    def call(self, request, context):
        called = f"{method.__name__} {request.urn.rpartition('::')[2]}"
        boundary(f"{called} begun")
        try:
            return method(self, request, context)
        finally:
            boundary(f"{called} over")

    return call


class Provider(server.Provider):
    """Counts the calls, and lets old and new of one kind stand beside each other."""

    def Diff(self, request, context):  # noqa: N802 - the protocol's name
        answer = super().Diff(request, context)
        answer.deleteBeforeReplace = answer.deleteBeforeReplace and ":Beside::" not in request.urn
        return answer


for call in CALLS:
    setattr(Provider, call, watched(getattr(Provider, call)))
server.environment = lambda _: SimpleNamespace(require_apply=lambda: None)
LEDGERS = {kind.token: Ledger(kind) for kind in (Only, Beside)}
end_with_parent()
signal.signal(signal.SIGINT, lambda *_: end(0))
running, port = server.start(Provider(sys.argv[-1], LEDGERS.__getitem__))
print(port, flush=True)
running.wait_for_termination()
