"""Images of what a cluster itself runs on: built from the tools and a few Debian files, cached, brought to each site.

Each holds the programs it needs and the libraries they load, nothing else: no shell, no package manager.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from dpp.adapters import process
from dpp.adapters.progress import Reporter
from dpp.adapters.registry import Layout, Registry
from dpp.build.base_image import WAYS_OUT, ways_out
from dpp.build.tools import tool, tool_folder
from dpp.model.errors import DppError, FatalError
from dpp.model.folders import Folders

_PATH = "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_REVISION = 1
"""Counted up when the way images are made changes."""
_COMMAND_SECONDS = 1800


@dataclass(frozen=True)
class Recipe:
    """What goes into one image.

    Parameters
    ----------
    name
        Name of the image below ``dpp/``.
    tool
        The tool whose version the image carries, or empty for one that is Debian's alone.
    files
        Path in the image to path in the tool's folder, of files and folders.
    programs
        Path in the image to path in the Debian tree; the libraries that a program loads come along.
    folders
        Folders of the Debian tree that come whole.
    links
        Symbolic links: path in the image to target.
    packages
        Debian packages that hold the programs.
    entrypoint
        The program to run.
    tag
        The image's tag where it is not the tool's version.
    """

    name: str
    tool: str = ""
    files: dict[str, str] = field(default_factory=dict)
    programs: dict[str, str] = field(default_factory=dict)
    folders: tuple[str, ...] = ()
    links: dict[str, str] = field(default_factory=dict)
    packages: tuple[str, ...] = ()
    entrypoint: str = ""
    tag: str = ""

    @cached_property
    def digest(self) -> str:
        """Twelve hexadecimal digits over all that the image is made from."""
        source = tool(self.tool).digest if self.tool else ""
        return hashlib.sha256(f"{_REVISION} {self!r} {source}".encode()).hexdigest()[:12]

    @property
    def version(self) -> str:
        """The image's tag."""
        return self.tag or ("v" if self.tool == "kubernetes" else "") + tool(self.tool).version


def _kubernetes(component: str, **more: object) -> Recipe:
    files = {f"/usr/local/bin/{component}": f"bin/{component}"}
    return Recipe(component, "kubernetes", files, entrypoint=f"/usr/local/bin/{component}", **more)  # type: ignore[arg-type]


_IPTABLES = {
    f"/usr/sbin/{family}{verb}": "xtables-nft-multi"
    for family in ("iptables", "ip6tables")
    for verb in ("", "-save", "-restore")
}

RECIPES: tuple[Recipe, ...] = (
    _kubernetes("kube-apiserver"),
    _kubernetes("kube-controller-manager"),
    _kubernetes("kube-scheduler"),
    _kubernetes("kube-proxy", programs={"/usr/sbin/nft": "/usr/sbin/nft"}, packages=("nftables",)),
    Recipe("etcd", "etcd", {"/usr/local/bin/etcd": "bin/etcd"}, entrypoint="/usr/local/bin/etcd"),
    Recipe("coredns", "coredns", {"/coredns": "bin/coredns"}, entrypoint="/coredns"),
    Recipe(
        "metrics-server",
        "metrics-server",
        {"/metrics-server": "bin/metrics-server"},
        entrypoint="/metrics-server",
    ),
    Recipe(  # tries from inside a cluster who reaches whom
        "probe",
        programs={"/bin/busybox": "/bin/busybox"},
        links={f"/bin/{verb}": "busybox" for verb in ("nc", "nslookup", "sh", "sleep", "wget")},
        packages=("busybox-static",),
        entrypoint="/bin/sleep infinity",
        tag="1",
    ),
    Recipe(
        "pause",
        programs={"/pause": "/usr/bin/catatonit"},
        packages=("catatonit",),
        entrypoint="/pause -P",
        tag="3.10.2",
    ),
    Recipe(
        "cilium",
        "cilium",
        files={"/usr/local/bin/cilium-agent": "bin/cilium-agent", "/var/lib/cilium/bpf": "lib/bpf"},
        programs={
            "/usr/lib/llvm-19/bin/clang": "/usr/lib/llvm-19/bin/clang",  # it looks for its libraries beside itself
            "/usr/sbin/xtables-nft-multi": "/usr/sbin/xtables-nft-multi",
            "/usr/sbin/ipset": "/usr/sbin/ipset",
            "/usr/bin/mount": "/usr/bin/mount",
        },
        folders=("/usr/lib/x86_64-linux-gnu/xtables",),
        links={**_IPTABLES, "/usr/local/bin/clang": "/usr/lib/llvm-19/bin/clang"},
        packages=("clang-19", "iptables", "ipset"),
        entrypoint="/usr/local/bin/cilium-agent",
    ),
)


