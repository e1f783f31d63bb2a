"""The base image of all machines: Debian with the install stage of every role run in it.

The image is a chain of layers: the bare system first, then one layer per role. Each layer is named by the digest of all
that it and those below it were made from, so that a change redoes the layers above it only, and a build that was cut
short goes on at the layer it was at.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import yaml

from dpp.adapters.locks import exclusive
from dpp.adapters.podman import Podman
from dpp.adapters.process import Words, lines, run
from dpp.adapters.progress import Reporter
from dpp.build import downloads
from dpp.build.tools.catalogue import TOOLS
from dpp.model.folders import REPOSITORY, Folders

SUITE = "bookworm"
"""Release of Debian."""

PACKAGES = (
    "acl", "ca-certificates", "curl", "dbus", "ethtool", "iproute2", "iptables", "iputils-ping", "jq", "kmod",
    "less", "libpam-systemd", "nftables", "openssh-server", "procps", "python3", "python3-apt", "socat", "sudo",
    "systemd", "systemd-sysv", "tcpdump",
)  # fmt: skip
"""What every machine has before any role is applied."""

_FILES = {
    "usr/sbin/policy-rc.d": "#!/bin/sh\n# Roles start what they own; installing a package starts nothing.\nexit 101\n",
    "etc/systemd/system-preset/00-dpp.preset": "# Roles enable what they own.\nenable dbus.service\ndisable *\n",
}
"""Files of the bare system, there before any package is."""

_OPTIONS = (
    "--mode=root", "--format=tar", "--variant=minbase", "--skip=chroot/policy-rc.d",
    "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr", f"--include={','.join(PACKAGES)}",
    "--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-include=/usr/share/doc/*/copyright",
    "--dpkgopt=path-exclude=/usr/share/man/*", "--dpkgopt=path-exclude=/usr/share/locale/*",
    '--aptopt=APT::Install-Recommends "false"', '--aptopt=APT::Keep-Downloaded-Packages "true"',
    '--aptopt=Binary::apt::APT::Keep-Downloaded-Packages "true"', '--aptopt=DPkg::Lock::Timeout "120"',
)  # fmt: skip
"""How mmdebstrap makes the bare system; what dpkg and apt are told here holds in every machine."""

ORDER = (
    "base_system", "border_router", "container_registry", "postgresql", "operations_host", "object_store", "kafka_broker",
    "summit_storage", "container_runtime", "kubernetes_node", "kubernetes_control_plane",
)  # fmt: skip
"""Roles by how seldom their install stages change, as their history has it: a change redoes what comes after it.

What only takes Debian's packages comes first, then what takes tools and programs of ours. A new role goes to the end.
"""

DRAFT = "dpp-image-"
"""How the names of the containers begin in which layers are made."""

_PLAIN = {"ANSIBLE_FORCE_COLOR": "0", "ANSIBLE_NOCOLOR": "1"}
_STEP_SECONDS, _PLAY_SECONDS = 900, 3600

_SEAL = "systemctl preset-all --preset-mode=full --quiet; rm -f /etc/ssh/ssh_host_*; : >/etc/machine-id"
"""Leaves nothing enabled and no identity behind: machines must not share one."""

_ROOM = {"TMPDIR": "/var/tmp"}  # noqa: S108 - a folder of its own in there: /tmp may be memory
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
"""Debian's own keys, here and in every machine."""

WAYS_OUT = "/run/dpp-build"
"""Where a layer in the making finds how to reach what it downloads; playbooks/image.yml says so to apt."""

_LIST_PACKAGES = r"""
import json, pathlib, re, subprocess
rows = subprocess.run(["dpkg-query", "-W", "-f", "${Package} ${Version}\n"], capture_output=True, text=True).stdout
def licence(name):
    file = pathlib.Path("/usr/share/doc", name, "copyright")
    text = file.read_text(errors="replace") if file.exists() else ""
    common = re.findall(r"/usr/share/common-licenses/([A-Za-z0-9.-]*[A-Za-z0-9])", text)
    return ", ".join(sorted(set(re.findall(r"^License: *(\S.*?) *$", text, re.M)) or set(common))) or "unknown"
print(json.dumps([{"name": n, "version": v, "licence": licence(n)} for n, v in map(str.split, rows.splitlines())]))
"""


@dataclass(frozen=True)
class Layer:
    """One layer of the image.

    Parameters
    ----------
    role
        The role whose install stage made it; empty for the bare system.
    digest
        First twelve hexadecimal digits of the SHA-256 over this layer's sources and the digest below.
    """

    role: str
    digest: str

    @property
    def reference(self) -> str:
        """Name of the layer as an image."""
        return f"localhost/dpp/layer:{self.digest}"


