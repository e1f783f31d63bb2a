"""Ansible as this tool uses it: one play over some hosts of an environment."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from dpp.adapters.process import LOCALE
from dpp.model.errors import RetriableError
from dpp.model.folders import REPOSITORY, Folders

PLAYBOOK = "site.yml"


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
        installed: bool = False,
        progress: Callable[[str], None] | None = None,
        playbook: str = PLAYBOOK,
    ) -> PlayResult:
        """Converge `hosts` (or with `check` only tell what would change).

        `console` reaches the lab's machines through their console instead of SSH: for bootstrap only. With `installed` the
        roles' install stages are passed over.

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
                cmdline=_options(check=check, installed=installed),
                envvars=self._environment(console=console),
                event_handler=_Events(result, progress),
                quiet=True,
                rotate_artifacts=1,
            )
            if runner.status != "successful" or result.failures:
                raise self._error(hosts, result, f"the play ended as {runner.status!r}: {_last_words(runner.stdout)}")
        return result

    def _environment(self, *, console: bool) -> dict[str, str]:
        return {
            "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"),
            "ANSIBLE_NOCOLOR": "1",  # its words go into errors
            "LC_ALL": LOCALE,  # Ansible refuses others
            "ANSIBLE_ROLES_PATH": str(REPOSITORY / "roles"),
            "ANSIBLE_LOOKUP_PLUGINS": str(REPOSITORY / "src/dpp/adapters/ansible_plugins/lookup"),
            "DPP_LAB": self.folders.instance,
            "DPP_CONSOLE": "1" if console else "",
            "DPP_SSH_CONFIG": str(self.folders.ssh_config),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",  # works also where no environment is activated
        }

    def _error(self, hosts: Sequence[str], result: PlayResult, otherwise: str) -> RetriableError:
        found = "; ".join(result.failures[:3]) or otherwise
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


def _options(*, check: bool, installed: bool) -> str:
    options = "--diff"
    if check:
        options += " --check"
    if installed:
        stages = sorted(f"{role.parent.name}_install" for role in (REPOSITORY / "roles").glob("*/tasks"))
        options += f" --skip-tags={','.join(stages)}"
    return options


def _last_words(output: IO[str]) -> str:
    """Return what the program said last, for plays that end before any task."""
    return " ".join(output.read().split())[-600:] or "it said nothing"


def _task(data: dict[str, Any]) -> str:
    role, task = data.get("role"), data.get("task", "")
    return f"{role} : {task}" if role and not str(task).startswith(str(role)) else str(task)


def _message(answer: dict[str, Any]) -> str:
    failed = [item for item in answer.get("results", []) if isinstance(item, dict) and item.get("failed")]
    text = (failed[0] if failed else answer).get("msg") or answer.get("stderr") or answer.get("stdout") or "no message"
    return " ".join(str(text).split())[:600]
