"""Ansible variables plugin: what the contracts of services come to at a host."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
from ansible.inventory.host import Host
from ansible.plugins.vars import BaseVarsPlugin

from dpp.model.environment import Environment
from dpp.model.errors import DppError
from dpp.model.principals import Principals
from dpp.model.rights import of_host
from dpp.model.services import Catalogue

DOCUMENTATION = """
name: dpp_rights
short_description: What the contracts of services come to at a host
description:
  - Sets C(dpp_rights_topics), C(dpp_rights_buckets) and more of each host of an environment to what its site's brokers,
    stores and servers have. It follows from the contracts in C(services/), the inventory and C(k8s/clusters/).
"""


class VarsModule(BaseVarsPlugin):  # type: ignore[misc]
    """See DOCUMENTATION."""

    def get_vars(self, loader: Any, path: str, entities: Any) -> dict[str, Any]:
        """Return the variables of one host; groups and other inventories have none."""
        super().get_vars(loader, path, entities)
        hosts = [one for one in (entities if isinstance(entities, list) else [entities]) if isinstance(one, Host)]
        folder = Path(path).resolve()
        if not hosts or folder.parent.name != "inventories":
            return {}
        try:
            principals = _principals(loader, folder.name, folder.parents[1])
            known = [host for host in hosts if host.name in principals.environment.hosts]
            found = of_host(principals, known[-1].name) if known else {}
        except DppError as error:
            raise AnsibleError(f"dpp_rights: {error}") from error
        return {f"dpp_rights_{name}": value for name, value in found.items()}


@lru_cache(maxsize=4)
def _principals(_loader: Any, environment: str, root: Path) -> Principals:
    """Read once for each reading of the inventory: who reads it anew wants what stands there then."""
    return Principals.of(Environment.load(environment, root), Catalogue.read(root), root)
