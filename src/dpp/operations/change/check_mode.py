"""What the playbook of everything would do to hosts: Ansible's own check run with the files and the code of one tree."""

from __future__ import annotations

import json
import os
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from dpp.adapters.ansible import PLAYBOOK
from dpp.adapters.process import LOCALE, Done, run
from dpp.adapters.secrets import Secrets
from dpp.model.errors import RetriableError
from dpp.model.folders import Folders
from dpp.operations.change.compare import as_text, grouped, unified
from dpp.operations.change.findings import TextDifference
from dpp.operations.change.sides import Side, own_variables

_PLUGINS: Final = Path(__file__).with_name("ansible_plugins") / "callback"
_CALLBACK: Final = "dpp_differences"
_SECONDS: Final = 2 * 3600.0
_SHORTEST_SECRET: Final = 8
HIDDEN: Final = "would change something that may be a secret: the task hides it"
UNTOLD: Final = "would change something, and its module does not tell what"
_PRIVATE_KEY = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----", re.DOTALL)

Found = tuple[str, str, str, str]
"""Kind, name and text of a difference, and its host."""


class Veil:
    """Has secrets of an environment stand by name, and no private key at all.

    Tasks hide what they know to be a secret; this is for what ended up somewhere else.

    Parameters
    ----------
    folders
        The environment's.
    """

    def __init__(self, folders: Folders) -> None:
        secrets = Secrets(folders.secrets)
        values = {secrets.password(name): name for name in secrets.passwords()}
        self._names = {value: name for value, name in values.items() if len(value) >= _SHORTEST_SECRET}

    def __call__(self, text: str) -> str:
        """Return a text as people may see it."""
        for value, name in self._names.items():
            text = text.replace(value, f"[secret {name}]")
        return _PRIVATE_KEY.sub("[private key]", text)


class CheckRun:
    """Runs the playbook of a tree in check mode, on hosts of an environment that can be reached.

    Parameters
    ----------
    side
        The tree: its inventory, playbook, roles and plugins are used, by its own code.
    environment
        Name of the environment.
    folders
        Its folders: way in, secrets.
    """

    def __init__(self, side: Side, environment: str, folders: Folders) -> None:
        self._side, self._environment, self._folders = side, environment, folders

    def differences(self, hosts: Sequence[str]) -> frozenset[Found]:
        """Return what would be another on hosts, secrets by name.

        Raises
        ------
        RetriableError
            If a host cannot be reached, or a task fails on it: then nobody knows what the rest would do.
        """
        if not hosts:
            return frozenset()
        done = run(self._command(hosts), timeout=_SECONDS, env=self._variables(), cwd=self._side.root, check=False)
        told = read(done.stdout, Veil(self._folders))
        if trouble := self._trouble(told, done):
            raise trouble
        return frozenset(differences_of(told))

    def _command(self, hosts: Sequence[str]) -> list[str]:
        root = self._side.root
        return [
            str(Path(sys.executable).with_name("ansible-playbook")),
            f"--inventory={root / 'inventories' / self._environment}",
            f"--limit={','.join(hosts)}",
            "--check",
            "--diff",
            str(root / "playbooks" / PLAYBOOK),
        ]

    def _variables(self) -> dict[str, str]:
        root = self._side.root
        return own_variables(self._side) | {
            "ANSIBLE_NOCOLOR": "1",
            "LC_ALL": LOCALE,  # Ansible refuses others
            "ANSIBLE_ROLES_PATH": str(root / "roles"),
            "ANSIBLE_LOOKUP_PLUGINS": str(root / "src/dpp/adapters/ansible_plugins/lookup"),
            "ANSIBLE_CALLBACK_PLUGINS": str(_PLUGINS),
            "ANSIBLE_STDOUT_CALLBACK": _CALLBACK,
            "ANSIBLE_CALLBACKS_ENABLED": _CALLBACK,  # and no other
            "DPP_LAB": self._folders.instance,
            "DPP_CONSOLE": "",
            "DPP_SSH_CONFIG": str(self._folders.ssh_config),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        }

    def _trouble(self, told: Iterable[Mapping[str, Any]], done: Done) -> RetriableError | None:
        """Return why the run counts for nothing."""
        silent = {one["host"]: one["message"] for one in told if one["event"] == "unreachable"}
        failed = {one["host"]: f"{one['task']}: {one['message']}" for one in told if one["event"] == "failed"}
        where = f"environment {self._environment}"
        if silent:
            return RetriableError(f"{where}, {_hosts(silent)}", f"cannot be reached: {_first(silent)}", "hosts that answer", "see dpp status, bring them back, and ask again; without --live the page compares with BASE as declared")  # fmt: skip
        if failed:
            return RetriableError(f"{where}, {_hosts(failed)}", f"the check run of {self._side.name[:12]} fails: {_first(failed)}", "one that comes to its end", "mend what it says: nobody knows what the change does there after that")  # fmt: skip
        if done.code:
            said = Veil(self._folders)(done.said)
            return RetriableError(where, f"the check run of {self._side.name[:12]} ended with code {done.code}: {said[-600:]}", "one that comes to its end", f"dpp model check {self._environment} in that tree")  # fmt: skip
        return None


def read(output: str, veil: Callable[[str], str]) -> list[dict[str, Any]]:
    """Return what a check run told, veiled; lines of others are passed over."""

    def veiled(found: dict[str, Any]) -> dict[str, Any]:
        return {key: veil(value) if isinstance(value, str) else value for key, value in found.items()}

    return [json.loads(line, object_hook=veiled) for line in output.splitlines() if line.startswith('{"event"')]


def differences_of(told: Iterable[Mapping[str, Any]]) -> Iterator[Found]:
    """Yield the differences that a check run tells of, those without a path by the task's name."""
    for one in told:
        if one["event"] != "changed":
            continue
        texts: dict[str, list[str]] = defaultdict(list)
        for difference in one["differences"]:
            if text := _unified(difference):
                texts[str(difference["path"])].append(text)
        for path, found in texts.items():
            yield "host file" if path else "host task", path or str(one["task"]), "\n".join(found), str(one["host"])
        if not texts:
            yield "host task", str(one["task"]), HIDDEN if one["hidden"] else UNTOLD, str(one["host"])


def condensed(found: Iterable[Found]) -> tuple[TextDifference, ...]:
    """Return differences, equal ones of several hosts once."""
    places: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for kind, name, diff, host in found:
        places[kind, name, diff].append(host)
    return tuple(grouped(places))


def _unified(difference: Mapping[str, Any]) -> str:
    if difference.get("prepared"):
        return str(difference["prepared"]).rstrip("\n")
    return unified(*(_text(difference.get(key)) for key in ("before", "after")))


def _text(value: Any) -> str:
    return "" if value is None else value if isinstance(value, str) else as_text(value)


def _hosts(names: Mapping[str, str]) -> str:
    return f"{'host' if len(names) == 1 else 'hosts'} {', '.join(sorted(names))}"


def _first(reasons: Mapping[str, str]) -> str:
    return reasons[min(reasons)]
