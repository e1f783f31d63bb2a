"""Ansible as this tool uses it: one play over some hosts of an environment, and the digest of what they should become."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from dpp.model.errors import RetriableError
from dpp.model.folders import REPOSITORY, Folders

PLAYBOOK = "site.yml"
_NOT_DEPLOYED = {"molecule", "README.md", "tests", "__pycache__"}
"""Parts of a role that never reach a host, so that a change in them converges nothing."""


@dataclass
class PlayResult:
    """What a play did.

    Parameters
    ----------
    changes
        ``host: role : task`` of every task that changed (in check mode: would change) something.
    failures
        ``host: task: message`` of every task that failed, and of every host that could not be reached.
    tasks
        How many tasks ran, over all hosts.
    """

    changes: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    unreachable: list[str] = field(default_factory=list)
    tasks: int = 0


class Play:
    """Run the playbooks of an environment as site operators do: the same inventory, the same files.

    Parameters
    ----------
    environment
        Name of the environment.
    folders
        The instance's folders: ssh configuration, secrets.
    """

    def __init__(self, environment: str, folders: Folders) -> None:
        self.environment = environment
        self.folders = folders

    def run(
        self,
        hosts: Sequence[str],
        *,
        check: bool = False,
        console: bool = False,
        progress: Callable[[str], None] | None = None,
        playbook: str = PLAYBOOK,
    ) -> PlayResult:
        """Converge `hosts` (or with `check` only tell what would change).

        `console` reaches the lab's machines through their console instead of SSH: for bootstrap only.

        Raises
        ------
        RetriableError
            If a task fails or a host cannot be reached; the text names the first three.
        """
        import ansible_runner  # noqa: PLC0415 - costs half a second

        result = PlayResult()
        with tempfile.TemporaryDirectory(prefix="dpp-play-") as scratch:
            runner = ansible_runner.run(
                private_data_dir=scratch,
                project_dir=str(REPOSITORY),
                playbook=str(REPOSITORY / "playbooks" / playbook),
                inventory=str(REPOSITORY / "inventories" / self.environment),
                limit=",".join(hosts),
                cmdline="--check --diff" if check else "--diff",
                envvars=self._environment(console=console),
                event_handler=_Events(result, progress),
                quiet=True,
                rotate_artifacts=1,
            )
        if runner.status != "successful" or result.failures:
            raise self._error(hosts, result, str(runner.status))
        return result

    def _environment(self, *, console: bool) -> dict[str, str]:
        return {
            "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"),
            "ANSIBLE_ROLES_PATH": str(REPOSITORY / "roles"),
            "ANSIBLE_LOOKUP_PLUGINS": str(REPOSITORY / "src/dpp/adapters/ansible_plugins/lookup"),
            "DPP_LAB": self.folders.instance,
            "DPP_CONSOLE": "1" if console else "",
            "DPP_SSH_CONFIG": str(self.folders.ssh_config),
            "PATH": os.environ["PATH"],
        }

    def _error(self, hosts: Sequence[str], result: PlayResult, status: str) -> RetriableError:
        found = "; ".join(result.failures[:3]) or f"the play ended as {status!r} without naming a task"
        if len(result.failures) > 3:
            found += f"; and {len(result.failures) - 3} more"
        return RetriableError(
            f"convergence of {', '.join(hosts)}",
            found,
            "every task ok",
            f"mend it and run again, or look closer: ansible-playbook playbooks/site.yml --limit {','.join(hosts)}",
        )


class _Events:
    """Fold the runner's events into a result, and tell of progress."""

    def __init__(self, result: PlayResult, progress: Callable[[str], None] | None) -> None:
        self.result = result
        self.progress = progress

    def __call__(self, event: dict[str, Any]) -> bool:
        data = event.get("event_data", {})
        kind = event.get("event", "")
        if kind == "playbook_on_task_start" and self.progress:
            self.progress(str(data.get("name") or data.get("task", "")))
        elif kind in {"runner_on_ok", "runner_on_failed", "runner_on_unreachable"}:
            self._result(kind, data)
        return False  # nothing is kept on disk

    def _result(self, kind: str, data: dict[str, Any]) -> None:
        self.result.tasks += 1
        where = f"{data.get('host')}: {_task(data)}"
        answer = data.get("res", {})
        if kind == "runner_on_ok":
            if answer.get("changed"):
                self.result.changes.append(where)
        elif not data.get("ignore_errors"):
            self.result.failures.append(f"{where}: {_message(answer)}")
            if kind == "runner_on_unreachable":
                self.result.unreachable.append(str(data.get("host")))


def _task(data: dict[str, Any]) -> str:
    role, task = data.get("role"), data.get("task", "")
    return f"{role} : {task}" if role and not str(task).startswith(str(role)) else str(task)


def _message(answer: dict[str, Any]) -> str:
    failed = [item for item in answer.get("results", []) if isinstance(item, dict) and item.get("failed")]
    text = (failed[0] if failed else answer).get("msg") or answer.get("stderr") or answer.get("stdout") or "no message"
    return " ".join(str(text).split())[:600]


def desired_state(environment: str, hosts: Iterable[str]) -> dict[str, str]:
    """Return, per host, the digest of all that decides what it becomes.

    That is: its variables as the inventory resolves them (templates not expanded, so secrets stay out), its roles'
    files, the playbook, and the versions of Ansible and its collections.
    """
    inventory, variables = _inventory(environment)
    return {name: _host_digest(inventory.get_host(name), variables) for name in hosts}


@lru_cache(maxsize=4)
def _inventory(environment: str) -> tuple[Any, Any]:
    from ansible.inventory.manager import InventoryManager  # noqa: PLC0415 - costs half a second
    from ansible.parsing.dataloader import DataLoader  # noqa: PLC0415
    from ansible.vars.manager import VariableManager  # noqa: PLC0415

    loader = DataLoader()
    manager = InventoryManager(loader=loader, sources=[str(REPOSITORY / "inventories" / environment)])
    return manager, VariableManager(loader=loader, inventory=manager)


def _host_digest(host: Any, variables: Any) -> str:
    known = variables.get_vars(host=host, include_hostvars=False)
    own = {key: value for key, value in known.items() if not key.startswith(("ansible_", "omit", "playbook_dir"))}
    # Ansible walks sets of groups: the order of members differs from process to process and means nothing.
    own["groups"] = {group: sorted(members) for group, members in known["groups"].items()}
    roles = sorted(group.name for group in host.get_groups() if (REPOSITORY / "roles" / group.name).is_dir())
    parts = {
        "variables": own,
        "roles": {role: _tree_digest(REPOSITORY / "roles" / role) for role in roles},
        "playbook": _tree_digest(REPOSITORY / "playbooks" / PLAYBOOK),
        "versions": [version("ansible-core"), version("ansible")],
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]


@lru_cache(maxsize=256)
def _tree_digest(path: Path) -> str:
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    digest = hashlib.sha256()
    for file in files:
        relative = file.relative_to(path)
        if not _NOT_DEPLOYED.intersection(relative.parts):
            digest.update(f"{relative}\0{hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()[:16]