def _sources(role: Path) -> Iterator[bytes]:
    """Yield what the install stage of `role` is made of: its tasks, the defaults and files they name, their tools."""
    text = (role / "tasks/install.yml").read_text()
    defaults = role / "defaults/main.yml"
    values = yaml.safe_load(defaults.read_text()) or {} if defaults.exists() else {}
    used: dict[str, str] = {}
    while new := {key: str(values[key]) for key in values.keys() - used if re.search(rf"\b{key}\b", text)}:
        used |= new
        text += "\n".join(new.values())
    yield (role / "tasks/install.yml").read_bytes()
    yield repr(sorted(used.items())).encode()
    if "dpp_tool" in text:
        yield from (one.digest.encode() for one in TOOLS.values() if re.search(rf"\b{one.name}\b", text))
    for file in sorted(role.rglob("*")):
        if (
            file.is_file()
            and {"tasks", "files", "templates"} & set(file.relative_to(role).parts[:1])
            and file.name in text
        ):
            yield file.read_bytes()


def _order(role: Path) -> tuple[int, str]:
    return ORDER.index(role.name) if role.name in ORDER else len(ORDER), role.name


@dataclass
class BaseImage:
    """The base image as the roles of this checkout define it.

    Parameters
    ----------
    reporter
        Where progress is shown.
    """

    reporter: Reporter

    def __post_init__(self) -> None:
        self._folder = Folders.current().cache / "images"
        self._podman = Podman(timeout=_STEP_SECONDS)

    @cached_property
    def layers(self) -> list[Layer]:
        """All layers, the bare system first."""
        digest = hashlib.sha256(repr((SUITE, sorted(_FILES.items()), _OPTIONS, _SEAL)).encode())
        layers = [Layer("", digest.hexdigest()[:12])]
        for tasks in sorted(REPOSITORY.glob("roles/*/tasks/install.yml"), key=lambda file: _order(file.parents[1])):
            digest = hashlib.sha256(layers[-1].digest.encode())
            for source in _sources(tasks.parents[1]):
                digest.update(hashlib.sha256(source).digest())
            layers.append(Layer(tasks.parents[1].name, digest.hexdigest()[:12]))
        return layers

    @property
    def reference(self) -> str:
        """Name of the image, such as ``localhost/dpp/base:0123456789ab``, built or not."""
        return f"localhost/dpp/base:{self.layers[-1].digest}"

    def ensure(self) -> str:
        """Build the layers that are missing and return the image's name.

        Raises
        ------
        FatalError
            A step failed: the error ends with what it printed.
        """
        if self._podman.image_id(self.reference) is None:
            with exclusive(self._folder / ".lock", tell=self.reporter.note):
                self._build()
        return self.reference

    def _build(self) -> None:
        present = [index for index, layer in enumerate(self.layers) if self._podman.image_id(layer.reference)]
        first = present[-1] + 1 if present else 0
        remove_drafts(self._podman, self._folder)
        with self.reporter.step("base image", len(self.layers) - first) as step:
            for index in range(first, len(self.layers)):
                layer = self.layers[index]
                step.advance(layer.role or "bare system", by=0)
                if index == 0:
                    self._make_system(layer)
                else:
                    self._make_layer(layer, below=self.layers[index - 1])
                step.advance(layer.role)
        self._record_packages()
        self._podman.run("tag", self.layers[-1].reference, self.reference)

    def _make_system(self, layer: Layer) -> None:
        archive = self._folder / f"rootfs-{layer.digest}.tar"
        if not archive.exists():
            self._folder.mkdir(parents=True, exist_ok=True)
            sources = sources_of_apt(_index_targets())
            if sources and not any(f"{SUITE}-security" in line for line in sources):
                self.reporter.note("this machine's apt names no mirror of security updates: its machines go without")
            with self.reporter.step(f"Debian {SUITE}") as step, tempfile.TemporaryDirectory() as scratch:
                partial = archive.with_suffix(".partial")
                command: Words = ["mmdebstrap", *_OPTIONS, *self._hooks(Path(scratch)), SUITE, partial, *sources]
                for line in lines(command, timeout=_PLAY_SECONDS, env=downloads.variables() | _ROOM):
                    step.advance(line, by=0)
            partial.rename(archive)
        changes = ["CMD /sbin/init", "LABEL dpp.image=base", "STOPSIGNAL SIGRTMIN+3", "ENV container=podman"]
        self._podman.run("import", *(f"--change={change}" for change in changes), str(archive), layer.reference)

    @staticmethod
    def _hooks(scratch: Path) -> list[str]:
        """Write what mmdebstrap brings into the system, and return how it does."""
        for name, content in _FILES.items():
            (scratch / "files" / name).parent.mkdir(parents=True, exist_ok=True)
            (scratch / "files" / name).write_text(content)
        (scratch / "files/usr/sbin/policy-rc.d").chmod(0o755)
        (scratch / "95dpp-build").write_text(downloads.apt(downloads.trusted()))
        seal = f"{_SEAL}; rm -f /etc/apt/apt.conf.d/95dpp-build /etc/resolv.conf /etc/hostname"
        return [
            f"--setup-hook=copy-in {scratch}/95dpp-build /etc/apt/apt.conf.d/",
            f"--extract-hook=sync-in {scratch}/files /",
            f'--customize-hook=chroot "$1" sh -ec {shlex.quote(seal)}',
        ]

    def _make_layer(self, layer: Layer, below: Layer) -> None:
        name = f"{drafts_of(self._folder)}{layer.digest}"
        folders = {
            "apt": "/var/cache/apt/archives",
            "lists": "/var/lib/apt/lists",
        }  # kept for later builds, not in the image
        for folder in folders:
            (self._folder / folder / "partial").mkdir(parents=True, exist_ok=True)
        volumes = [f"--volume={self._folder / folder}:{target}" for folder, target in folders.items()]
        volumes.append(f"--volume={ways_out(self._folder)}:{WAYS_OUT}:ro")
        limits = ["--ulimit=nofile=20000:20000", "--ulimit=nproc=32768:32768"]
        self._podman.run(
            "run",
            "--detach",
            f"--name={name}",
            "--network=host",
            "--http-proxy=false",  # it would stay in the image
            *limits,
            *volumes,
            below.reference,
            "sleep",
            "infinity",
        )
        try:
            self._install(layer.role, name)
            self._podman.execute(name, ["sh", "-ec", _SEAL])
            changes = ["CMD /sbin/init", "LABEL dpp.image=base"]
            self._podman.run(
                "commit",
                "--quiet",
                "--pause=false",
                *(f"--change={change}" for change in changes),
                name,
                layer.reference,
            )
        finally:
            self._podman.run("rm", "--force", "--time=0", name)

    def _install(self, role: str, container: str) -> None:
        command = [
            str(Path(sys.executable).with_name("ansible-playbook")),
            "playbooks/image.yml",
            f"--inventory={container},",
            f"--extra-vars=image_role={role}",
        ]
        with self.reporter.step(f"install stage of {role}") as step:
            for line in lines(command, timeout=_PLAY_SECONDS, cwd=REPOSITORY, env=_PLAIN):
                if task := re.match(r"TASK \[(.*)]", line):
                    step.advance(task[1])

    def _record_packages(self) -> None:
        target = self._folder / f"base-{self.layers[-1].digest}" / "packages.json"
        target.parent.mkdir(parents=True, exist_ok=True)
        command = ["run", "--rm", "--network=none", "--ulimit=nproc=32768:32768", "--ulimit=nofile=20000:20000"]
        listed = self._podman.run(*command, self.layers[-1].reference, "python3", "-c", _LIST_PACKAGES)
        target.write_text(json.dumps(json.loads(listed), indent=1))


