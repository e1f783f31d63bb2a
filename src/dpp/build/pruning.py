"""Images of earlier builds go by themselves: what this checkout and what any container is made from stays, and the newest."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpp.adapters.locks import exclusive
from dpp.adapters.podman import Podman
from dpp.adapters.progress import Reporter
from dpp.build.base_image import BaseImage, remove_drafts
from dpp.build.platform_images import RECIPES, PlatformImages
from dpp.build.workload_images import FLAVOURS, WorkloadImages
from dpp.model.errors import RetriableError
from dpp.model.folders import Folders

KEPT = 3
"""How many builds of one image are kept: today's, and the last ones, which another branch may want again."""

_OURS = "localhost/dpp/"
_LOCKS = (".lock", ".workloads.lock")
"""Held by whoever builds images: while somebody does, nothing is pruned."""
_DRAFT_SECONDS = 86400.0
"""Age at which a draft of an image belongs to a build that was killed."""


@dataclass(frozen=True)
class Current:
    """What this checkout's images are.

    Parameters
    ----------
    images
        Names in podman's storage.
    paths
        Files and folders in the cache.
    """

    images: frozenset[str]
    paths: frozenset[Path]

    @classmethod
    def of(cls, folders: Folders, reporter: Reporter) -> Current:
        """Work out the digests of all that this checkout builds."""
        base, cache = BaseImage(reporter), folders.cache / "images"
        system, whole = base.layers[0], base.layers[-1]
        workloads = WorkloadImages(folders, system.reference, reporter)
        platform = PlatformImages(folders, base.reference, reporter)
        return cls(
            frozenset({base.reference, *(one.reference for one in base.layers), *workloads.stages()}),
            frozenset({
                *(workloads.layout(flavour).folder for flavour in FLAVOURS),
                *(platform.layout(recipe).folder for recipe in RECIPES),
                cache / f"base-{whole.digest}",
                cache / f"rootfs-{system.digest}.tar",
            }),
        )  # fmt: skip


@dataclass(frozen=True)
class Pruning:
    """Deletes what earlier builds have left.

    Parameters
    ----------
    cache
        The folder of images in the cache.
    podman
        Whose storage has the base image and its layers.
    """

    cache: Path
    podman: Podman

    def run(self, current: Current) -> list[str]:
        """Delete and return the names of what was deleted; nothing happens while somebody builds images."""
        with ExitStack() as held:
            try:
                for name in _LOCKS:
                    held.enter_context(exclusive(self.cache / name, seconds=0))
            except RetriableError:
                return []
            return [*remove_drafts(self.podman, self.cache), *self._images(current), *self._paths(current)]

    def _images(self, current: Current) -> list[str]:
        """Untag images that nothing needs, and delete those that have no name left and nothing stands on."""
        listed = json.loads(self.podman.run("images", "--format=json"))
        used = set(self.podman.run("ps", "--all", "--no-trunc", "--format={{.ImageID}}").split())
        stale = stale_images(listed, current.images, used)
        for name in stale:
            self.podman.run("untag", name, name)
        while stale and self.podman.run("image", "prune", "--force", "--filter=label=dpp.image=base").strip():
            continue
        return stale

    def _paths(self, current: Current) -> list[str]:
        stale = stale_paths(self.cache, current.paths)
        for path in stale:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        return [path.name for path in stale]


def stale_images(listed: Iterable[dict[str, Any]], current: frozenset[str], used: set[str]) -> list[str]:
    """Return the names of images that can go.

    Parameters
    ----------
    listed
        All images, as podman lists them.
    current
        Names that stay.
    used
        Ids of the images of all containers, running or not, of any instance.
    """
    ours = {name: one for one in listed for name in one.get("Names") or () if name.startswith(_OURS)}
    machines = [name for name in ours if name.startswith(f"{_OURS}base:")]
    newest = sorted(machines, key=lambda name: int(ours[name]["Created"]), reverse=True)[:KEPT]
    return sorted(name for name, one in ours.items() if name not in {*current, *newest} and one["Id"] not in used)


def stale_paths(cache: Path, current: frozenset[Path]) -> list[Path]:
    """Return the entries of the cache that can go: all but the newest builds of each image, and drafts of killed builds."""
    builds: dict[str, list[Path]] = {}
    drafts = []
    for path in cache.iterdir():
        if path.name.startswith(".") and path.is_dir():
            drafts.append(path)
        elif family := _family(path.name):
            builds.setdefault(family, []).append(path)
    stale = [path for path in drafts if time.time() - path.stat().st_mtime > _DRAFT_SECONDS]
    for paths in builds.values():
        newest = sorted(paths, key=lambda path: path.stat().st_mtime, reverse=True)[:KEPT]
        stale += [path for path in paths if path not in current and path not in newest]
    return sorted(stale)


def _family(name: str) -> str:
    """Return which image an entry of the cache is a build of; empty where it is none."""
    families = ("base", "rootfs", *(flavour.name for flavour in FLAVOURS), *(recipe.name for recipe in RECIPES))
    found = re.fullmatch(rf"({'|'.join(map(re.escape, families))})-(?:.*-)?[0-9a-f]{{12}}(?:\.tar)?", name)
    return found[1] if found else ""


def prune(folders: Folders, reporter: Reporter) -> list[str]:
    """Delete what earlier builds have left in podman's storage and in the cache; return the names."""
    return Pruning(folders.cache / "images", Podman(timeout=900)).run(Current.of(folders, reporter))
