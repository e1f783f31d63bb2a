"""Ansible lookup that names tools with their versions in place of their folders, whether they are built or not."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase

from dpp.build.tools.catalogue import tool
from dpp.model.errors import DppError

DOCUMENTATION = """
name: dpp_tool
short_description: Names and versions of tools
description:
  - Takes what the lookup of tools' folders takes, and returns name, version and digest of each, in brackets.
options:
  _terms:
    description: Names of tools.
    required: true
"""

EXAMPLES = """
- ansible.builtin.debug:
    msg: "{{ lookup('dpp_tool', 'kubernetes') }}"
"""

RETURN = """
_raw:
  description: One name for each tool.
  type: list
  elements: str
"""


class LookupModule(LookupBase):  # type: ignore[misc]  # Ansible has no types
    """See DOCUMENTATION."""

    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[str]:
        """Return name, version and digest of each tool."""
        del variables, kwargs
        try:
            return [f"[{one.name} {one.version}-{one.digest}]" for one in map(tool, terms)]
        except DppError as error:
            raise AnsibleLookupError(str(error)) from error
