"""Lookup of the folder of a built tool."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase

from dpp.build.tools.catalogue import tool_folder
from dpp.model.errors import DppError

DOCUMENTATION = """
name: dpp_tool
short_description: folder of a built tool on the controller
description:
  - Returns the folder in which C(dpp tools build) has put a tool; programs lie in C(bin), Kafka's jars in C(libs).
  - Fails where the tool has not been built.
options:
  _terms:
    description: names of tools, such as C(kubernetes)
    required: true
"""

EXAMPLES = """
- ansible.builtin.copy:
    src: "{{ lookup('dpp_tool', 'kubernetes') }}/bin/"
    dest: /usr/local/bin/
    mode: "0755"
"""

RETURN = """
_raw:
  description: one path for each name
  type: list
  elements: str
"""


class LookupModule(LookupBase):  # type: ignore[misc]  # Ansible has no types
    """Returns the folder of each tool named."""

    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[str]:
        """Return the folders of `terms`.

        Raises
        ------
        AnsibleLookupError
            A tool is unknown or has not been built.
        """
        del variables, kwargs
        try:
            return [str(tool_folder(name)) for name in terms]
        except DppError as error:
            raise AnsibleLookupError(str(error)) from error
