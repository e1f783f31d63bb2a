"""Ansible lookup of the environment's secrets."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.lookup import LookupBase

from dpp.adapters.secrets import Secrets, SshIdentity
from dpp.model.errors import DppError, UsageError
from dpp.model.folders import Folders

DOCUMENTATION = """
name: dpp_secret
short_description: Secrets of the environment, made at first use
description:
  - Returns passwords, certificates and SSH identities of the environment whose inventory this is.
  - Where its hosts are made here, in instances, it is the one that the environment variable DPP_LAB names.
options:
  _terms:
    description:
      - The kind of secret, then what it belongs to.
      - C(password NAME), C(passwords) with a dictionary of names, C(certificate HOST), C(authority SITE), C(bundle),
        C(ssh_authority), C(ssh_user_certificate USER), C(ssh_host_certificate HOST).
    required: true
  names:
    description: Further host names and addresses that a certificate is valid for.
    type: list
    elements: str
    default: []
  site:
    description: The site whose authority signs a certificate, by default the part of HOST after its first dot.
    type: str
"""

EXAMPLES = """
- ansible.builtin.debug:
    msg: "{{ lookup('dpp_secret', 'password', 'kafka-admin') }}"
- ansible.builtin.copy:
    content: "{{ lookup('dpp_secret', 'certificate', inventory_hostname, names=[dpp_address]).chain }}"
    dest: /etc/dpp/tls/host.crt
    mode: "0644"
"""

RETURN = """
_raw:
  description: >-
    A string for a password and the bundle; a dictionary with the same keys for passwords; one with C(key) and C(chain) for certificates and authorities;
    one with C(private), C(public) and C(certificate) for SSH identities.
  type: list
"""


class LookupModule(LookupBase):  # type: ignore[misc]
    """See DOCUMENTATION."""

    def run(self, terms: list[Any], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[Any]:
        """Return the secret that the terms name, as a list of one."""
        self.set_options(var_options=variables, direct=kwargs)
        names, site = list(self.get_option("names")), self.get_option("site")
        try:
            return [_secret(Secrets(_folders(variables or {}).secrets), terms, names, site)]
        except DppError as error:
            raise AnsibleError(f"dpp_secret: {error}") from error


def _folders(variables: Mapping[str, Any]) -> Folders:
    made = (variables.get("dpp_provisioning") or {}).get("hosts") == "made"
    return Folders.of(Path(variables.get("inventory_dir") or "").name, instances=made)


def _secret(secrets: Secrets, terms: list[Any], names: list[str], site: str | None) -> Any:
    found: Any
    match terms:
        case ["password", name]:
            found = secrets.password(name)
        case ["passwords", names_of]:
            found = {key: secrets.password(name) for key, name in dict(names_of).items()}
        case ["certificate", host]:
            found = secrets.certificate(host, names, site)._asdict()
        case ["authority", name]:
            found = secrets.authority(name)._asdict()
        case ["bundle"]:
            found = secrets.bundle()
        case ["ssh_authority"]:
            found = _identity(secrets.ssh_authority())
        case ["ssh_user_certificate", user]:
            found = _identity(secrets.ssh_user_certificate(user))
        case ["ssh_host_certificate", host]:
            found = _identity(secrets.ssh_host_certificate(host, names))
        case _:
            raise UsageError(
                "dpp_secret", f"{terms!r}", "a kind of secret and a name", "see ansible-doc -t lookup dpp_secret"
            )
    return found


def _identity(identity: SshIdentity) -> dict[str, str]:
    return {"private": identity.private, "public": identity.public, "certificate": identity.certificate}
