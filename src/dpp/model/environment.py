"""An environment: everything that its inventory declares, checked."""

from __future__ import annotations

from pathlib import Path

from dpp.model import loading
from dpp.model.declared import Declared
from dpp.model.folders import REPOSITORY
from dpp.model.remembered import remembered


class Environment(Declared):
    """One environment (`lab`, `production`)."""

    @classmethod
    def load(cls, name: str = "lab", root: Path = REPOSITORY) -> Environment:
        """Read and check the environment `name`.

        Raises
        ------
        DeclarationError
            Its files contradict the model or each other; it lists every mistake.
        FatalError
            There is no such environment, or a file of it is no YAML.
        """
        if root != REPOSITORY:
            return cls.model_construct(**dict(loading.load(name, root)))
        specs = sorted((root / "roles").glob("*/meta/argument_specs.yml"))
        figures = [root / "k8s/clusters" / name, root / "k8s/archiver"]
        sources = [root / "inventories" / name, root / "inventories/derived", *specs, *figures, Path(__file__).parent]
        found = remembered(f"environment-{name}", sources, lambda: loading.load(name, root).model_dump_json())
        return cls.model_validate_json(found)
