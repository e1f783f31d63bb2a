"""Print as JSON what the tree on PYTHONPATH declares and would deploy in one environment: ``state.py ENVIRONMENT UNIT...``.

Run by a review once for each side of a change, each time with the code of that side: it imports nothing but the model, the
renderers and the stacks' programs. Secrets are known by name only.
"""

from __future__ import annotations

import asyncio
import contextvars
import hashlib
import json
import runpy
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from pulumi.runtime import mocks
from pulumi.runtime.stack import wait_for_rpcs

from dpp.adapters.secrets import Secrets
from dpp.model import rights, sources
from dpp.model.environment import Environment
from dpp.model.errors import DppError
from dpp.model.folders import REPOSITORY
from dpp.model.loading import SINGLES, TABLES
from dpp.model.principals import Principals
from dpp.model.services import Catalogue
from dpp.model.units import UNITS

Row = dict[str, Any]
_STACKS = REPOSITORY / "stacks"


# -- what stacks register ------------------------------------------------------------------------------------------------


class _Answers(mocks.Mocks):
    """Takes notes of what programs register, and answers as a provider that pretends."""

    def __init__(self) -> None:
        self.noted: list[Row] = []

    def new_resource(self, args: Any) -> tuple[str, dict[str, Any]]:
        inputs = {key: _as_given(value) for key, value in args.inputs.items() if value is not None}
        if args.custom:
            self.noted.append({"type": args.typ, "name": args.name, "inputs": inputs})
        return args.name, args.inputs | _outputs(args.typ, args.name, inputs)

    def call(self, args: Any) -> tuple[dict[Any, Any], None]:
        del args
        return {}, None