def ways_out(cache: Path) -> Path:
    """Return a folder of the cache with apt's configuration of this machine, and the authorities that it is to trust."""
    folder, trusted = cache / "ways-out", downloads.trusted()
    folder.mkdir(parents=True, exist_ok=True)
    if trusted is not None:
        shutil.copyfile(trusted, folder / "authorities.crt")
    (folder / "apt.conf").write_text(downloads.apt(Path(WAYS_OUT) / "authorities.crt" if trusted else None))
    return folder


def _index_targets() -> list[str]:
    fields = "$(SITE) $(CODENAME) $(COMPONENT) $(ORIGIN)"
    return run(["apt-get", "indextargets", "--format", fields, "Created-By: Packages"], timeout=60).stdout.splitlines()


def sources_of_apt(targets: Iterable[str]) -> list[str]:
    """Return sources of our suite, its updates and its security updates, from the mirrors that this machine uses.

    Parameters
    ----------
    targets
        Site, suite, component and origin of all that apt knows here, of whatever release this machine is. Where it knows no
        mirror of Debian, mmdebstrap's own choice is taken.
    """
    known = [words for line in targets if (words := line.split(maxsplit=3))[2:] == ["main", "Debian"]]
    mirrors = {suite.partition("-")[2]: site for site, suite, *_ in known}
    if "" not in mirrors:
        return []
    signed = f"[signed-by={_KEYRING}] " if _KEYRING.exists() else ""
    places = {SUITE: mirrors[""], f"{SUITE}-updates": mirrors[""]}
    if "security" in mirrors:
        places[f"{SUITE}-security"] = mirrors["security"]
    return [f"deb {signed}{site} {suite} main" for suite, site in places.items()]


def drafts_of(cache: Path) -> str:
    """Return how the containers of a cache's builds are called: podman's storage is shared by all caches of a machine."""
    return f"{DRAFT}{hashlib.sha256(str(cache).encode()).hexdigest()[:8]}-"


def remove_drafts(podman: Podman, cache: Path) -> list[str]:
    """Remove the containers of a cache's builds that were killed and return their names; called while nobody builds in it."""
    found = podman.run("ps", "--all", f"--filter=name=^{drafts_of(cache)}", "--format={{.Names}}").split()
    if found:
        podman.run("rm", "--force", "--time=0", "--ignore", *found)
    return found
