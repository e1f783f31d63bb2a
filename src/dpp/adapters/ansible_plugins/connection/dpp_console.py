"""Ansible connection to a lab machine's console: its namespaces are entered directly, one process per task."""

from __future__ import annotations

import os
from pathlib import Path

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.connection import ConnectionBase

from dpp.adapters.process import LOCALE, Done, run
from dpp.model.errors import DppError

DOCUMENTATION = """
name: dpp_console
short_description: Run tasks in a machine of the lab through its console
description:
  - Enters the namespaces of the machine's first process. For bootstrap and break-glass, and for testing roles.
  - An engine's exec command costs a hundred times as much, and Ansible calls it five times a task.
extends_documentation_fragment: [connection_pipelining]
options:
  remote_addr:
    description: Name of the machine's container, which is also that of its network namespace.
    default: inventory_hostname
    vars:
      - name: inventory_hostname
      - name: ansible_host
"""

_NAMESPACES = Path("/run/netns")
_RUN = Path("/run/dpp")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_TASK_SECONDS = 3600
_ENTER = ("--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--wd=/")


class Connection(ConnectionBase):  # type: ignore[misc]
    """One machine's console."""

    transport = "dpp_console"
    has_pipelining = True

    def _connect(self) -> Connection:
        self._connected = True
        return self

    def exec_command(self, cmd: str, in_data: bytes | None = None, sudoable: bool = True) -> tuple[int, bytes, bytes]:
        """Run a shell command as root; return its exit code and what it printed."""
        super().exec_command(cmd, in_data=in_data, sudoable=sudoable)
        done = self._enter(["/bin/sh", "-c", cmd], in_data)
        return done.code, done.output, done.errors

    def put_file(self, in_path: str, out_path: str) -> None:
        """Copy a file to the machine."""
        super().put_file(in_path, out_path)
        done = self._enter(["/bin/sh", "-c", 'cat > "$0"', out_path], Path(in_path).read_bytes())
        if done.code != 0:
            raise AnsibleConnectionFailure(f"{out_path} of {self._name}: {done.stderr}")

    def fetch_file(self, in_path: str, out_path: str) -> None:
        """Copy a file from the machine."""
        super().fetch_file(in_path, out_path)
        done = self._enter(["cat", in_path], None)
        if done.code != 0:
            raise AnsibleConnectionFailure(f"{in_path} of {self._name}: {done.stderr}")
        Path(out_path).write_bytes(done.output)

    def close(self) -> None:
        """Forget the machine."""
        self._connected = False

    @property
    def _name(self) -> str:
        return str(self.get_option("remote_addr"))

    def _enter(self, command: list[str], data: bytes | None) -> Done:
        enter = ["nsenter", f"--target={self._pid()}", *_ENTER, "--", "env", "-i", f"PATH={_PATH}", "HOME=/root"]
        try:
            return run([*enter, f"LANG={LOCALE}", *command], timeout=_TASK_SECONDS, input=data, check=False)
        except DppError as error:
            raise AnsibleConnectionFailure(str(error)) from error

    def _pid(self) -> int:
        """Return the machine's first process; remembered, and checked by the network namespace that it lives in."""
        memory = _RUN / self._name.split("-")[1] / "consoles" / self._name
        if memory.exists() and self._is_first(int(memory.read_text())):
            return int(memory.read_text())
        asked = run(["podman", "inspect", "--format={{.State.Pid}}", self._name], timeout=60, check=False)
        pid = int(asked.stdout.strip() or 0)
        if not pid or not self._is_first(pid):
            found = asked.stderr.strip() or "it does not run"
            raise AnsibleConnectionFailure(
                f"machine {self._name}: {found}; expected a running machine, see dpp lab status"
            )
        memory.parent.mkdir(parents=True, exist_ok=True)
        fresh = memory.with_name(f".{self._name}.{os.getpid()}")
        fresh.write_text(str(pid))
        fresh.rename(memory)
        return pid

    def _is_first(self, pid: int) -> bool:
        try:
            inside = Path(f"/proc/{pid}/status").read_text().partition("NSpid:")[2].splitlines()[0].split()
            same = Path(f"/proc/{pid}/ns/net").stat().st_ino == (_NAMESPACES / self._name).stat().st_ino
        except (FileNotFoundError, ProcessLookupError, IndexError):
            return False
        return same and inside[-1] == "1"
