"""Tools are built on a machine that has nothing on its PATH but Debian."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

_DEBIAN = "/usr/sbin:/usr/bin:/sbin:/bin"


def test_tools_are_built_where_neither_go_nor_uv_is_on_the_path(tmp_path: Path) -> None:
    command = [str(Path(sys.executable).with_name("dpp")), "tools", "build", "kafka-client", "delayline"]
    settings = {"PATH": _DEBIAN, "HOME": str(tmp_path), "DPP_CACHE": str(tmp_path / "cache")}
    settings |= {name: value for name, value in os.environ.items() if name.startswith(("SSL_", "PIP_", "UV_"))}

    done = subprocess.run(command, capture_output=True, text=True, env=settings, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    records = [json.loads(file.read_text()) for file in (tmp_path / "cache" / "tools").glob("*/*/tool.json")]
    assert {record["name"] for record in records} == {"kafka-client", "delayline"}