def _as_given(value: Any) -> Any:
    """Return a value as a program gave it: the engine's protocol has no whole numbers, and 5 comes as 5.0."""
    if isinstance(value, dict):
        return {key: _as_given(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_as_given(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _outputs(kind: str, name: str, inputs: dict[str, Any]) -> dict[str, Any]:
    if kind == "dpp:machines:Machine":
        return {"identity": f"machine {name}"}
    if kind == "dpp:images:WorkloadImages":
        registry = inputs["registry"]
        return {"references": {flavour: f"{registry}/dpp/{flavour}@{source}" for flavour, source in inputs["sources"].items()}}  # fmt: skip
    return {}


async def _registered(stack: str) -> list[Row]:
    """Return the resources that the program of a stack registers."""
    answers = _Answers()
    mocks.set_mocks(answers, project="observatory", stack=stack, preview=False)
    runpy.run_path(str(_STACKS / "__main__.py"), run_name="__main__")
    await wait_for_rpcs()
    return sorted(answers.noted, key=lambda row: (row["type"], row["name"]))


def _resources(environment: str, units: Sequence[str]) -> tuple[dict[str, list[Row]], dict[str, str]]:
    """Return the resources of each stack, and why there are none of those whose program fails."""
    sys.path.insert(0, str(_STACKS))
    found: dict[str, list[Row]] = {}
    failed: dict[str, str] = {}
    for unit in units:
        stack = f"{environment}.{unit}"
        try:
            found[stack] = contextvars.copy_context().run(asyncio.run, _registered(stack))
        except Exception as error:  # noqa: BLE001 - whatever a program under review raises is what the reviewer is told
            failed[stack] = str(error) if isinstance(error, DppError) else f"{type(error).__name__}: {error}"
    return found, failed


def _name_secrets() -> None:
    """Let digests of secrets tell which they are of, and no more."""
    setattr(Secrets, "digest", lambda _, names: hashlib.sha256("\0".join(names).encode()).hexdigest()[:16])  # noqa: B010
    setattr(Secrets, "bundle", lambda _: "authorities")  # noqa: B010


# -- what is declared ----------------------------------------------------------------------------------------------------


def _nouns(environment: Environment, catalogue: Catalogue) -> Iterator[Row]:
    origin = sources.read(environment.folder, REPOSITORY)
    for variable, (table, _, _) in TABLES.items():
        for name, value in getattr(environment, table).items():
            yield _noun(_singular(table), name, value, origin.place((variable, name)).file)
    for variable, (field, _) in SINGLES.items():
        yield _noun("setting", field, getattr(environment, field), origin.place((variable,)).file)
    for name, host in environment.hosts.items():
        yield _noun("host", name, host, origin.place((name,)).file)
    for one in origin.variables:
        if not one.name.startswith("dpp_"):
            yield _noun("setting", f"{one.scope}/{one.name}", one.value, one.place.file)
    for service in catalogue.services.values():
        yield from _of_service(service)


def _of_service(service: Any) -> Iterator[Row]:
    file = f"services/{service.name}.yml"
    parts = {"objectives", "contracts", "dependencies"}
    yield _noun("service", service.name, service.model_dump(mode="json", exclude=parts), file)
    for number, objective in enumerate(service.objectives, 1):
        yield _noun("objective", f"{service.name}/{objective.requirement}-{number}", objective, file)
    for name, contract in service.contracts.items():
        yield _noun("contract", name, contract.model_dump(mode="json", exclude={"topics"}), file)
        for role, topic in contract.topics.items():
            yield _noun("topic", role, topic, file)


def _singular(table: str) -> str:
    return table if table in {"storage", "outside"} else table.removesuffix("s")


def _noun(kind: str, name: str, value: Any, file: str) -> Row:
    plain = value.model_dump(mode="json") if hasattr(value, "model_dump") else value
    if kind == "host":
        plain["groups"] = sorted(plain["groups"])
    return {"kind": kind, "name": name, "value": plain, "file": file}


def _services(catalogue: Catalogue) -> dict[str, Row]:
    return {
        one.name: {
            **{key: getattr(one, key) for key in ("title", "tier", "owner", "status", "runbook")},
            **{key: sorted(getattr(one, key)) for key in ("dependencies", "roles", "manifests", "contracts")},
        }
        for one in catalogue.services.values()
    }


# -- who may do what -----------------------------------------------------------------------------------------------------


def _rights(principals: Principals) -> Iterator[tuple[str, str, str]]:
    """Yield principal, verb and resource of every right that follows from contracts and settings."""
    environment = principals.environment
    for site in environment.sites:
        for right in rights.kafka_rights(principals, site):
            yield right.user, right.operation, f"{right.kind} {right.name} of Kafka at {site}"
        for grant in rights.grants_at(principals, site):
            for verb in grant.verbs:
                yield grant.user, verb, f"bucket {grant.bucket}/{grant.prefix} of the store at {site}"
    for host in environment.hosts_of(group="postgresql"):
        for database in rights.databases_on(principals, host.name):
            for verb, users in (("write", database.writers), ("read", database.readers)):
                yield from ((user, verb, f"database {database.name} on {host.name}") for user in users)
    for name, places in principals.present.items():
        for site in places:
            secrets = rights.secrets_of(principals, name, site).values()
            yield from ((name, "know", f"secret {secret}") for secret in secrets)


def _open_ports(environment: Environment) -> Iterator[tuple[str, str, str]]:
    """Yield what hosts of each function let in from anywhere."""
    for variable in sources.read(environment.folder, REPOSITORY).variables:
        if variable.name == "base_system_open_ports":
            for group, rules in variable.value.items():
                if count := len(environment.hosts_of(group=group)):
                    hosts = f"{count} hosts" if count > 1 else "1 host"
                    yield from (("everyone", "reach", f"{rule} of {group} ({hosts})") for rule in rules)


def _routes(environment: Environment) -> Iterator[tuple[str, str, str]]:
    """Yield what sites may tell each other, as their border routers' lists of prefixes say."""
    from dpp.adapters.devices import intent  # noqa: PLC0415

    for router in environment.hosts_of(group="border_router"):
        for neighbor in intent(environment, router.name).neighbors:
            for prefix in neighbor.accept.prefixes:
                yield f"site {neighbor.site}", "announce", f"{prefix} to {router.site}"


def _night(environment: Environment) -> dict[str, dict[str, Any]]:
    """Return what a night adds to each cluster, by key of the object."""
    from dpp.adapters.kubernetes import Key  # noqa: PLC0415
    from dpp.rendering.clusters import K8S, NIGHT, night_objects  # noqa: PLC0415

    there = [one for one in environment.clusters.values() if (K8S / "clusters" / environment.name / one.name / NIGHT).is_dir()]  # fmt: skip
    return {
        cluster.name: {str(Key.of(one)): one for objects in night_objects(environment, cluster).values() for one in objects}
        for cluster in there
    }  # fmt: skip


def _roles() -> dict[str, str]:
    """Return a digest of each role's files that reach a host, and of those of roles whose tasks it runs."""
    from dpp.rendering.hosts import role_digest  # noqa: PLC0415 - a tree may be older than it

    return {path.name: role_digest(path.name) for path in sorted((REPOSITORY / "roles").iterdir()) if path.is_dir()}


def state(name: str, units: Sequence[str]) -> Row:
    """Return all that there is to know of an environment of this tree."""
    environment, catalogue = Environment.load(name), Catalogue.load()
    principals = Principals.load(environment)
    resources, failed = _resources(name, [unit for unit in units or UNITS if unit in UNITS])
    found = {*_rights(principals), *_open_ports(environment), *_routes(environment)}
    try:
        roles = _roles()
    except ImportError:
        roles = {}
    return {
        "environment": name,
        "apply": environment.provisioning.apply,
        "stacks": [f"{name}.{unit}" for unit in units or UNITS],  # keys are sorted where this is written down
        "resources": resources,
        "failed": failed,
        "night": _night(environment),
        "nouns": list(_nouns(environment, catalogue)),
        "rights": sorted(found),
        "services": _services(catalogue),
        "principals": dict(principals.services),
        "groups": {host: sorted(one.groups) for host, one in environment.hosts.items()},
        "roles": roles,
    }


def main() -> int:
    """Print the state of the environment that the arguments name, ``null`` where this tree has none of the name."""
    name, units = sys.argv[1], sys.argv[2:]
    if not (REPOSITORY / "inventories" / name / "hosts.yml").is_file():
        print("null")
        return 0
    _name_secrets()
    try:
        found = state(name, units)
    except DppError as error:
        print(error, file=sys.stderr)
        return 1
    json.dump(found, sys.stdout, default=str, sort_keys=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
