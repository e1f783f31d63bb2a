"""Ansible module that brings many units of systemd to their state in one task, and restarts those whose files changed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: dpp_units
short_description: Bring many units of systemd to their state
description:
  - Each unit is masked, enabled and started as asked for; what is not asked for is left alone.
  - A unit that reads files which a task before has changed is restarted or reloaded, unless it is to be stopped.
  - Reads units again (daemon-reload) if a changed file lies below /etc/systemd/system. Supports check mode and diff.
options:
  changed:
    description: Paths of files that changed, as dpp_files returns them.
    type: list
    elements: path
    default: []
  units:
    description: The units, in the order in which they are taken.
    type: list
    elements: dict
    required: true
    suboptions:
      name: {description: Its name; a service where it has no suffix., type: str, required: true}
      masked: {description: Whether nothing may start it., type: bool}
      enabled: {description: Whether it starts at boot., type: bool}
      running: {description: Whether it runs., type: bool}
      restart_on: {description: Restart it if this regular expression is found in a changed path., type: str}
      reload_on: {description: Reload it if this regular expression is found in a changed path., type: str}
"""

EXAMPLES = """
- dpp_units:
    changed: "{{ app_configuration.paths }}"
    units:
      - {name: app, enabled: true, running: true, restart_on: ^/etc/app/}
      - {name: systemd-sysctl, restart_on: ^/etc/sysctl.d/}
"""

RETURN = """
actions:
  description: What was done (in check mode, would be), as arguments of systemctl.
  returned: always
  type: list
"""

OPTIONS = {
    "name": {"type": "str", "required": True},
    "masked": {"type": "bool"},
    "enabled": {"type": "bool"},
    "running": {"type": "bool"},
    "restart_on": {"type": "str"},
    "reload_on": {"type": "str"},
}

_PROPERTIES = ("LoadState", "ActiveState", "UnitFileState")
_ENABLED = frozenset({"enabled", "alias", "generated"})
_RUNNING = frozenset({"active", "activating", "reloading"})


def main() -> None:
    """Find out what differs, and do it unit by unit."""
    module = AnsibleModule(
        argument_spec={
            "changed": {"type": "list", "elements": "path", "default": []},
            "units": {"type": "list", "elements": "dict", "required": True, "options": OPTIONS},
        },
        supports_check_mode=True,
    )
    changed, units = module.params["changed"], module.params["units"]
    if not module.check_mode and any(path.startswith("/etc/systemd/system/") for path in changed):
        _systemctl(module, "daemon-reload")
    actions, failures = [], []
    for unit, found in zip(units, _found(module, [unit["name"] for unit in units]), strict=True):
        if found["LoadState"] == "not-found" and not module.check_mode:  # in check mode it may not be installed yet
            failures.append(f"unit {unit['name']}: systemd knows none of this name")
            continue
        for verb in _verbs(unit, found, changed):
            actions.append(f"{verb} {unit['name']}")
            if not module.check_mode and (failure := _call(module, verb, unit["name"])[1]):
                failures.append(failure)  # the others have their turn: nobody will tell them again what changed
                break
    if failures:
        module.fail_json(msg="; ".join(failures), actions=actions)
    after = "".join(f"{action}\n" for action in actions)
    module.exit_json(changed=bool(actions), actions=actions, diff={"before": "", "after": after})


def _found(module: AnsibleModule, names: Sequence[str]) -> list[dict[str, str]]:
    """Return the properties of each unit, in the order of `names`."""
    said = _systemctl(module, "show", f"--property={','.join(_PROPERTIES)}", *names)
    return [dict(line.partition("=")[::2] for line in block.splitlines()) for block in said.strip().split("\n\n")]


def _verbs(unit: dict[str, Any], found: dict[str, str], changed: Sequence[str]) -> Iterator[str]:
    masked, running = found["UnitFileState"].startswith("masked"), found["ActiveState"] in _RUNNING
    if unit["masked"] is False and masked:
        yield "unmask"
        masked = False
    changeable = not masked and found["UnitFileState"] != "static"  # static: neither enabled nor disabled by anybody
    if unit["enabled"] is not None and changeable and unit["enabled"] != (found["UnitFileState"] in _ENABLED):
        yield "enable" if unit["enabled"] else "disable"
    if unit["running"] is False:
        if running:
            yield "stop"
    elif _matches(unit["restart_on"], changed):
        yield "restart"
    elif _matches(unit["reload_on"], changed):
        yield "reload-or-restart"
    elif unit["running"] and not running:
        yield "start"
    if unit["masked"] and not masked:
        yield "mask"


def _matches(pattern: str | None, changed: Sequence[str]) -> bool:
    return pattern is not None and any(re.search(pattern, path) for path in changed)


def _systemctl(module: AnsibleModule, *words: str) -> str:
    """Call systemctl and return what it said; the task fails where it does."""
    said, failure = _call(module, *words)
    if failure:
        module.fail_json(msg=failure)
    return said


def _call(module: AnsibleModule, *words: str) -> tuple[str, str]:
    """Call systemctl; return what it said, and why it failed or nothing."""
    code, said, complaint = module.run_command(["systemctl", *words])
    why = (complaint or said).strip() or f"code {code}"
    return said, f"systemctl {' '.join(words)}: {why}" if code != 0 else ""


if __name__ == "__main__":
    main()
