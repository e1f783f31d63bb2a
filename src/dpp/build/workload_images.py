"""The two images of the workloads: a small Debian with Python, the locked environment, compiled kernels, the code on top.

Each is a layer of its own, so that a change of code compiles no kernel, and rebuilds and sends kilobytes. Built with
buildah, kept in the cache by digest of all that goes in, brought to a site's registry from the site's own vantage.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from uv import find_uv_bin

from dpp.adapters.locks import exclusive
from dpp.adapters.process import run
from dpp.adapters.progress import Reporter
from dpp.adapters.registry import Layout, Registry
from dpp.build import downloads
from dpp.model.folders import REPOSITORY, Folders

USER = 10001
"""User and group that workloads run as."""

_REVISION = 4
_PYTHON = "3.11"
_ENVIRONMENT, _CODE, _NUMBA = "/opt/dpp/env", "/opt/dpp/code", "/opt/dpp/numba"
_SOURCE = REPOSITORY / "workloads" / "src"
_INTERFACES = REPOSITORY / "interfaces"
_COMPILER = ("__init__.py", "pixels/__init__.py", "pixels/compile.py", "pixels/parallel.py")
"""What compiles kernels, and needs nothing else of the code."""
_KERNELS = "pixels/kernels"
_COMPILED = shutil.ignore_patterns("__pycache__")
_VARIABLES = {
    "PYTHONPATH": f"{_CODE}:{_ENVIRONMENT}",
    "NUMBA_CACHE_DIR": _NUMBA,
    "PYTHONUNBUFFERED": "1",
    "DPP_INTERFACES": f"{_CODE}/interfaces",
    "PYTHONDONTWRITEBYTECODE": "1",
    "HOME": "/tmp",  # noqa: S108 - in the container
}
_COMMAND_SECONDS = 1800


@dataclass(frozen=True)
class Flavour:
    """One of the images.

    Parameters
    ----------
    name
        Its name below ``dpp/``.
    extras
        Extras of the workloads' distribution that its environment has.
    compiles
        Whether kernels are compiled into it.
    """

    name: str
    extras: tuple[str, ...] = ()
    compiles: bool = False


FLAVOURS = (Flavour("services"), Flavour("pixels", ("pixels",), compiles=True))


class WorkloadImages:
    """The workloads' images as this checkout defines them.

    Parameters
    ----------
    folders
        Where cache and secrets lie.
    base
        An image of Debian bookworm with Python 3.11: the bare system that machines begin with.
    reporter
        Where progress is shown.
    """

    def __init__(self, folders: Folders, base: str, reporter: Reporter) -> None:
        self._folders, self._base, self._reporter = folders, base, reporter

    def ensure(self) -> dict[str, str]:
        """Build what is missing; return the digest of each image by name.

        Raises
        ------
        FatalError
            If a command fails; the error ends with what it printed.
        """
        if self._missing():
            # Every site brings images to its own registry, side by side: the first builds, the others find them built.
            with exclusive(self._folders.cache / "images" / ".workloads.lock", tell=self._reporter.note):
                self._build_missing()
        for flavour in FLAVOURS:
            os.utime(self.layout(flavour).folder)  # pruning keeps those that were used last
        return {flavour.name: self.layout(flavour).digest for flavour in FLAVOURS}

    def _missing(self) -> list[Flavour]:
        return [flavour for flavour in FLAVOURS if not self.layout(flavour).folder.exists()]

    def _build_missing(self) -> None:
        missing = self._missing()
        if not missing:
            return
        with self._reporter.step("workload images", 4 * len(missing)) as step:
            for flavour in missing:
                step.advance(f"{flavour.name}: environment", by=0)
                below = self._environment(flavour)
                step.advance(f"{flavour.name}: kernels", by=2)
                below = self._kernels(flavour, below)
                step.advance(f"{flavour.name}: code")
                self._build(flavour, below)
                step.advance(flavour.name)

    def push(self, site: str, environment: str = "lab") -> dict[str, str]:
        """Bring both images to a site's registry, unless it has them; return their references by name."""
        digests = self.ensure()
        registry = Registry.at(site, environment, self._folders)
        for flavour in FLAVOURS:
            registry.push(self.layout(flavour), f"dpp/{flavour.name}", self._digest(flavour))
        return {name: registry.reference(f"dpp/{name}", digest) for name, digest in digests.items()}

    def layout(self, flavour: Flavour) -> Layout:
        """Return where an image lies in the cache, whether built or not."""
        return Layout(self._folders.cache / "images" / f"{flavour.name}-{self._digest(flavour)}")

    def stages(self) -> list[str]:
        """Return the names of the images that these are built on, in podman's storage: environments, compiled kernels."""
        kernels = [self._kernels_name(flavour) for flavour in FLAVOURS if flavour.compiles]
        return [*(self._environment_name(flavour) for flavour in FLAVOURS), *kernels]

    def requirements(self, flavour: Flavour) -> str:
        """Return the locked requirements of an image, with digests, as `uv export` writes them."""
        extras = [word for extra in flavour.extras for word in ("--extra", extra)]
        words = [
            find_uv_bin(),
            "export",
            "--frozen",
            "--no-dev",
            "--no-emit-workspace",
            "--no-header",
            "--package",
            "dpp-workloads",
            *extras,
        ]
        return run(words, timeout=_COMMAND_SECONDS, cwd=REPOSITORY).stdout

    def _digest(self, flavour: Flavour) -> str:
        return _hash(self._environment_digest(flavour), self._code_digest if flavour.compiles else self._light_digest)

    def _environment_digest(self, flavour: Flavour) -> str:
        if flavour.name not in self._environment_digests:
            parts = (str(_REVISION), self._base, self.requirements(flavour))
            self._environment_digests[flavour.name] = _hash(*parts)
        return self._environment_digests[flavour.name]

    @cached_property
    def _environment_digests(self) -> dict[str, str]:
        return {}

    @cached_property
    def _code_digest(self) -> str:
        return _hash(*_tree(_SOURCE), *_tree(_INTERFACES))

    @cached_property
    def _light_digest(self) -> str:
        """Digest of the code without the pixel core, which the light image does not run."""
        return _hash(*_tree(_SOURCE, leave_out="workloads/pixels"), *_tree(_INTERFACES))

    def _environment_name(self, flavour: Flavour) -> str:
        return f"localhost/dpp/{flavour.name}-environment:{self._environment_digest(flavour)}"

    def _environment(self, flavour: Flavour) -> str:
        """Return the image with Python and the locked environment, built if it is not there."""
        name = self._environment_name(flavour)
        if not _exists(name):
            with _container(self._base) as container, tempfile.TemporaryDirectory(prefix="dpp-env-") as scratch:
                wanted = Path(scratch) / "requirements.txt"
                wanted.write_text(self.requirements(flavour))
                with _mounted(container) as root:
                    words = [
                        "pip",
                        "install",
                        "--quiet",
                        "--no-deps",
                        "--link-mode=copy",
                        f"--python-version={_PYTHON}",
                    ]
                    target = root / _ENVIRONMENT.lstrip("/")
                    _output(find_uv_bin(), *words, f"--target={target}", f"--requirement={wanted}")
                _compile(container, _ENVIRONMENT)
                _output("buildah", "commit", "--quiet", "--timestamp", "0", container, name)
        return name

    def _kernels_name(self, flavour: Flavour) -> str:
        sources = [line for line in _tree(_SOURCE / "workloads") if line.startswith((*_COMPILER, f"{_KERNELS}/"))]
        return f"localhost/dpp/{flavour.name}-kernels:{_hash(self._environment_digest(flavour), *sources)}"

    def _kernels(self, flavour: Flavour, below: str) -> str:
        """Return the image with the compiled kernels, built if it is not there; `below` where nothing is compiled."""
        if not flavour.compiles:
            return below
        name = self._kernels_name(flavour)
        if not _exists(name):
            with _container(below) as container:
                with _mounted(container) as root:
                    target = root / _CODE.lstrip("/") / "workloads"
                    shutil.copytree(_SOURCE / "workloads" / _KERNELS, target / _KERNELS, ignore=_COMPILED)
                    for file in _COMPILER:
                        shutil.copy(_SOURCE / "workloads" / file, target / file)
                    numba = root / _NUMBA.lstrip("/")
                    numba.mkdir(parents=True)
                    shutil.chown(numba, USER, USER)
                _configure(container)
                _run(container, f"{USER}:{USER}", "python3", "-m", "workloads.pixels.compile")
                _output("buildah", "commit", "--quiet", "--timestamp", "0", container, name)
        return name

    def _build(self, flavour: Flavour, below: str) -> None:
        target = self.layout(flavour).folder
        target.parent.mkdir(parents=True, exist_ok=True)
        with (
            _container(below) as container,
            tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{flavour.name}-") as scratch,
        ):
            with _mounted(container) as root:
                shutil.copytree(_SOURCE, root / _CODE.lstrip("/"), ignore=_COMPILED, dirs_exist_ok=True)
                shutil.copytree(_INTERFACES, root / _CODE.lstrip("/") / "interfaces")
            _compile(container, _CODE)
            _configure(container)
            image = _output("buildah", "commit", "--quiet", "--timestamp", "0", container)
            partial = Path(scratch) / "layout"
            _output("buildah", "push", "--quiet", "--compression-format", "zstd", image, f"oci:{partial}")
            _output("buildah", "rmi", image)
            partial.rename(target)


