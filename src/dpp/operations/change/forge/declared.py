"""What this repository declares of its forge: ``changes/forge.yml``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import yaml
from pydantic import Field, ValidationError

from dpp.model.errors import FatalError
from dpp.model.types import Kebab, Model

FILE: Final = "changes/forge.yml"
Colour = Annotated[str, Field(pattern=r"^[0-9a-f]{6}$")]


class LabelColours(Model):
    """Which labels a pull request may get from us, and in which colours."""

    risk: dict[str, Colour] = Field(description="By risk, as changes/rules.yml names them.")
    service: Colour = Field(description="Of the services that are touched.")


class Declared(Model):
    """All that is declared of a forge."""

    organisation: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9-]*$")] = Field(
        description="It has a team of its own for each owner that services name."
    )
    writer: str = Field(description="Under which name our comment is written: nobody else's is touched.")
    everything_else: Kebab = Field(description="Service whose owner is asked where nothing below fits.")
    paths: dict[Annotated[str, Field(pattern=r"^/\S+$")], Kebab] = Field(
        description="By path or pattern, the service whose owner is asked; a later one overrules."
    )
    labels: LabelColours

    @classmethod
    def read(cls, root: Path) -> Declared:
        """Read the declaration of a tree.

        Raises
        ------
        FatalError
            If there is none, or it is another thing.
        """
        try:
            return cls.model_validate(yaml.safe_load((root / FILE).read_text()))
        except (OSError, ValidationError, yaml.YAMLError) as error:
            raise FatalError(FILE, " ".join(str(error).split())[:400], "organisation, writer, paths and labels", "correct it") from error  # fmt: skip
