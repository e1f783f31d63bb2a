"""What a machine needs to carry the lab, and what to do about each lack."""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from dpp.adapters.podman import Podman
from dpp.adapters.process import run
from dpp.lab.links.shaping import has_netem
from dpp.model.environment import Environment
from dpp.model.errors import DppError
from dpp.model.folders import Folders

PACKAGES: dict[str, str] = {
    "buildah": "buildah",
    "git": "git",
    "ip": "iproute2",
    "mmdebstrap": "mmdebstrap",
    "mvn": "maven",
    "nft": "nftables",
    "nsenter": "util-linux",
    "openssl": "openssl",
    "ping": "iputils-ping",
    "podman": "podman",
    "runc": "runc",
    "skopeo": "skopeo",
    "ssh": "openssh-client",
    "tar": "tar",
    "/usr/share/keyrings/debian-archive-keyring.gpg": "debian-archive-keyring",
}
"""Debian packages that the lab needs, by a command or a file that each brings."""
TEST_PACKAGES: dict[str, str] = {
    "fitsverify": "fitsverify",
    "funpack": "libcfitsio-bin",
    "initdb": "postgresql",
    "java": "default-jre-headless",
}
"""What tests need besides: judges of FITS files, and the servers of the data plane that runs without machines."""

_INOTIFY_PER_MACHINE, _INOTIFY_BESIDE = 3, 40
_INSTALL_SECONDS, _TRIAL_SECONDS = 1800, 30
_MEMORY_GIB, _DISK_GIB, _FILES = 14, 40, 10000
_GIB = 1 << 30
_CLONE_NEWNET, _CLONE_NEWNS = 0x40000000, 0x00020000
_MS_REC, _MS_PRIVATE = 0x4000, 0x40000
_BPF_PROG_TYPE_SOCKET_FILTER = 1
_BPF_PROGRAM_LOAD = 5
_SYS_BPF = 321
_NFT_PROBE = "table inet dpp_probe { chain c { type filter hook input priority 0; ct state established accept; }; }"
_SHAPE_PROBE = ("tc", "qdisc", "add", "dev", "dppprobe0", "root", "handle", "1:", "htb")

