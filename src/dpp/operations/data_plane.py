"""Programs of the workloads that operators run from a site's operations host, each as the principal that its contract names."""

from __future__ import annotations

import json
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
from dpp.model.principals import Principals
from dpp.model.rights import secrets_of
from dpp.model.surroundings import as_yaml, surroundings

_ENDS_WITH_US = ("setpriv", "--pdeathsig", "TERM")
"""A command that is killed takes its programs with it."""
_PATIENCE_SECONDS = 30.0


class DataPlane:
    """One site of an environment's data plane, as a principal sees it.

    Parameters
    ----------
    environment, site, folders
        Where.
    principal
        With whose rights.
    """

    def __init__(self, environment: Environment, principal: str, site: str, folders: Folders) -> None:
        self._environment, self._principal = environment, principal
        self._site, self._folders = site, folders

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
        place = self._folders.state / "operators" / self._site / self._principal
        principals = Principals.load(self._environment)
        own = write_settings(principals, self._principal, self._site, self._folders, place)
        source = str(REPOSITORY / "workloads" / "src")
        return {**own, "PYTHONPATH": source, "DPP_SCRATCH": str(place / "scratch")}


def write_settings(principals: Principals, name: str, site: str, folders: Folders, place: Path) -> dict[str, str]:
    """Write settings and secrets of a principal at `site` into the folder `place`, readable by its owner only.

    Returns
    -------
    dict
        The environment variables with which it finds them.
    """
    place.mkdir(parents=True, exist_ok=True)
    place.chmod(0o700)
    (place / "site.yml").write_text(as_yaml(surroundings(principals, name, site)))
    secrets, own = Secrets(folders.secrets), secrets_of(principals, name, site)
    (place / "ca.crt").write_text(secrets.bundle())
    (place / "secrets").mkdir(exist_ok=True)
    for path in (place / "secrets").iterdir():
        if path.name not in own:
            path.unlink()
    for known, secret in own.items():
        (place / "secrets" / known).write_text(secrets.password(secret))
    return {
        "DPP_SITE_FILE": str(place / "site.yml"),
        "DPP_SECRETS": str(place / "secrets"),
        "DPP_CA": str(place / "ca.crt"),
    }


def last_words(log: str) -> str:
    """Return the last message of a workload's log."""
    lines = log.strip().splitlines()
    try:
        return str(json.loads(lines[-1])["message"])
    except (IndexError, ValueError, KeyError, TypeError):
        return log.strip()[-800:]
