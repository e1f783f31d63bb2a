"""A provider whose objects are files, so that tests can count them after a crash.

Every object carries the URN that owns it; `create` adopts only an object of its own URN, and works in two stages with a
pause between, so that it can be cut short half way. `read` without an id finds the object that the URN and inputs name.
"""

import asyncio
import json
import os
import sys
from pathlib import Path

from pulumi.provider.experimental import provider as p
from pulumi.provider.experimental.property_value import PropertyValue as Value
from pulumi.provider.experimental.server import main

FOLDER = Path(os.environ["LEDGER"])
PAUSE = float(os.environ.get("LEDGER_PAUSE", "0.02"))


def plain(properties):
    return {key: value.value for key, value in properties.items()}


def name_of(urn, inputs):
    """Objects of kind Beside have a name per place, so that old and new may stand side by side; others have one."""
    name = urn.rpartition("::")[2]
    return f"{name}-{inputs['place']}" if ":Beside::" in urn else name


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


def outputs(record):
    return {key: Value(value) for key, value in {**record["inputs"], "finished": record["finished"]}.items()}


class Ledger(p.Provider):
    async def get_schema(self, request):  # noqa: ARG002 - the protocol's
        return p.GetSchemaResponse(schema='{"name":"ledger","version":"0.1.0"}')

    async def check_config(self, request):
        return p.CheckResponse(inputs=request.new_inputs, failures=[])

    async def diff_config(self, request):  # noqa: ARG002 - the protocol's
        return p.DiffResponse()

    async def configure(self, request):  # noqa: ARG002 - the protocol's
        return p.ConfigureResponse()

    async def check(self, request):
        failures = []
        if "place" not in request.new_inputs:
            failures.append(p.CheckFailure(property="place", reason="missing; expected a place"))
        return p.CheckResponse(inputs=request.new_inputs, failures=failures)

    async def diff(self, request):
        old, new = plain(request.old_state), plain(request.new_inputs)
        changed = [key for key in ("place", "size", "token") if old.get(key) != new.get(key)]
        replaces = [key for key in changed if key == "place"]
        return p.DiffResponse(changes=bool(changed), diffs=changed, replaces=replaces)

    async def create(self, request):
        inputs = plain(request.properties)
        name = name_of(request.urn, inputs)
        found = load(name)
        if found and found["urn"] != request.urn:
            raise ValueError(f"{name}: owned by {found['urn']}; expected nobody")
        write(name, {"urn": request.urn, "inputs": inputs, "finished": False})
        if not found:
            note("create", name)  # after the fact: killed in between, nothing was made twice
        await asyncio.sleep(PAUSE)
        if inputs["place"] == "half":
            raise ValueError("place half: the second stage failed")
        if inputs["place"] == "nowhere":
            (FOLDER / name).unlink()
            raise ValueError("place nowhere: nothing can be there")
        record = {"urn": request.urn, "inputs": inputs, "finished": True}
        write(name, record)
        await asyncio.sleep(PAUSE)
        return p.CreateResponse(resource_id=name, properties=outputs(record))

    async def update(self, request):
        record = {"urn": request.urn, "inputs": plain(request.news), "finished": False}
        write(request.resource_id, record)
        await asyncio.sleep(PAUSE)
        write(request.resource_id, record | {"finished": True})
        return p.UpdateResponse(properties=outputs(record | {"finished": True}))

    async def read(self, request):
        name = request.resource_id or name_of(request.urn, plain(request.inputs))
        found = load(name)
        if not found or found["urn"] != request.urn:
            return p.ReadResponse(resource_id="", properties={}, inputs={})
        return p.ReadResponse(resource_id=name, properties=outputs(found), inputs=request.inputs)

    async def delete(self, request):
        await asyncio.sleep(PAUSE)
        note("delete", request.resource_id)  # before the fact: what is made after it is new
        (FOLDER / request.resource_id).unlink(missing_ok=True)
        await asyncio.sleep(PAUSE)


main(sys.argv[1:], "0.1.0", Ledger())
