"""Programs of the workloads that operators run from a site's operations host, with the settings of a workload there."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path

from dpp.adapters.process import Done, beside, lines, run
from dpp.adapters.secrets import Secrets
from dpp.adapters.vantage import Vantage
from dpp.model.environment import Environment
from dpp.model.folders import REPOSITORY, Folders
from dpp.model.site_config import as_yaml, site_settings

_ENDS_WITH_US = ("setpriv", "--pdeathsig", "TERM")
"""A command that is killed takes its programs with it."""
_PATIENCE_SECONDS = 30.0


class DataPlane:
    """One site of an environment's data plane.

    Parameters
    ----------
    environment, site, folders
        Where.
    """

    def __init__(self, environment: Environment, site: str, folders: Folders) -> None:
        self._environment, self._site, self._folders = environment, site, folders

    def run(self, *words: str, seconds: float, check: bool = True) -> Done:
        """Run ``python -m WORDS`` there to its end; errors as of `process.run`."""
        return run(self._command(words), timeout=seconds, env=self._variables, cwd=REPOSITORY, check=check)

    def lines(self, *words: str, seconds: float) -> Iterator[str]:
        """Yield what ``python -m WORDS`` prints there, line by line; errors as of `process.lines`."""
        return lines(self._command(words), timeout=seconds, env=self._variables, cwd=REPOSITORY)

    def beside(self, *words: str, output: Path, errors: Path) -> AbstractContextManager[Callable[[], int | None]]:
        """Run ``python -m WORDS`` there beside the body of the ``with``, as `process.beside` does."""
        return beside(
            self._command(words), output=output, errors=errors, env=self._variables, patience=_PATIENCE_SECONDS
        )

    def _command(self, words: tuple[str, ...]) -> list[str]:
        vantage = Vantage.at(self._site, self._environment.name, self._folders)
        return [*_ENDS_WITH_US, *vantage.prefix(), sys.executable, "-m", *words]

    @cached_property
    def _variables(self) -> dict[str, str]:
        place = self._folders.state / "operators" / self._site
        own = write_settings(self._environment, self._site, self._folders, place)
        source = str(REPOSITORY / "workloads" / "src")
        return {**own, "PYTHONPATH": source, "DPP_SCRATCH": str(place / "scratch")}


def write_settings(environment: Environment, site: str, folders: Folders, place: Path) -> dict[str, str]:
    """Write the settings that workloads at `site` have into the folder `place`, readable by its owner only.

    Returns
    -------
    dict
        The environment variables with which a workload finds them.
    """
    (place / "secrets").mkdir(parents=True, exist_ok=True)
    place.chmod(0o700)
    (place / "site.yml").write_text(as_yaml(site_settings(environment, site)))
    secrets = Secrets(folders.secrets)
    (place / "ca.crt").write_text(secrets.bundle())
    stores = [f"s3-{name}" for name in environment.storage]
    for name in ("kafka-workloads", "postgresql-workloads", *stores):
        (place / "secrets" / name).write_text(secrets.password(name))
    return {
        "DPP_SITE_FILE": str(place / "site.yml"),
        "DPP_SECRETS": str(place / "secrets"),
        "DPP_CA": str(place / "ca.crt"),
    }
