"""Files of ``changes/`` become what they declare, or an error that says what is wrong with them."""

from __future__ import annotations

from typing import TypeVar

import yaml
from pydantic import ValidationError

from dpp.model.errors import FatalError
from dpp.model.types import Model

_LONGEST = 400
M = TypeVar("M", bound=Model)


def parsed(model: type[M], text: str, origin: str, expected: str, remedy: str = "correct it") -> M:
    """Return what a text in YAML declares; one that says nothing declares an empty mapping.

    Raises
    ------
    FatalError
        If it is no YAML, or not what the model wants: it names `origin`, what is wrong, `expected` and `remedy`.
    """
    try:
        return model.model_validate(yaml.safe_load(text) or {})
    except (ValidationError, yaml.YAMLError) as error:
        raise FatalError(origin, " ".join(str(error).split())[:_LONGEST], expected, remedy) from error
