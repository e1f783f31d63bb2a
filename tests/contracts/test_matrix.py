"""What is derived for the systems agrees with every cell of the matrix, which is read from the contracts by itself."""

from __future__ import annotations

from fnmatch import fnmatchcase

import pytest

from dpp.model import rights
from dpp.model.environment import Environment
from dpp.model.principals import Principals
from lab.cells import Cell, cells

_ACTIONS = {"read": "s3:GetObject", "write": "s3:PutObject", "delete": "s3:DeleteObject", "list": "s3:ListBucket"}
_IMPLIED = {"read": {"read", "all"}, "write": {"write", "all"}, "commit": {"read"}, "describe": {"read", "describe"}}


@pytest.fixture(scope="module", params=["lab", "production"])
def principals(request: pytest.FixtureRequest) -> Principals:
    return Principals.load(Environment.load(request.param))


def derived(principals: Principals, cell: Cell) -> bool:
    """Say whether what is derived for a system allows what a cell is about."""
    if cell.system == "kafka":
        return any(
            right.user == cell.principal
            and right.kind == cell.kind.replace(" ", "_")
            and fnmatchcase(cell.thing, right.name)
            and right.operation in _IMPLIED[cell.verb]
            for right in rights.kafka_rights(principals, cell.site)
        )
    if cell.system == "store":
        thing = f"arn:aws:s3:::{cell.kind}" + ("" if cell.verb == "list" else f"/{cell.thing}")
        policies = rights.bucket_policies(principals, cell.site)
        return any(
            statement["Principal"]["AWS"] == [cell.principal]
            and _ACTIONS[cell.verb] in statement["Action"]
            and any(fnmatchcase(thing, resource) for resource in statement["Resource"])
            for statement in policies.get(cell.kind, {"Statement": []})["Statement"]
        )
    [one] = [
        one for one in rights.databases_on(principals, principals.database_host(cell.thing)) if one.name == cell.thing
    ]
    return cell.principal in (one.writers if cell.verb == "write" else {*one.writers, *one.readers})


def test_every_cell_is_derived_as_the_contracts_say(principals: Principals) -> None:
    found = cells(principals)
    assert len(found) > 1000
    wrong = [cell for cell in found if derived(principals, cell) != cell.allowed]
    assert not wrong
