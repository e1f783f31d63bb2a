"""Ansible module that writes many files in one task: a task costs far more than a file."""

from __future__ import annotations

import grp
import os
import pwd
import tempfile
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: dpp_files
short_description: Write many files with their owners and modes
description:
  - Each file is replaced whole, atomically. Missing parent folders are made, mode 0755.
  - Supports check mode and diff.
options:
  files:
    description: The files.
    type: list
    elements: dict
    required: true
    suboptions:
      path: {description: Where it lies., type: path, required: true}
      content: {description: What it holds., type: str}
      link: {description: "In place of content, where a symbolic link of this path leads.", type: path}
      owner: {description: Its owner., type: str, default: root}
      group: {description: Its group., type: str, default: root}
      mode: {description: "Its mode, octal.", type: str, default: "0644"}
      validate: {description: "A shell command that refuses a mistake, %s in it for the file, before it is in its place.", type: str}
"""

EXAMPLES = """
- dpp_files:
    files:
      - {path: /etc/motd, content: "{{ lookup('ansible.builtin.template', 'etc/motd.j2') }}"}
      - {path: /etc/app/key, content: "{{ app_key }}", group: app, mode: "0640"}
"""

RETURN = """
paths:
  description: The files that were changed.
  returned: always
  type: list
"""

OPTIONS = {
    "path": {"type": "path", "required": True},
    "content": {"type": "str"},
    "link": {"type": "path"},
    "owner": {"type": "str", "default": "root"},
    "group": {"type": "str", "default": "root"},
    "mode": {"type": "str", "default": "0644"},
    "validate": {"type": "str"},
}


def main() -> None:
    """Bring every file to its wanted state and say which were not there yet."""
    module = AnsibleModule(
        argument_spec={"files": {"type": "list", "elements": "dict", "required": True, "options": OPTIONS}},
        supports_check_mode=True,
    )
    differences = []
    for wanted in module.params["files"]:
        try:
            before, after = _observed(wanted), _intended(wanted)
            if before != after:
                differences.append((wanted["path"], before, after))
                if not module.check_mode:
                    _write(module, wanted)
        except (OSError, KeyError, ValueError) as error:
            module.fail_json(msg=f"{wanted['path']}: {error}", paths=[path for path, _, _ in differences])
    shown = differences if module._diff else []  # noqa: SLF001 - how a module reads `diff:` of its task
    module.exit_json(
        changed=bool(differences),
        paths=[path for path, _, _ in differences],
        diff=[
            {"before_header": path, "after_header": path, "before": _text(before), "after": _text(after)}
            for path, before, after in shown
        ],
    )


def _observed(wanted: dict[str, Any]) -> tuple[str, ...] | None:
    path = Path(wanted["path"])
    try:
        status = path.lstat()
    except FileNotFoundError:
        return None
    if path.is_symlink():
        return ("link", str(path.readlink()))
    owner, group = _name(pwd.getpwuid, status.st_uid), _name(grp.getgrgid, status.st_gid)
    content = path.read_text(encoding="utf-8", errors="surrogateescape")
    return ("file", owner, group, f"{status.st_mode & 0o7777:04o}", content)


def _intended(wanted: dict[str, Any]) -> tuple[str, ...]:
    if wanted["link"]:
        return ("link", wanted["link"])
    if wanted["content"] is None:
        raise ValueError("neither content nor link is given")
    return ("file", wanted["owner"], wanted["group"], f"{int(wanted['mode'], 8):04o}", wanted["content"])


def _write(module: AnsibleModule, wanted: dict[str, Any]) -> None:
    path = Path(wanted["path"])
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    if wanted["link"]:
        fresh = path.with_name(f"{path.name}.dpp-new")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(wanted["link"])
        fresh.rename(path)
        return
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".dpp-new-")
    fresh = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape") as stream:
            stream.write(wanted["content"])
        os.chown(fresh, pwd.getpwnam(wanted["owner"]).pw_uid, grp.getgrnam(wanted["group"]).gr_gid)
        fresh.chmod(int(wanted["mode"], 8))
        _validate(module, wanted["validate"], name)
        fresh.rename(path)
    except BaseException:
        fresh.unlink()
        raise


def _validate(module: AnsibleModule, command: str | None, name: str) -> None:
    if command:
        code, said, complaint = module.run_command(command.replace("%s", name), use_unsafe_shell=True)
        if code != 0:
            raise ValueError(f"refused: {(complaint or said).strip() or command}")


def _name(lookup: Any, number: int) -> str:
    try:
        return str(lookup(number)[0])
    except KeyError:
        return str(number)


def _text(state: tuple[str, ...] | None) -> str:
    if state is None:
        return ""
    if state[0] == "link":
        return f"link to {state[1]}\n"
    return f"{state[1]}:{state[2]} {state[3]}\n{state[4]}"


if __name__ == "__main__":
    main()
