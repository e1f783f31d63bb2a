"""Programs of the workloads that operators run from a site's operations host, with the settings of a workload there."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cached_property
from pathlib import Path
from typing import IO

from dpp.adapters.secrets import Secrets
from dpp.adapters.vantage import Vantage
from dpp.model.environment import Environment
from dpp.model.errors import RetriableError
from dpp.model.folders import REPOSITORY, Folders
from dpp.model.site_config import as_yaml, site_settings

_ENDS_WITH_US = ("setpriv", "--pdeathsig", "TERM")
"""A killed command leaves no program behind that goes on without it."""


class DataPlane:
    """One site of an environment's data plane.

    Parameters
    ----------
    environment, site, folders
        Where.
    """

    def __init__(self, environment: Environment, site: str, folders: Folders) -> None:
        self._environment, self._site, self._folders = environment, site, folders

    def start(self, *words: str, out: IO[bytes] | int, errors: IO[bytes] | None = None) -> subprocess.Popen[bytes]:
        """Start ``python -m WORDS`` there; it ends with this process."""
        command = [*_ENDS_WITH_US, *self._command(words)]
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=errors, env=self._variables, cwd=REPOSITORY
        )

    def run(self, *words: str, seconds: float) -> subprocess.CompletedProcess[str]:
        """Run ``python -m WORDS`` there and return what it printed and how it ended.

        Raises
        ------
        RetriableError
            If it does not end in `seconds`.
        """
        command = [*_ENDS_WITH_US, *self._command(words)]
        try:
            return subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
                env=self._variables,
                cwd=REPOSITORY,
                timeout=seconds,
            )
        except subprocess.TimeoutExpired as error:
            raise RetriableError(
                " ".join(words[:2]), f"not done in {seconds:g} s", remedy="see `dpp status` for what is away"
            ) from error

    def _command(self, words: tuple[str, ...]) -> list[str]:
        vantage = Vantage.at(self._site, self._environment.name, self._folders)
        return [*vantage.prefix(), sys.executable, "-m", *words]

    @cached_property
    def _variables(self) -> dict[str, str]:
        place = self._folders.state / "operators" / self._site
        own = write_settings(self._environment, self._site, self._folders, place)
        source = str(REPOSITORY / "workloads" / "src")
        return {**os.environ, **own, "PYTHONPATH": source, "DPP_SCRATCH": str(place / "scratch")}


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
