"""A check run of a tree's playbook, by Ansible itself on this machine: what differs, what stays hidden, what is no answer."""

from __future__ import annotations

import grp
import json
import os
import pwd
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from dpp.adapters.secrets import Secrets
from dpp.model.errors import RetriableError
from dpp.model.folders import REPOSITORY, Folders
from dpp.operations.change.check_mode import HIDDEN, UNTOLD, CheckRun, Found, Veil, condensed, differences_of, read
from dpp.operations.change.sides import Side

PLUGINS = REPOSITORY / "src/dpp/adapters/ansible_plugins/modules"
SETTINGS = f"""
[defaults]
library = {PLUGINS}
callbacks_enabled = ansible.posix.profile_tasks
interpreter_python = /usr/bin/python3
[ssh_connection]
retries = 0
"""
TASKS = """
- name: Write the configuration
  dpp_files:
    files:
      - {path: "{{ tried }}/changed", content: "new\\n"}
      - {path: "{{ tried }}/same", content: "same\\n", owner: "{{ me }}", group: "{{ mine }}"}
- name: Write what is declared secret
  dpp_files:
    files: [{path: "{{ tried }}/key", content: "hidden-by-no-log"}]
  no_log: true
- name: Write what is not to be shown
  dpp_files:
    files: [{path: "{{ tried }}/access", content: "hidden-by-diff"}]
  diff: false
- name: Write several
  ansible.builtin.copy: {content: "{{ item }}\\n", dest: "{{ tried }}/{{ item }}", mode: "0644"}
  loop: [one, two]
- name: Run something
  ansible.builtin.command: "true"
  check_mode: false
  changed_when: true
- name: Fail where that is expected
  ansible.builtin.command: "false"
  check_mode: false
  ignore_errors: true
  changed_when: false
- name: Fail where that is not
  ansible.builtin.command: "false"
  check_mode: false
  changed_when: false
  when: inventory_hostname == "broken"
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a tree with an environment of four hosts: two of a kind, one on which a task fails, one that does not answer."""
    root = tmp_path_factory.mktemp("tree")
    hosts: dict[str, dict[str, object]] = {name: {"ansible_connection": "local"} for name in ("n1", "n2", "broken")}
    hosts["silent"] = {"ansible_host": "127.0.0.1", "ansible_port": 1}
    for name, known in hosts.items():
        (root / name).mkdir()
        known |= {"me": pwd.getpwuid(os.getuid()).pw_name, "mine": grp.getgrgid(os.getgid()).gr_name}
        known["tried"] = str(root / "n1" if name == "n2" else root / name)  # both n stand alike
        (root / name / "changed").write_text("old\n")
        (root / name / "same").write_text("same\n")
        (root / name / "same").chmod(0o644)
    play = [{"hosts": "all", "gather_facts": False, "roles": [{"role": "tried"}]}]
    for path, text in {
        "inventories/tiny/hosts.yml": yaml.safe_dump({"all": {"hosts": hosts}}),
        "playbooks/site.yml": yaml.safe_dump(play),
        "roles/tried/tasks/main.yml": TASKS,
        "ansible.cfg": SETTINGS,
    }.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return root


@pytest.fixture
def differences(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., frozenset[Found]]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return lambda *hosts: CheckRun(Side("c" * 40, tree), "tiny", Folders("tried")).differences(hosts)


def test_it_tells_what_would_differ_once_for_equal_hosts(tree: Path, differences: Callable[..., frozenset[Found]]) -> None:  # fmt: skip
    found = {(one.kind, one.name): one for one in condensed(differences("n1", "n2"))}
    changed = found["host file", f"{tree}/n1/changed"]
    assert changed.places == ("n1", "n2")
    assert changed.diff.splitlines()[-2:] == ["-old", "+new"]
    assert ("host file", f"{tree}/n1/same") not in found
    hidden = {one.name for one in found.values() if one.diff == HIDDEN}
    assert hidden == {"tried : Write what is declared secret", "tried : Write what is not to be shown"}
    assert found["host task", "tried : Write several"].diff == "@@\n+one\n@@\n+two"
    assert found["host task", "tried : Run something"].diff == UNTOLD
    assert not any("Fail where" in name for _, name in found)
    assert "hidden-by" not in str(found)
    assert (tree / "n1/changed").read_text() == "old\n", "nothing is changed"


@pytest.mark.parametrize(
    ("host", "said"),
    [
        ("silent", "environment tiny, host silent: cannot be reached: "),
        ("broken", "environment tiny, host broken: the check run of cccccccccccc fails: tried : Fail where that is not: "),
        ("nobody", "environment tiny: the check run of cccccccccccc ended with code "),
    ],
)  # fmt: skip
def test_what_is_no_answer_is_an_error_that_names_the_host(host: str, said: str, differences: Callable[..., frozenset[Found]]) -> None:  # fmt: skip
    with pytest.raises(RetriableError) as caught:
        differences("n1", host) if host != "nobody" else differences(host)
    assert str(caught.value).startswith(said)
    assert caught.value.remedy


def test_nobody_is_asked_where_there_are_no_hosts(differences: Callable[..., frozenset[Found]]) -> None:
    assert differences() == frozenset()


def test_secrets_stand_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    folders = Folders("tried")
    password = Secrets(folders.secrets).password("kafka-admin")
    key = Secrets(folders.secrets).ssh_authority().private
    told = {"event": "changed", "host": "n1", "task": "t", "hidden": False,
            "differences": [{"path": "/etc/a", "before": f"{key}", "after": f"password={password}\n", "prepared": None}]}  # fmt: skip
    [(kind, name, diff, host)] = differences_of(read(f"a warning\n{json.dumps(told)}\n", Veil(folders)))
    assert (kind, name, host) == ("host file", "/etc/a", "n1")
    assert diff.splitlines() == ["@@", "-[private key]", "+password=[secret kafka-admin]"]
