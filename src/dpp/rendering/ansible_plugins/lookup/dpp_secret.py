"""Ansible lookup that names secrets in place of telling them, for what is rendered to be looked at."""

from __future__ import annotations

from typing import Any, Final

from ansible.plugins.lookup import LookupBase

DOCUMENTATION = """
name: dpp_secret
short_description: Names of the environment's secrets
description:
  - Takes what the lookup of the environment's secrets takes; makes none and returns their names, in brackets.
options:
  _terms:
    description: The kind of secret, then what it belongs to.
    required: true
  names:
    description: Further host names and addresses that a certificate is valid for.
    type: list
    elements: str
    default: []
  site:
    description: The site whose authority signs a certificate.
    type: str
"""

EXAMPLES = """
- ansible.builtin.debug:
    msg: "{{ lookup('dpp_secret', 'password', 'kafka-admin') }}"
"""

RETURN = """
_raw:
  description: The same shape as the secrets have.
  type: list
"""

_PARTS: Final = {
    "certificate": ("key", "chain"),
    "authority": ("key", "chain"),
    "ssh_authority": ("private", "public", "certificate"),
    "ssh_user_certificate": ("private", "public", "certificate"),
    "ssh_host_certificate": ("private", "public", "certificate"),
}


class LookupModule(LookupBase):  # type: ignore[misc]  # Ansible has no types
    """See DOCUMENTATION."""

    def run(self, terms: list[Any], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[Any]:
        """Return the names of what the terms ask for, as a list of one."""
        self.set_options(var_options=variables, direct=kwargs)
        kind, *owner = terms
        if kind == "passwords":
            return [{key: f"[password {name}]" for key, name in dict(owner[0]).items()}]
        name = " ".join([kind.replace("_", " "), *map(str, owner)])
        if kind not in _PARTS:
            return [f"[{name}]"]
        names = ", ".join(map(str, self.get_option("names")))
        return [{part: f"[{part} of {name}{f' for {names}' * bool(names)}]" for part in _PARTS[kind]}]
