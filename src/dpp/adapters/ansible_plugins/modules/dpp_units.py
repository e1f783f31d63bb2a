"""Ansible module that brings many units of systemd to their state in one task, and restarts those whose files are newer."""

from __future__ import annotations

import fnmatch
import glob
import os
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: dpp_units
short_description: Bring many units of systemd to their state
description:
  - Each unit is masked, enabled and started as asked for; what is not asked for is left alone.
  - A unit that reads files is restarted or reloaded where one of them changed after it began, whoever changed it and
    whenever: a play that was cut short between file and unit forgets nothing. One that is to be stopped is not.
  - Reads units again (daemon-reload) where systemd says that it should. Supports check mode and diff.
options:
  changed:
    description: Paths that check mode would have changed, as dpp_files returns them, so that it tells what follows.
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
      restart_on: {description: Patterns of paths that it reads as it starts., type: list, elements: str, default: []}
      reload_on: {description: Patterns of paths that it reads again when told to., type: list, elements: str, default: []}
"""

EXAMPLES = """
- dpp_units:
    changed: "{{ app_configuration.paths }}"
    units:
      - {name: app, enabled: true, running: true, restart_on: [/etc/app/*]}
      - {name: systemd-sysctl, restart_on: [/etc/sysctl.d/*]}
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
    "restart_on": {"type": "list", "elements": "str", "default": []},
    "reload_on": {"type": "list", "elements": "str", "default": []},
}

_BEGUN = "InactiveExitTimestamp"
_PROPERTIES = ("LoadState", "ActiveState", "UnitFileState", "NeedDaemonReload", _BEGUN)
_RELOADED = Path("/run/dpp/reloaded")
"""Holds a file for each unit that was reloaded, as old as that: systemd keeps no time of it."""
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
    found = _found(module, [unit["name"] for unit in units])
    if not module.check_mode and any(
        one["NeedDaemonReload"] == "yes" or one["LoadState"] == "not-found" for one in found
    ):
        _systemctl(module, "daemon-reload")
        found = _found(module, [unit["name"] for unit in units])
    actions, failures = [], []
    for unit, state in zip(units, found, strict=True):
        if state["LoadState"] == "not-found" and not module.check_mode:  # in check mode it may not be installed yet
            failures.append(f"unit {unit['name']}: systemd knows none of this name")
            continue
        for verb in _verbs(unit, state, changed):
            actions.append(f"{verb} {unit['name']}")
            if not module.check_mode and (failure := _act(module, verb, unit["name"])):
                failures.append(failure)  # the others have their turn
                break
    if failures:
        module.fail_json(msg="; ".join(failures), actions=actions)
    after = "".join(f"{action}\n" for action in actions)
    module.exit_json(changed=bool(actions), actions=actions, diff={"before": "", "after": after})


def _found(module: AnsibleModule, names: Sequence[str]) -> list[dict[str, str]]:
    """Return the properties of each unit, in the order of `names`."""
    said = _systemctl(module, "show", "--timestamp=us+utc", f"--property={','.join(_PROPERTIES)}", *names)
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
    elif running and _stale(unit["restart_on"], changed, _begun(found)):
        yield "restart"
    elif running and _stale(unit["reload_on"], changed, max(_begun(found), _reloaded(unit["name"]))):
        yield "reload-or-restart"
    elif unit["running"] and not running:
        yield "start"
    if unit["masked"] and not masked:
        yield "mask"


def _stale(patterns: Sequence[str], changed: Sequence[str], since: float) -> bool:
    """Say whether a file of these patterns changed after that time: its content, or what else its inode says of it."""
    files = [file for pattern in patterns for file in glob.glob(pattern)]  # noqa: PTH207 - the patterns are absolute
    would = any(fnmatch.fnmatch(path, pattern) for path in changed for pattern in patterns)
    return would or any(Path(file).lstat().st_ctime > since for file in files)


def _begun(found: dict[str, str]) -> float:
    """Return when the unit began to start, 0 where it never did."""
    words = found[_BEGUN].split()  # day of the week, date, time, UTC
    if len(words) < 4:
        return 0.0
    return datetime.fromisoformat("T".join(words[1:3])).replace(tzinfo=UTC).timestamp()


def _reloaded(name: str) -> float:
    try:
        return (_RELOADED / name).stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _act(module: AnsibleModule, verb: str, name: str) -> str:
    """Let systemctl act on a unit; return why it failed or nothing."""
    begun = time.time()
    failure = _call(module, verb, name)[1]
    if verb == "reload-or-restart" and not failure:
        _RELOADED.mkdir(parents=True, exist_ok=True)
        (_RELOADED / name).touch()
        os.utime(_RELOADED / name, (begun, begun))
    return failure


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
