"""The module that writes files: what it changes it names, what is right it leaves, and check mode writes nothing."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import sys
from pathlib import Path
from typing import Any

MODULE = Path(__file__).parents[3] / "src/dpp/adapters/ansible_plugins/modules/dpp_files.py"
ME = pwd.getpwuid(os.getuid()).pw_name
GROUP = subprocess.run(["id", "-gn"], capture_output=True, text=True, check=True).stdout.strip()


def _run(files: list[dict[str, str]], *, check: bool = False, diff: bool = True) -> dict[str, Any]:
    files = [{"owner": ME, "group": GROUP, **one} for one in files]
    arguments = {"ANSIBLE_MODULE_ARGS": {"files": files, "_ansible_check_mode": check, "_ansible_diff": diff}}
    done = subprocess.run(
        [sys.executable, MODULE], input=json.dumps(arguments), capture_output=True, text=True, check=False
    )
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def test_writes_what_differs_and_then_nothing(tmp_path):
    wanted = [
        {"path": str(tmp_path / "new/a"), "content": "one\n", "mode": "0640"},
        {"path": str(tmp_path / "link"), "link": "new/a"},
    ]
    first = _run(wanted)
    assert first["changed"]
    assert first["paths"] == [one["path"] for one in wanted]
    assert (tmp_path / "link").read_text() == "one\n"
    assert (tmp_path / "new/a").stat().st_mode & 0o7777 == 0o640
    assert _run(wanted)["changed"] is False


def test_mode_alone_is_a_change_and_the_rest_is_left(tmp_path):
    files = [{"path": str(tmp_path / name), "content": name} for name in ("a", "b")]
    _run(files)
    before = (tmp_path / "b").stat().st_ino
    (tmp_path / "a").chmod(0o600)
    assert _run(files)["paths"] == [str(tmp_path / "a")]
    assert (tmp_path / "b").stat().st_ino == before


def test_check_mode_shows_and_writes_nothing(tmp_path):
    path = tmp_path / "a"
    path.write_text("old\n")
    result = _run([{"path": str(path), "content": "new\n"}], check=True)
    assert result["changed"]
    assert "old" in result["diff"][0]["before"]
    assert "new" in result["diff"][0]["after"]
    assert path.read_text() == "old\n"
    quiet = _run([{"path": str(path), "content": "new\n"}], check=True, diff=False)
    assert (quiet["changed"], quiet["paths"], quiet["diff"]) == (True, [str(path)], []), "what is secret is not shown"


def test_unknown_owner_names_the_file(tmp_path):
    result = _run([{"path": str(tmp_path / "a"), "content": "", "owner": "nobody-of-that-name"}])
    assert result["failed"]
    assert str(tmp_path / "a") in result["msg"]
    assert not (tmp_path / "a").exists()
    assert not list(tmp_path.iterdir())


def test_a_mistake_is_refused_before_it_is_in_its_place(tmp_path):
    path = tmp_path / "sudoers"
    path.write_text("good\n")
    wanted = {"path": str(path), "content": "bad\n", "validate": "grep -q good %s || { echo no good word; exit 3; }"}
    result = _run([wanted])
    assert result["failed"]
    assert result["msg"] == f"{path}: refused: no good word"
    assert path.read_text() == "good\n"
    assert list(tmp_path.iterdir()) == [path]
    assert _run([{**wanted, "content": "as good\n"}])["changed"]
