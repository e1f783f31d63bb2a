"""What a version of calibrations and templates is named by: all that shapes them, and nothing else."""

from __future__ import annotations

import ast
import hashlib
from importlib import resources
from importlib.metadata import version as installed
from importlib.util import find_spec
from pathlib import Path

from workloads.common.settings import Camera

_ROOTS = ("workloads.calibration.prepare", "workloads.calibration.tasks")
_LIBRARIES = ("astropy", "numba", "numpy", "scipy")
_APART = frozenset({"workloads.common.settings"})
"""What is hashed by its values: the camera."""


def version_of(camera: Camera, sky: str, night: str) -> str:
    """Return the version that would be made of this camera and sky now.

    Parameters
    ----------
    camera, sky
        The camera; the name of a replayed sky, empty for the simulated fields.
    night
        The module that takes the exposures before the night.
    """
    digest = hashlib.sha256(camera.model_dump_json(exclude={"spare_workers"}).encode() + sky.encode())
    for name in _LIBRARIES:
        digest.update(f"{name} {installed(name)}\n".encode())
    for name, path in sorted(sources(*_ROOTS, night).items()):
        digest.update(name.encode() + path.read_bytes())
    for path in sorted(Path(str(resources.files("workloads.calibration"))).glob("pipelines/*.yaml")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def sources(*modules: str) -> dict[str, Path]:
    """Return the modules of ours that `modules` import, directly or not, with their files; of pixels all there are.

    Every kernel shapes a calibration, and the pixels' packages import each other by their names only.
    """
    pixels = Path(str(resources.files("workloads.pixels")))
    found = {f"pixels/{path.relative_to(pixels)}": path for path in pixels.rglob("*.py")}
    waiting, seen = list(modules), set(_APART)
    while waiting:
        name = waiting.pop()
        if name in seen or name.startswith("workloads.pixels"):
            continue
        seen.add(name)
        spec = find_spec(name)
        if spec is not None and spec.origin:
            found[name] = Path(spec.origin)
            waiting += _imported(found[name])
    return found


def _imported(path: Path) -> list[str]:
    """Return the modules of ours that a file imports from, whatever it takes of them."""
    nodes = ast.walk(ast.parse(path.read_text()))
    modules = [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    return [module for module in modules if module.startswith("workloads.")]
