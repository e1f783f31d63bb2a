"""The lab's machines: systemd containers that cannot harm their host, each in a network namespace that outlives it.

A machine carries the URN of the resource that owns it. Only that owner may change it, so a creation that was cut short
is found and finished, never doubled.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dpp.adapters.podman import Podman
from dpp.adapters.process import CommandFailedError
from dpp.lab import wires
from dpp.lab.doctor import inotify_in_use
from dpp.lab.machine_spec import FLAGS, INIT, READY, MachineSpec, MachineState, limits
from dpp.model.errors import FatalError, RetriableError
from dpp.model.folders import Folders

LABEL = "org.lsst.dpp."
_BOOT_SECONDS = 90
_INOTIFY_OF_SYSTEMD = 4


class Machines:
    """The machines of one instance of the lab.

    Parameters
    ----------
    folders
        The instance's folders.
    podman
        How containers are run.
    """

    def __init__(self, folders: Folders, podman: Podman | None = None) -> None:
        self.folders = folders
        self.podman = podman or Podman(timeout=180)

    def name(self, host: str) -> str:
        """Return the name of a machine's container and network namespace."""
        return wires.namespace(self.folders.instance, host)

    def ensure(self, spec: MachineSpec, *, replace: bool = True) -> MachineState:
        """Make, mend, start or leave alone, so that the machine is as specified and systemd has booted.

        With `replace`, a container of another specification is replaced; its volumes stay.

        Raises
        ------
        FatalError
            If a machine of this name belongs to another resource, or the image is missing.
        RetriableError
            If systemd does not finish booting.
        """
        name = self.name(spec.host)
        container = self._owned(name, spec.urn)
        if replace and container is not None and _label(container, "digest") != spec.digest:
            self.podman.run("rm", "--force", "--time=20", name)
            container = None
        wires.ensure_port(self.folders.instance, spec.host, spec.port)
        if container is None:
            self._create(name, spec)
            self.podman.run("start", name)
        elif container["State"]["Status"] != "running":
            self.podman.run("start", name)
        elif not self._lives_in(container, name):
            self.podman.run("restart", "--time=20", name)
        self._wait(name)
        if spec.operations:
            self._be_vantage(spec, name)
        state = self.read(spec.host)
        if state is None:
            raise RetriableError(
                f"machine {spec.host}", "it vanished while it was made", remedy="run the command again"
            )
        return state

    def read(self, host: str) -> MachineState | None:
        """Return what there is of a machine, or None."""
        name = self.name(host)
        container = self.podman.inspect(name)
        if container is None:
            return None
        spec = MachineSpec(**_spec(container))
        running = container["State"]["Status"] == "running" and self._lives_in(container, name)
        return MachineState(
            host=host,
            name=name,
            urn=_label(container, "urn"),
            container=container["Id"][:12],
            digest=_label(container, "digest"),
            system=self._system(name) if running else "off",
            plugged=wires.is_plugged(self.folders.instance, host, spec.port),
            started=container["State"]["StartedAt"],
            spec=spec,
        )

    def illness(self, host: str, container: str) -> str:
        """Say in a few words what keeps a machine from being the container of this id, at work on its network."""
        name = self.name(host)
        found = self.podman.inspect(name)
        if found is None:
            return "gone"
        if found["State"]["Status"] != "running" or not self._lives_in(found, name):
            return "systemd is off"
        if not wires.is_plugged(self.folders.instance, host, MachineSpec(**_spec(found)).port):
            return "eth0 is off its network"
        return "" if found["Id"].startswith(container) else str(found["Id"][:12])

    def all(self) -> list[MachineState]:
        """Return every machine of the instance, by name."""
        found = self.podman.containers({f"{LABEL}instance": self.folders.instance})
        labels = [container["Labels"] for container in found]
        hosts = sorted(label[f"{LABEL}host"] for label in labels if f"{LABEL}host" in label)
        return [state for state in map(self.read, hosts) if state is not None]

    def start(self, host: str) -> MachineState:
        """Start a machine that exists, its network made anew where a reboot took it."""
        return self.ensure(self.existing(host).spec, replace=False)

    def stop(self, host: str, seconds: int = 60) -> None:
        """Shut a machine down; after `seconds` it is killed."""
        self.existing(host)
        self.podman.run("stop", f"--time={seconds}", self.name(host), timeout=seconds + 60)

    def remove(self, host: str, urn: str | None = None) -> None:
        """Remove a machine with its network namespace and volumes; nothing happens where there is none.

        Raises
        ------
        FatalError
            If it belongs to another resource than `urn` (where given).
        """
        name = self.name(host)
        if urn is not None:
            self._owned(name, urn)
        self.podman.run("rm", "--force", "--time=0", "--ignore", name)
        wires.remove_namespace(name)
        shutil.rmtree(self.folders.state / "volumes" / host, ignore_errors=True)

    def refuse_loss(self, host: str, volumes: Sequence[str]) -> None:
        """Refuse, by a ``FatalError``, other volumes for a machine if data would be left behind by them.

        A folder that becomes a volume begins with what the image has in it; one that is no volume any more is not mounted.
        """
        state = self.read(host)
        if state is None:
            return
        kept = self.folders.state / "volumes" / host
        for target in sorted(set(state.spec.volumes) - set(volumes)):
            folder = _volume(kept, target)
            if folder.is_dir() and any(folder.iterdir()):
                raise FatalError(
                    f"machine {host}", f"{target} is to be no volume any more, and {folder} has data", "no data lost",
                    f"leave {target} in VOLUMES, or move what is in {folder} away first",
                )  # fmt: skip
        added = sorted(set(volumes) - set(state.spec.volumes))
        written = self.podman.run("diff", "--format=json", self.name(host)) if added else "{}"
        changed = [path for paths in json.loads(written).values() for path in paths or ()]
        for target in added:
            inside = [path for path in changed if path.startswith(f"{target}/")]
            if inside:
                raise FatalError(
                    f"machine {host}", f"{target} is to be a volume, and its container has data there ({inside[0]})",
                    "no data lost", f"copy it out first (dpp lab shell {host} --console), empty {target}, put it back after",
                )  # fmt: skip

    # -- inside ------------------------------------------------------------------------------------------------------

    def existing(self, host: str) -> MachineState:
        """Return what there is of a machine.

        Raises
        ------
        FatalError
            If there is none of this name.
        """
        state = self.read(host)
        if state is None:
            raise FatalError(f"machine {host}", "there is none", "a machine of this instance", "see dpp lab status")
        return state

    def _owned(self, name: str, urn: str) -> dict[str, Any] | None:
        container = self.podman.inspect(name)
        if container is not None and _label(container, "urn") != urn:
            raise FatalError(
                f"machine {name}",
                f"it belongs to {_label(container, 'urn') or 'nobody known here'}",
                urn,
                "destroy it with the stack that owns it, or run dpp lab down",
            )
        return container

    def _create(self, name: str, spec: MachineSpec) -> None:
        if self.podman.image_id(spec.image) is None:
            raise FatalError(f"image {spec.image}", "not in podman's storage", "the lab's base image", "run dpp lab up")
        labels = {
            "instance": self.folders.instance,
            "host": spec.host,
            "urn": spec.urn,
            "digest": spec.digest,
            "spec": json.dumps(asdict(spec)),
        }
        self.podman.run(
            "create",
            f"--name={name}",
            f"--hostname={spec.host}",
            f"--network=ns:{wires.NAMESPACES / name}",
            *(f"--label={LABEL}{key}={value}" for key, value in labels.items()),
            f"--env=DPP_HOST={spec.host}",
            f"--env=DPP_ADDRESS={spec.address.partition('/')[0]}",
            f"--volume={self._init_file()}:/usr/local/sbin/dpp-init:ro",
            *self._volumes(name, spec),
            *limits(),
            *FLAGS,
            spec.image,
            "/usr/local/sbin/dpp-init",
        )

    def _init_file(self) -> Path:
        """Return a copy of the init wrapper outside the tree, so that machines outlive a checkout."""
        target = self.folders.state / "machine-init"
        if not target.exists() or target.read_text() != INIT.read_text():
            target.parent.mkdir(parents=True, exist_ok=True)
            fresh = target.with_name(f".machine-init.{time.monotonic_ns()}")
            fresh.write_text(INIT.read_text())
            fresh.chmod(0o755)
            fresh.rename(target)
        return target

    def _volumes(self, name: str, spec: MachineSpec) -> list[str]:
        """Return the flags of the machine's volumes; a new one begins with what the image has in its place."""
        top = self.folders.state / "volumes" / spec.host
        folders = {target: _volume(top, target) for target in spec.volumes}
        if missing := {target: folder for target, folder in folders.items() if not folder.exists()}:
            fresh = top / ".new"
            shutil.rmtree(fresh, ignore_errors=True)
            fresh.mkdir(parents=True)
            copies = [f"mkdir -p {target} && cp -a {target} /mnt/{folder.name}" for target, folder in missing.items()]
            self.podman.run(
                "run", "--rm", "--replace", f"--name={name}-volumes", f"--label={LABEL}instance={self.folders.instance}",
                "--network=none", *limits(), f"--volume={fresh}:/mnt", spec.image, "sh", "-ec", "\n".join(copies),
            )  # fmt: skip
            for folder in missing.values():
                (fresh / folder.name).rename(folder)
            fresh.rmdir()
        return [f"--volume={folder}:{target}" for target, folder in folders.items()]

    def _lives_in(self, container: Mapping[str, Any], name: str) -> bool:
        """Say whether a running container is in the network namespace of its name."""
        try:
            own = Path(f"/proc/{container['State']['Pid']}/ns/net").stat()
            named = (wires.NAMESPACES / name).stat()
        except FileNotFoundError:
            return False
        return own.st_ino == named.st_ino

    def _system(self, name: str) -> str:
        try:
            return self.podman.execute(name, ["systemctl", "is-system-running"]).strip()
        except CommandFailedError as error:  # it answers with words and a code for every state but running
            return error.stdout.strip() or "booting"

    def _wait(self, name: str) -> None:
        deadline, system = time.monotonic() + _BOOT_SECONDS, "booting"
        while time.monotonic() < deadline:
            system = self._system(name)
            if system in READY:
                return
            container = self.podman.inspect(name)
            if container is None or container["State"]["Status"] == "exited":
                raise self._stillborn(name)
            time.sleep(0.2)
        raise RetriableError(
            f"machine {name}", f"systemd says {system} after {_BOOT_SECONDS} s{_scarcity()}", "running", "run it again"
        )

    def _stillborn(self, name: str) -> FatalError:
        said = self.podman.run("logs", "--tail=5", name).strip() or "it said nothing"
        return FatalError(
            f"machine {name}", f"it ended while booting: {said}{_scarcity()}", remedy=f"see podman logs {name}"
        )

    def _be_vantage(self, spec: MachineSpec, name: str) -> None:
        folder = self.folders.run / "vantages"
        folder.mkdir(parents=True, exist_ok=True)
        link = folder / spec.site
        if not link.is_symlink() or link.readlink() != wires.NAMESPACES / name:
            fresh = folder / f".{spec.site}.{time.monotonic_ns()}"
            fresh.symlink_to(wires.NAMESPACES / name)
            fresh.rename(link)


def _scarcity() -> str:
    """Return, where inotify instances run out, a sentence that says so: systemd does not boot without, nor says why."""
    limit = int(Path("/proc/sys/fs/inotify/max_user_instances").read_text())
    used = inotify_in_use()
    scarce = used >= limit - _INOTIFY_OF_SYSTEMD
    return f" ({used} of root's {limit} inotify instances are in use: end what holds them, or raise the limit)" * scarce


def _volume(top: Path, target: str) -> Path:
    return top / target.strip("/").replace("/", "-")


def _label(container: Mapping[str, Any], key: str) -> str:
    return str((container["Config"].get("Labels") or {}).get(LABEL + key, ""))


def _spec(container: Mapping[str, Any]) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(_label(container, "spec"))
    return {**fields, "volumes": tuple(fields["volumes"])}