def _tree(folder: Path, leave_out: str = "-") -> Iterator[str]:
    """Yield name and digest of every source file."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and "__pycache__" not in path.parts and not name.startswith(leave_out):
            yield f"{name} {hashlib.sha256(path.read_bytes()).hexdigest()}"


def _hash(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def _exists(image: str) -> bool:
    return run(["buildah", "inspect", "--type", "image", image], timeout=60, check=False).code == 0


@contextmanager
def _container(image: str) -> Iterator[str]:
    container = _output("buildah", "from", "--pull-never", image)
    try:
        yield container
    finally:
        _output("buildah", "rm", container)


@contextmanager
def _mounted(container: str) -> Iterator[Path]:
    yield Path(_output("buildah", "mount", container))
    _output("buildah", "umount", container)


def _configure(container: str) -> None:
    """Say what a container of the image runs, with which variables, and as whom."""
    variables = [word for name, value in _VARIABLES.items() for word in ("--env", f"{name}={value}")]
    entry = ["--user", f"{USER}:{USER}", "--entrypoint", '["python3", "-m"]', "--cmd", ""]
    _output("buildah", "config", *variables, *entry, container)


def _compile(container: str, folder: str) -> None:
    """Compile Python's sources: a container's file system is read-only, each of its processes would compile them again.

    The commit changes the files' times, so what was compiled is not checked against its source.
    """
    _run(
        container,
        "root",  # whose files they are
        *("python3", "-m", "compileall", "-q", "-j", "0", "--invalidation-mode", "unchecked-hash", "-x", "/tests?/"),
        folder,
    )


def _run(container: str, user: str, *command: str) -> None:
    _output("buildah", "run", "--isolation=chroot", f"--user={user}", container, "--", *command)


def _output(*command: str) -> str:
    """Run a command and return what it said last: the name of what it made."""
    done = run(command, timeout=_COMMAND_SECONDS, cwd=REPOSITORY, env=downloads.variables())
    return (done.stdout.strip().splitlines() or [""])[-1]
