"""The messages and services of the engine's plugin protocol, without the SDK around them.

Importing the SDK takes a second, in each of many processes that need only these. They are the same files: the SDK's own
package of them is loaded under another name, whose parents need not be imported.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

_NAME = "dpp_pulumi_protocol"


def protocol(module: str) -> Any:
    """Return a module of the protocol, such as ``provider_pb2``."""
    if _NAME not in sys.modules:
        sdk = find_spec("pulumi")
        assert sdk is not None  # noqa: S101 - the environment is locked
        assert sdk.origin is not None  # noqa: S101 - as above
        package = ModuleType(_NAME)
        package.__path__ = [str(Path(sdk.origin).parent / "runtime/proto")]
        sys.modules[_NAME] = package
    return import_module(f"{_NAME}.{module}")