class PlatformImages:
    """The platform's images of one instance.

    Parameters
    ----------
    folders
        Where cache and secrets lie.
    base
        An image of Debian that has apt: the machines' base image.
    reporter
        Where progress is shown.
    """

    def __init__(self, folders: Folders, base: str, reporter: Reporter) -> None:
        self.folders = folders
        self.base = base
        self.reporter = reporter

    def layout(self, recipe: Recipe) -> Layout:
        """Return where an image lies in the cache, whether built or not."""
        return Layout(self.folders.cache / "images" / f"{recipe.name}-{recipe.version}-{recipe.digest}")

    def ensure(self) -> dict[str, str]:
        """Build the images that are missing; return the digest of each by ``name:tag``.

        Raises
        ------
        FatalError
            If a tool is not built, a program is missing or a command fails.
        """
        missing = [recipe for recipe in RECIPES if not self.layout(recipe).folder.exists()]
        if missing:
            with self.reporter.step("platform images", len(missing)) as step, self._debian(missing) as debian:
                for recipe in missing:
                    step.advance(f"{recipe.name} {recipe.version}", by=0)
                    self._build(recipe, debian)
                    step.advance(recipe.name)
        return {f"{recipe.name}:{recipe.version}": self.layout(recipe).digest for recipe in RECIPES}

    def seed(self, site: str, environment: str = "lab") -> int:
        """Bring all images to the registry of a site; return how many it did not have."""
        self.ensure()
        registry = Registry.at(site, environment, self.folders)
        with self.reporter.step(f"images to {registry.address}", len(RECIPES)) as step:
            sent = 0
            for recipe in RECIPES:
                sent += registry.push(self.layout(recipe), f"dpp/{recipe.name}", recipe.version)
                step.advance(recipe.name)
        return sent

    @contextmanager
    def _debian(self, recipes: list[Recipe]) -> Iterator[Path]:
        """Yield a Debian tree that has the packages of all `recipes`."""
        packages = sorted({package for recipe in recipes for package in recipe.packages})
        container = _run("buildah", "from", "--pull-never", self.base)
        try:
            if packages:
                apt = "apt-get update -qq && apt-get install -qq -y --no-install-recommends " + " ".join(packages)
                ways = ["--volume", f"{ways_out(self.folders.cache / 'images')}:{WAYS_OUT}:ro"]
                settings = [
                    "--isolation",
                    "chroot",
                    "--network",
                    "host",
                    *ways,
                    "--env",
                    f"APT_CONFIG={WAYS_OUT}/apt.conf",
                ]
                _run("buildah", "run", *settings, container, "--", "sh", "-c", apt)
            yield Path(_run("buildah", "mount", container))
        finally:
            _run("buildah", "rm", container)

    def _build(self, recipe: Recipe, debian: Path) -> None:
        target = self.layout(recipe).folder
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{recipe.name}-") as scratch:
            root, partial = Path(scratch) / "root", Path(scratch) / "layout"
            root.mkdir()
            _fill(root, recipe, debian)
            container = _run("buildah", "from", "scratch")
            try:
                _run("buildah", "copy", "--quiet", container, str(root), "/")
                entrypoint = str(recipe.entrypoint.split()).replace("'", '"')
                _run("buildah", "config", "--entrypoint", entrypoint, "--env", f"PATH={_PATH}", container)
                image = _run("buildah", "commit", "--quiet", "--timestamp", "0", "--rm", container)
            except DppError:
                _run("buildah", "rm", container)
                raise
            _run("buildah", "push", "--quiet", "--compression-format", "zstd", image, f"oci:{partial}")
            _run("buildah", "rmi", image)
            partial.rename(target)


def _fill(root: Path, recipe: Recipe, debian: Path) -> None:
    """Put into `root` what `recipe` names."""
    for inside, source in recipe.files.items():
        _copy(tool_folder(recipe.tool) / source, root / inside.lstrip("/"))
    for inside, source in recipe.programs.items():
        _copy((debian / source.lstrip("/")).resolve(), root / inside.lstrip("/"))
    plugins = [file for folder in recipe.folders for file in (debian / folder.lstrip("/")).glob("*.so")]
    for file in plugins:
        _copy(file.resolve(), root / file.relative_to(debian))
    for library in _libraries(
        debian, [*recipe.programs.values(), *(f"/{file.relative_to(debian)}" for file in plugins)]
    ):
        _copy(_inside(debian, library), root / library.lstrip("/"))
    for link, destination in recipe.links.items():
        path = root / link.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(destination)
    (root / "tmp").mkdir(exist_ok=True)
    (root / "tmp").chmod(0o1777)


def _libraries(debian: Path, programs: list[str]) -> list[str]:
    """Return the libraries that dynamic programs of the tree `debian` load, as paths inside it."""
    found: set[str] = set()
    for program in programs:
        done = process.run(["chroot", debian, "ldd", program], timeout=60, check=False)
        if "not a dynamic executable" in done.stdout + done.stderr or "statically linked" in done.stdout:
            continue
        if done.code != 0 or "not found" in done.stdout:
            raise FatalError(program, (done.stderr or done.stdout).strip(), "all its libraries in the Debian tree")
        words = [line.split() for line in done.stdout.splitlines()]
        found |= {line[2] if "=>" in line else line[0] for line in words if any(word.startswith("/") for word in line)}
    return sorted(found)


def _inside(debian: Path, path: str) -> Path:
    """Return the file that `path` means inside the tree, following links as if the tree were the root."""
    file = debian / path.lstrip("/")
    while (debian / path.lstrip("/")).is_symlink():
        target = os.readlink(file)  # noqa: PTH115 - the target as it is written
        path = target if target.startswith("/") else os.path.normpath(f"{os.path.dirname(path)}/{target}")  # noqa: PTH120
        file = debian / path.lstrip("/")
    if not file.exists():
        raise FatalError(path, f"not in {debian}", "a file of the Debian tree")
    return file


def _copy(source: Path, target: Path) -> None:
    if not source.exists():
        raise FatalError(str(source), "missing", "a file for an image", "run `dpp tools build`")
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, copy_function=shutil.copyfile)
    else:
        shutil.copyfile(source, target)
        target.chmod(0o755)


def _run(*command: str) -> str:
    """Run a command and return what it said last: the name of what it made."""
    return (process.run(command, timeout=_COMMAND_SECONDS).stdout.strip().splitlines() or [""])[-1]
