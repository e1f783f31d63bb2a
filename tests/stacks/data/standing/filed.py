"""The provider of this repository, with its own kinds and its own question for a permit; but every object is a file.

Their folder is named by DPP_TEST_OBJECTS. What only an environment can tell (identities, digests of images) is drawn by lot
once, and then stays. A file `fails` there names a resource whose changes fail; a file `kill` names one over whose change
the process that it also names is killed.
"""

import hashlib
import json
import os
import signal
import sys
import threading
import uuid
from functools import cache
from pathlib import Path

from dpp.adapters.orphans import end, end_with_parent
from dpp.model.errors import FatalError
from dpp.provider import server
from dpp.provider.resource import Observation, Resource
from dpp.provider.resources import resource_of

FOLDER = Path(os.environ["DPP_TEST_OBJECTS"])


def named(what):
    path = FOLDER / what
    return path.read_text().split() if path.exists() else []


class Filed(Resource):
    """An object of a kind, in a file."""

    def __init__(self, kind):
        self.kind = kind

    def path(self, urn):
        name = urn.rpartition("::")[2]
        return (
            FOLDER
            / f"{self.kind.__name__}-{hashlib.sha256(name.encode()).hexdigest()[:8]}-{name.replace('/', '-')}.json"
        )

    def outputs(self, urn, wanted, known):
        if "references" in self.kind.outputs:
            of = getattr(wanted, "sources", None) or getattr(wanted, "recipes", {})
            return {
                "references": {
                    name: f"{wanted.registry}/dpp/{name}@sha256:{hashlib.sha256(digest.encode()).hexdigest()}"
                    for name, digest in of.items()
                }
            }
        if "identity" in self.kind.outputs:
            return {"identity": known.get("identity") or uuid.uuid4().hex}
        return {"changes": 7} if "changes" in self.kind.outputs else dict.fromkeys(self.kind.outputs, urn)

    def write(self, urn, wanted):
        name = urn.rpartition("::")[2]
        with (FOLDER / "deeds").open("a") as deeds:
            deeds.write(f"{name}\n")
        if name in named("kill"):
            (FOLDER / "kill").rename(FOLDER / "killed")
            os.kill(int(named("killed")[1]), signal.SIGKILL)
            threading.Event().wait()  # who was killed takes this along
        if name in named("fails"):
            raise FatalError(name, "it was told to fail", "to be spared")
        path = self.path(urn)
        known = json.loads(path.read_text()) if path.exists() else {"outputs": {}}
        outputs = self.outputs(urn, wanted, known["outputs"])
        path.with_suffix(".new").write_text(json.dumps({"inputs": wanted.given(), "outputs": outputs}, default=dict))
        path.with_suffix(".new").rename(path)
        return outputs

    def create(self, urn, wanted, progress):
        progress("filing it")
        return urn.rpartition("::")[2], self.write(urn, wanted)

    def read(self, urn, identifier, state):
        path = self.path(urn)
        if not path.exists():
            return None
        found = json.loads(path.read_text())
        return Observation(found["inputs"], found["outputs"])

    def update(self, urn, identifier, state, wanted, progress):
        return self.write(urn, wanted)

    def delete(self, urn, identifier, state):
        with (FOLDER / "deeds").open("a") as deeds:
            deeds.write(f"{urn.rpartition('::')[2]}\n")
        self.path(urn).unlink(missing_ok=True)


@cache
def filed(token):
    return Filed(resource_of(token).kind)


end_with_parent()
signal.signal(signal.SIGINT, lambda *_: end(0))
running, port = server.start(server.Provider(sys.argv[-1], filed))
print(port, flush=True)
running.wait_for_termination()
