"""A forge for tests: the server as a process of its own, and what a run leaves there."""

from __future__ import annotations

import base64
import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from unit.change import forge_server
from unit.change.forge_server import TOKEN

REPOSITORY = "lsst-dm/dpp-ops"
FORK = "somebody/dpp-ops"
MAIN = "main"


@dataclass(frozen=True)
class Served:
    """A forge that answers.

    Parameters
    ----------
    url
        Where its interface is.
    """

    url: str

    @property
    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = httpx.get(f"{self.url}/state").json()
        return found

    def put(self, **parts: Any) -> None:
        httpx.post(f"{self.url}/state", json=parts).raise_for_status()

    def comments(self) -> list[str]:
        return [comment["body"] for comment in self.state["comments"]]

    def variables(self) -> dict[str, str]:
        """Return what a runner tells the commands of a job."""
        return {"GITHUB_API_URL": self.url, "GITHUB_REPOSITORY": REPOSITORY, "GITHUB_TOKEN": TOKEN}


@contextmanager
def served() -> Iterator[Served]:
    """Have a forge, as long as it is wanted."""
    command = [sys.executable, str(Path(forge_server.__file__))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield Served(f"http://127.0.0.1:{int(process.stdout.readline())}")
        finally:
            process.kill()


def event(head: str, *, conclusion: str = "success", fork: str = FORK, branch: str = "change", run: int = 41) -> dict[str, Any]:  # fmt: skip
    """Return an event as the forge sends it, with more in it than is looked at."""
    origin = {"full_name": fork, "owner": {"login": fork.partition("/")[0], "id": 1}, "private": False}
    run_of = {
        "id": run, "name": "plan", "event": "pull_request", "conclusion": conclusion, "head_sha": head, "head_branch": branch,
        "head_repository": origin, "html_url": f"https://forge.example/runs/{run}", "pull_requests": [], "run_number": 3,
    }  # fmt: skip
    return {"action": "completed", "workflow_run": run_of, "repository": {"full_name": REPOSITORY}}


def pull(head: str, *, number: int = 7, fork: str = FORK, branch: str = "change", base: str = MAIN) -> dict[str, Any]:
    origin = {"full_name": fork, "owner": {"login": fork.partition("/")[0]}}
    return {
        "number": number, "state": "open", "title": "A change", "head": {"ref": branch, "sha": head, "repo": origin},
        "base": {"ref": base, "sha": "b" * 40, "repo": {"full_name": REPOSITORY, "owner": {"login": "lsst-dm"}}},
    }  # fmt: skip


def artifact(files: dict[str, bytes], *, run: int = 41, name: str = "dossier", number: int = 11) -> dict[str, Any]:
    """Return what a run leaves: an archive of files."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    packed = base64.b64encode(content.getvalue()).decode()
    return {"id": number, "run": run, "name": name, "size_in_bytes": len(packed), "expired": False, "content": packed}


def write_event(folder: Path, told: dict[str, Any]) -> Path:
    file = folder / "event.json"
    file.write_text(json.dumps(told))
    return file