Verdict = Literal["ok", "warning", "lack"]


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Parameters
    ----------
    name
        What it is.
    verdict
        ``ok``; ``warning`` when the lab works with less; ``lack`` when it cannot stand.
    found, expected
        What there is, and what should be.
    remedy
        What to do about it; empty when nothing needs to be done.
    """

    name: str
    verdict: Verdict
    found: str
    expected: str
    remedy: str = ""

    def as_row(self) -> dict[str, Any]:
        """Return the check as a mapping for tables and JSON."""
        return asdict(self)


def _check(name: str, good: bool, found: object, expected: str, remedy: str, otherwise: Verdict = "lack") -> Check:
    return Check(name, "ok" if good else otherwise, str(found), expected, "" if good else remedy)


def examine(environment: Environment, folders: Folders) -> list[Check]:
    """Look at everything that the lab needs of this machine; nothing is changed."""
    machines = len(environment.hosts)
    standing = any((folders.state / "volumes").glob("*"))  # it has taken its share already
    checks = [
        _system(),
        _root(),
        *_packages(),
        *_conflicts(),
        *_control_groups(),
        *_limits(machines, standing=standing),
    ]
    checks += _room(folders, standing=standing)
    if os.geteuid() == 0:
        checks += list(_kernel())
    return checks


def missing_packages(*, tests: bool = False) -> list[str]:
    """Return the Debian packages that the lab (with `tests`: and its tests) needs and that are not installed."""
    servers = map(str, Path("/usr/lib/postgresql").glob("*/bin"))
    search = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin", *servers])
    wanted = PACKAGES | TEST_PACKAGES if tests else PACKAGES
    lacking = {
        package for it, package in wanted.items() if not (Path("/", it).is_file() or shutil.which(it, path=search))
    }
    if "runc" in lacking and _unified() and shutil.which("crun", path=search):
        lacking.discard("runc")
    return sorted(lacking)


def install_packages(packages: Sequence[str]) -> None:
    """Install Debian packages; none is ever removed for them.

    Raises
    ------
    CommandFailedError
        If apt-get fails.
    """
    # Programs are wanted, not daemons beside those that the machine has: none is started in runlevel 1.
    environment = {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    options = ["--yes", "--no-remove", "--no-install-recommends"]
    unfinished = ["dpkg", "--configure", "-a"]  # what an interruption left
    for command in (unfinished, ["apt-get", "update"], ["apt-get", "install", *options, *packages]):
        run(command, timeout=_INSTALL_SECONDS, env=environment, remedy="install them by hand")


ROOM = frozenset({"inotify instances", "memory"})
"""Checks of what a lab takes while it stands."""


def inotify_in_use() -> int:
    """Return how many inotify instances root's processes hold, containers' included: the kernel counts them together."""
    count = 0
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        with suppress(OSError):
            if process.stat().st_uid == 0:
                count += sum("inotify" in str(entry.readlink()) for entry in (process / "fd").iterdir())
    return count


def lacks(checks: Sequence[Check], *, now: bool = True) -> list[Check]:
    """Return the checks without which the lab cannot stand; without `now`, what another one may give back does not count."""
    return [check for check in checks if check.verdict == "lack" and (now or check.name not in ROOM)]


def _system() -> Check:
    release = platform.freedesktop_os_release()
    kind = {release.get("ID", ""), *release.get("ID_LIKE", "").split()}
    good = platform.machine() == "x86_64" and "debian" in kind
    found = f"{release.get('PRETTY_NAME', 'unknown')} on {platform.machine()}, Linux {platform.release()}"
    return _check("system", good, found, "Debian or Ubuntu on x86_64", "use such a machine")


def _root() -> Check:
    return _check("user", os.geteuid() == 0, f"uid {os.geteuid()}", "root", "run it as root (sudo -E)")


def _packages() -> list[Check]:
    missing = missing_packages()
    found = f"missing: {', '.join(missing)}" if missing else "all there"
    return [_check("packages", not missing, found, "the lab's Debian packages", "run dpp doctor --fix")]


def _conflicts() -> list[Check]:
    """Docker's containerd.io brings a runc of its own and conflicts with Debian's package: what is there is used."""
    command = [
        "dpkg-query",
        "-W",
        "-f",
        "${Package} ${db:Status-Abbrev}\n",
        "containerd.io",
        "docker-ce",
        "moby-engine",
    ]
    listed = run(command, timeout=60, check=False).stdout
    present = [line.split()[0] for line in listed.splitlines() if line.endswith("ii ") or " ii" in line]
    if not present:
        return []
    usable = bool(shutil.which("runc") or shutil.which("crun"))
    remedy = "install crun (cgroup v2), or put their runc on PATH: nothing is removed for the lab"
    return [_check("other runtimes", usable, ", ".join(present), "their runc or crun on PATH", remedy)]


def _unified() -> bool:
    return Path("/sys/fs/cgroup/cgroup.controllers").exists()


def _control_groups() -> list[Check]:
    wanted = {"cpu", "memory", "pids"}
    if _unified():
        have = set(Path("/sys/fs/cgroup/cgroup.controllers").read_text().split())
        kind = "version 2"
    else:
        lines = Path("/proc/cgroups").read_text().splitlines()[1:]
        have = {line.split()[0] for line in lines if line.split()[-1] == "1"}
        kind = "version 1"
    found = f"{kind}: {', '.join(sorted(have))}"
    return [_check("control groups", wanted <= have, found, ", ".join(sorted(wanted)), "boot with these controllers")]


def _limits(machines: int, *, standing: bool) -> list[Check]:
    folder = Path("/proc/sys/fs/inotify")
    needed = machines * _INOTIFY_PER_MACHINE + _INOTIFY_BESIDE
    instances, used = int((folder / "max_user_instances").read_text()), inotify_in_use()
    free = instances if standing else instances - used
    watches = int((folder / "max_user_watches").read_text())
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    files = 1 << 30 if files == resource.RLIM_INFINITY else files
    return [
        _check(
            "inotify instances",
            free >= needed,
            f"{instances}, {used} in use",
            f"{needed} free for {machines} machines",
            f"end what holds them, or sysctl fs.inotify.max_user_instances={needed * 4}",
        ),
        _check("inotify watches", watches >= 8192 * 4, watches, "32768", "sysctl fs.inotify.max_user_watches=524288"),
        _check("open files", files >= _FILES, files, f"{_FILES}", f"raise the hard limit: ulimit -Hn {_FILES * 10}"),
    ]


def _room(folders: Folders, *, standing: bool) -> list[Check]:
    fields = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    available = int(fields["MemAvailable"].split()[0]) * 1024 / _GIB
    total = int(fields["MemTotal"].split()[0]) * 1024 / _GIB
    checks = [
        _check(
            "memory",
            total >= _MEMORY_GIB + 1 and (standing or available >= _MEMORY_GIB),
            f"{available:.1f} of {total:.1f} GiB available",
            f"{_MEMORY_GIB} GiB",
            "end other programs or use a larger machine",
            otherwise="warning",
        )
    ]
    for what, folder, setting in (
        ("state", folders.state, "XDG_STATE_HOME"),
        ("cache", folders.cache, "DPP_CACHE"),
        ("images", _image_store(), "graphroot of storage.conf"),
    ):
        place = next(parent for parent in (folder, *folder.parents) if parent.exists())
        free = shutil.disk_usage(place).free / _GIB
        good = free >= (_DISK_GIB / 2 if standing else _DISK_GIB)
        advice = f"move it ({setting}) or make room"
        checks.append(
            _check(f"disk for {what}", good, f"{free:.0f} GiB free at {place}", f"{_DISK_GIB} GiB", advice, "warning")
        )
    return checks


def _image_store() -> Path:
    """Where podman keeps images: what it says, or its default while it cannot be asked."""
    if shutil.which("podman"):
        with suppress(DppError):
            return Path(Podman(timeout=30).run("info", "--format", "{{.Store.GraphRoot}}").strip())
    return Path("/var/lib/containers")


# -- the kernel: each feature is tried, in namespaces that vanish with the child that tries ---------------------------


def _kernel() -> Iterator[Check]:
    missing = "use a kernel that has it (Debian's own does)"
    for name, trial in _TRIALS.items():
        error = _try(trial)
        yield _check(f"kernel: {name}", not error, error or "works", "works", missing)
    means = "netem" if has_netem() else "a user-space delay line (no netem in this kernel)"
    yield Check("kernel: delay and loss of circuits", "ok", means, "netem or the delay line")


def _try(trial: Callable[[], None]) -> str:
    """Run `trial` in a child process with namespaces of its own; return what went wrong."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        message = ""
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.unshare(_CLONE_NEWNET | _CLONE_NEWNS) != 0:
                raise OSError(ctypes.get_errno(), "cannot make namespaces")  # noqa: TRY301
            libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None)
            trial()
        except Exception as error:  # noqa: BLE001 - any reason will do
            message = str(error) or type(error).__name__
        with suppress(OSError):
            os.write(writing, message.encode()[:4000])
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as stream:
        message = stream.read()
    os.waitpid(child, 0)
    return message


