"""What processes of pipetask are forked with: the server that imports it passes over names that are not there."""

import importlib.util

import pytest

from workloads.calibration.pipetask import PRELOADED


@pytest.mark.parametrize("name", PRELOADED)
def test_every_module_that_is_imported_beforehand_exists(name):
    assert importlib.util.find_spec(name)
