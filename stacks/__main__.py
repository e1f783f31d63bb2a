"""Find the unit that the stack's name asks for and provision it: ``lab.summit-storage`` is unit `summit_storage` of `lab`."""

from importlib import import_module

import pulumi

from dpp.model.environment import Environment
from dpp.model.errors import UsageError
from dpp.model.names import kebab, snake
from dpp.model.units import UNITS

environment, _, unit = pulumi.get_stack().partition(".")
if unit not in UNITS:
    expected = f"<environment>.<unit>, the unit one of {', '.join(UNITS)}"
    raise UsageError(f"stack {pulumi.get_stack()}", f"unit {unit!r}", expected)
import_module(f"units.{snake(unit)}").provision(Environment.load(kebab(environment)))
