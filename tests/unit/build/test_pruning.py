"""Earlier builds go; what is current, in use or new stays."""

from __future__ import annotations

import os
from pathlib import Path

from dpp.adapters.locks import exclusive
from dpp.build.base_image import drafts_of
from dpp.build.pruning import KEPT, Current, Pruning, stale_images, stale_paths


def image(name: str, created: int) -> dict[str, object]:
    return {"Id": f"id-{created}", "Names": [f"localhost/dpp/{name}"], "Created": created}


def build(cache: Path, name: str, age: int) -> Path:
    path = cache / name
    if path.suffix:
        path.touch()
    else:
        path.mkdir()
    os.utime(path, (1e9 - age, 1e9 - age))
    return path


def test_images_stay_that_are_current_in_use_or_new():
    bases = [image(f"base:{number:012d}", number) for number in range(10)]
    others = [
        image("layer:current", 100),
        image("layer:former", 101),
        image("pixels-environment:current", 102),
        image("pixels-environment:former", 103),
        {"Id": "id-foreign", "Names": ["docker.io/library/debian:12"], "Created": 104},
        {"Id": "id-nameless", "Names": None, "Created": 105},
    ]
    current = frozenset({"localhost/dpp/layer:current", "localhost/dpp/pixels-environment:current"})
    listed = [*bases, bases[0], *others]  # an image of two names is listed once for each
    stale = stale_images(listed, current, used={"id-2"})
    gone = [f"localhost/dpp/base:{number:012d}" for number in range(10 - KEPT) if number != 2]
    assert stale == [*gone, "localhost/dpp/layer:former", "localhost/dpp/pixels-environment:former"]


def test_builds_in_the_cache_stay_that_are_current_or_new(tmp_path):
    pixels = [build(tmp_path, f"pixels-{number:012x}", age=number) for number in range(6)]
    cilium = [build(tmp_path, f"cilium-1.20.2-{number:012x}", age=number) for number in range(5)]
    roots = [build(tmp_path, f"rootfs-{number:012x}.tar", age=number) for number in range(4)]
    for kept in ("apt", "lists", "pixels-notes"):
        build(tmp_path, kept, age=10**8)
    (tmp_path / ".lock").touch()
    draft = build(tmp_path, ".pixels-killed", age=10**6)
    stale = stale_paths(tmp_path, frozenset({pixels[5], cilium[0]}))
    assert set(stale) == {pixels[3], pixels[4], *cilium[3:], roots[3], draft}


class NoPodman:
    """Podman without images, but with containers; says which commands it was asked."""

    def __init__(self, *containers: str) -> None:
        self.asked: list[str] = []
        self._containers = containers

    def run(self, *words: str) -> str:
        self.asked.append(words[0])
        if words[0] == "images":
            return "[]"
        (prefix,) = [word.removeprefix("--filter=name=^") for word in words if "name=^" in word] or [""]
        return "\n".join(name for name in self._containers if prefix and name.startswith(prefix))


def test_nothing_is_deleted_while_somebody_builds(tmp_path):
    former = [build(tmp_path, f"services-{number:012x}", age=number) for number in range(5)]
    killed, foreign = f"{drafts_of(tmp_path)}0123", f"{drafts_of(tmp_path / 'other')}0123"
    podman = NoPodman(killed, foreign)
    pruning = Pruning(tmp_path, podman)  # type: ignore[arg-type]
    nothing = Current(frozenset(), frozenset())
    with exclusive(tmp_path / ".workloads.lock"):
        assert pruning.run(nothing) == []
    assert podman.asked == []
    assert pruning.run(nothing) == [killed, *(path.name for path in former[KEPT:])]
    assert [path for path in former if path.exists()] == former[:KEPT]
    assert podman.asked == ["ps", "rm", "images", "ps"]  # nothing was untagged, so nothing is pruned