def _veth() -> None:
    run(["ip", "link", "add", "dppprobe0", "type", "veth", "peer", "name", "dppprobe1"], timeout=_TRIAL_SECONDS)


def _bridge() -> None:
    run(["ip", "link", "add", "dppprobe0", "type", "bridge"], timeout=_TRIAL_SECONDS)


def _shaping() -> None:
    _veth()
    run(_SHAPE_PROBE, timeout=_TRIAL_SECONDS)


def _tun() -> None:
    run(["ip", "tuntap", "add", "mode", "tap", "dppprobe0"], timeout=_TRIAL_SECONDS)


def _firewall() -> None:
    run(["nft", "-f", "-"], timeout=_TRIAL_SECONDS, input=_NFT_PROBE)


def _bpf() -> None:
    """Load the smallest program: r0 = 0; exit."""
    program = ctypes.create_string_buffer(bytes.fromhex("b7000000000000009500000000000000"))
    licence = ctypes.create_string_buffer(b"GPL")
    attributes = (ctypes.c_uint64 * 16)()
    attributes[0] = _BPF_PROG_TYPE_SOCKET_FILTER | 2 << 32
    attributes[1], attributes[2] = ctypes.addressof(program), ctypes.addressof(licence)
    descriptor = ctypes.CDLL(None, use_errno=True).syscall(
        _SYS_BPF, _BPF_PROGRAM_LOAD, attributes, ctypes.sizeof(attributes)
    )
    if descriptor < 0:
        raise OSError(ctypes.get_errno(), f"bpf: {os.strerror(ctypes.get_errno())}")
    os.close(descriptor)


def _overlay() -> None:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:  # overlayfs needs a disk, not /tmp's memory
        folders = [Path(name) / part for part in ("lower", "upper", "work", "merged")]
        for folder in folders:
            folder.mkdir()
        lower, upper, work, merged = folders
        where = f"lowerdir={lower},upperdir={upper},workdir={work}"
        run(["mount", "-t", "overlay", "-o", where, "overlay", merged], timeout=_TRIAL_SECONDS)
        run(["umount", merged], timeout=_TRIAL_SECONDS)


def _packet_socket() -> None:
    socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close()


_TRIALS: dict[str, Callable[[], None]] = {
    "namespaces and veth": _veth,
    "bridge": _bridge,
    "HTB shaping": _shaping,
    "tun": _tun,
    "nftables": _firewall,
    "bpf": _bpf,
    "overlayfs": _overlay,
    "packet sockets": _packet_socket,
}
