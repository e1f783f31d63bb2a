"""All that decides what a host becomes; its digest changes when, and only when, a convergence may have work to do.

Of the inventory's variables only those count that the host's roles can see: named in their files, or in the value of one
that counts. No role reaches a variable by a name that it computes (a test holds them to it).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from dpp.adapters.ansible import PLAYBOOK
from dpp.model.folders import REPOSITORY
from dpp.model.remembered import remembered
from dpp.model.sources import CONFIGURATION

_NOT_DEPLOYED: Final = {"molecule", "README.md", "tests", "__pycache__"}
"""Parts of a role that never reach a host, so that a change in them converges nothing."""
_HERE: Final = ("ansible_", "omit", "playbook_dir", "inventory_dir", "inventory_file")
"""Variables that say how and from where a host is reached, not what it becomes."""
_IMPORTED = re.compile(r"(?:import|include)_role:\s+name: (\w+)")
_WORD = re.compile(r"[a-z_][a-z0-9_]*")


@dataclass(frozen=True)
class HostState:
    """All that decides what a host becomes.

    Parameters
    ----------
    variables
        Those that its roles can see, as the inventory resolves them; templates are not expanded, so secrets stay out.
    hosts
        Variables of every host, where its roles may ask for them.
    roles, playbooks
        Name to the digest of its files.
    versions
        Of Ansible and its collections.
    """

    variables: Mapping[str, Any]
    hosts: Mapping[str, Any]
    roles: Mapping[str, str]
    playbooks: Mapping[str, str]
    versions: tuple[str, ...]

    @property
    def digest(self) -> str:
        """First sixteen hexadecimal digits of the SHA-256 over all parts."""
        return hashlib.sha256(json.dumps(vars(self), sort_keys=True, default=str).encode()).hexdigest()[:16]


@lru_cache(maxsize=4)
def host_digests(environment: str) -> dict[str, str]:
    """Return the digest of every host of an environment, remembered for the content of all that it is made from."""
    folders = ["inventories/derived", "playbooks", "roles", "services", "k8s/clusters", "src/dpp/model", "src/dpp/adapters/ansible_plugins"]  # fmt: skip
    sources = [REPOSITORY / "inventories" / environment, *(REPOSITORY / one for one in folders), Path(__file__)]
    digests: dict[str, str] = json.loads(remembered(f"hosts-{environment}", sources, lambda: _work_out(environment)))
    return digests


def _work_out(environment: str) -> str:
    names = [str(host.name) for host in inventory(environment)[0].get_hosts()]
    return json.dumps({name: host_state(environment, name).digest for name in names})


def host_state(environment: str, name: str) -> HostState:
    """Return what decides what the host `name` becomes."""
    manager, variables = inventory(environment)
    host = manager.get_host(name)
    known = _literals(variables.get_vars(host=host, include_hostvars=False))
    # Ansible walks sets of groups: the order of members differs from process to process and means nothing.
    known["groups"] = {group: sorted(members) for group, members in known["groups"].items()}
    roles = _with_imported(group.name for group in host.get_groups())
    playbooks = [PLAYBOOK, *(f"{role}.yml" for role in roles)]
    visible, words = _visible(known, frozenset().union(*(_words(role) for role in roles)))
    return HostState(
        variables=visible,
        hosts=all_hosts(environment) if "hostvars" in words else {},
        roles={role: _tree_digest(REPOSITORY / "roles" / role) for role in roles},
        playbooks={name: _tree_digest(REPOSITORY / "playbooks" / name) for name in playbooks},
        versions=(version("ansible-core"), version("ansible")),
    )


@lru_cache(maxsize=4)
def inventory(environment: str) -> tuple[Any, Any]:
    """Return Ansible's managers of an environment's inventory and its variables."""
    os.environ["ANSIBLE_CONFIG"] = CONFIGURATION
    from ansible.inventory.manager import InventoryManager  # noqa: PLC0415 - costs half a second
    from ansible.parsing.dataloader import DataLoader  # noqa: PLC0415
    from ansible.vars.manager import VariableManager  # noqa: PLC0415

    loader = DataLoader()
    manager = InventoryManager(loader=loader, sources=[str(REPOSITORY / "inventories" / environment)])
    return manager, VariableManager(loader=loader, inventory=manager)


@lru_cache(maxsize=4)
def all_hosts(environment: str) -> dict[str, Any]:
    """Return the variables that each host declares itself: what roles may ask of others."""
    return {host.name: _literals(host.vars) for host in inventory(environment)[0].get_hosts()}


def _literals(variables: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in variables.items() if not key.startswith(_HERE)}


def _visible(known: Mapping[str, Any], words: frozenset[str]) -> tuple[dict[str, Any], frozenset[str]]:
    """Return the variables that `words` name, those that these name in turn, and all words met on the way."""
    visible: dict[str, Any] = {}
    while new := {key: known[key] for key in known.keys() & words - visible.keys()}:
        visible |= new
        words |= frozenset(_WORD.findall(json.dumps(new, default=str)))
    return visible, words


def _with_imported(names: Iterable[str]) -> list[str]:
    """Return the roles among `names` and those whose tasks they run as well."""
    found: set[str] = set()
    new = {name for name in names if (REPOSITORY / "roles" / name).is_dir()}
    while new:
        found |= new
        texts = [path.read_text() for role in new for path in (REPOSITORY / "roles" / role / "tasks").glob("*.yml")]
        new = {name for text in texts for name in _IMPORTED.findall(text)} - found
    return sorted(found)


@lru_cache(maxsize=256)
def _words(role: str) -> frozenset[str]:
    texts = (file.read_text(errors="replace") for file in _deployed(REPOSITORY / "roles" / role))
    return frozenset(word for text in texts for word in _WORD.findall(text))


def _deployed(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return [file for file in files if not _NOT_DEPLOYED.intersection(file.relative_to(path).parts)]


def role_digest(name: str) -> str:
    """Return the digest of the files of a role and of those whose tasks it runs, without what never reaches a host."""
    return " ".join(_tree_digest(REPOSITORY / "roles" / one) for one in _with_imported([name]))


@lru_cache(maxsize=256)
def _tree_digest(path: Path) -> str:
    digest = hashlib.sha256()
    for file in _deployed(path):
        digest.update(f"{file.relative_to(path)}\0{hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()[:16]
