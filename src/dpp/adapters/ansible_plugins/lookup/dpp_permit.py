"""Ansible lookup that says why an environment may not be changed now."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.plugins.lookup import LookupBase

from dpp.model.folders import Folders
from dpp.model.permits import refusal

DOCUMENTATION = """
name: dpp_permit
short_description: Why an environment that asks for an authorised change may not be changed now
description:
  - Asks what the stacks' provider asks before each step, so that no playbook gets round it.
options: {}
"""

EXAMPLES = """
- ansible.builtin.assert:
    that: dpp_permit_refusal == ''
    fail_msg: "{{ dpp_permit_refusal }}"
  vars:
    dpp_permit_refusal: "{{ lookup('dpp_permit') }}"
"""

RETURN = """
_raw:
  description: One sentence, empty where it may be changed.
  type: list
"""


class LookupModule(LookupBase):  # type: ignore[misc]  # Ansible has no types
    """See DOCUMENTATION."""

    def run(self, terms: list[str], variables: Mapping[str, Any] | None = None, **kwargs: Any) -> list[str]:
        """Return why not, or nothing."""
        del terms, kwargs
        known = variables or {}
        provisioning = known.get("dpp_provisioning") or {}
        if provisioning.get("changes", "free") == "free":
            return [""]
        name = Path(known.get("inventory_dir") or "").name
        return [refusal(name, Folders.of(name, instances=provisioning.get("hosts") == "made"))]
