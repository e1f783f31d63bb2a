"""The visits before the first night, which became the templates."""

from __future__ import annotations

from workloads.common.plan import Field
from workloads.pixels.simulator import Conditions, conditions

EPOCHS = 6
"""Visits of a field that its templates are made of."""
_SEED = 90210


def conditions_of(camera_seed: int, field: Field, epoch: int) -> Conditions:
    """Return the atmosphere of one epoch of a field."""
    return conditions(_SEED + camera_seed % 100000, field.number * 100 + epoch)
