"""A tree that holds only what a proof declares, with a Python environment that reaches no other checkout."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from pathlib import Path

from proofs.catalogue import Proof, Tree

_OWN = ("PYTHONPATH", "PYTEST_ADDOPTS", "VIRTUAL_ENV", "DPP_IMAGE")
"""Variables of the environment that would lead out of the tree."""


def plant(proof: Proof, checkout: Path, root: Path) -> str:
    """Make the tree of a proof at `root`, in place of what is there; return the proof's digest, of what is in it."""
    shutil.rmtree(root, ignore_errors=True)
    source = Tree(checkout)
    files = source.of(proof)
    for path in files:
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source.root / path, target)  # times as well: compiled kernels are known by their sources'
    _copy_kernels(source.root, root)
    _environment(root)
    return Tree(root, files).digest(proof)


def variables(root: Path) -> dict[str, str]:
    """Return the environment in which a tree's commands run."""
    here = Path(sys.executable).parent
    path = [str(root / ".venv/bin"), *(folder for folder in os.environ["PATH"].split(":") if Path(folder) != here)]
    return {name: value for name, value in os.environ.items() if name not in _OWN} | {"PATH": ":".join(path)}


def _environment(root: Path) -> None:
    """Make an environment of the packages that this one has, but for the checkout's own: those are the tree's.

    Packages are found by a line of a .pth file, which does not follow the .pth files beside them: the checkout's editable
    installation is one of those.
    """
    here, own = Path(sys.executable).parent, root / ".venv/bin"
    site = root / ".venv/lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    site.mkdir(parents=True)
    found = (root / "src", root / "workloads/src", sysconfig.get_path("purelib"))
    (site / "tree.pth").write_text("".join(f"{folder}\n" for folder in found))
    shutil.copy2(here.parent / "pyvenv.cfg", root / ".venv")
    own.mkdir()
    for program in here.iterdir():
        if program.is_symlink() or not program.is_file():
            continue
        content = program.read_bytes()
        if content.startswith(f"#!{here}/python".encode()):
            (own / program.name).write_bytes(content.replace(str(here).encode(), str(own).encode(), 1))
            (own / program.name).chmod(0o755)
        elif not content.startswith(b"#") and os.access(program, os.X_OK):
            (own / program.name).symlink_to(program)
    for name in ("python", "python3", f"python3.{sys.version_info.minor}"):
        (own / name).symlink_to(Path(sys.executable).resolve())


def _copy_kernels(source: Path, root: Path) -> None:
    """Bring the kernels that are compiled already: they are known by their sources, and compiling takes minutes."""
    folder = Path("workloads/src/workloads/pixels/kernels")
    if (root / folder).exists():
        shutil.copytree(
            source / folder / "__pycache__",
            root / folder / "__pycache__",
            ignore=lambda _, names: {name for name in names if not name.endswith((".nbi", ".nbc"))},
        )
