"""The program's process: it is started with the SDK's connection to the engine, and its words are passed on."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path

from dpp.engine.processes import guarded
from dpp.engine.project import Config, Project

_LAUNCHER = Path(__file__).with_name("launch.py")
_PATIENCE_SECONDS = 5.0


class Program:
    """A run of a project's program.

    Parameters
    ----------
    project, config
        What to run, with what configuration.
    environment
        The variables of its process.
    on_line
        Gets each line that it prints.
    """

    def __init__(
        self, project: Project, config: Config, environment: Mapping[str, str], on_line: Callable[[str], None]
    ) -> None:
        self._project = project
        self._config = config
        self._environment = dict(environment)
        self._on_line = on_line
        self.path = project.program
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start the process: it imports the SDK and waits to be told what to run."""
        self._process = await asyncio.create_subprocess_exec(
            *guarded(self._project.python, str(_LAUNCHER)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=self._project.home,
            env={"PYTHONUNBUFFERED": "1", **self._environment},
            start_new_session=True,
        )

    async def run(self, stack: str, address: str, *, preview: bool, parallel: int) -> int:
        """Run the program against the engine at `address` and return its exit code."""
        process = self._process
        assert process and process.stdin and process.stdout and process.stderr  # noqa: S101, PT018 - it was started
        settings = {
            "project": self._project.name,
            "stack": stack,
            "monitor": address,
            "engine": address,
            "parallel": parallel,
            "dry_run": preview,
            "organization": "organization",
            "root_directory": str(self._project.folder),
        }
        given = {
            "program": "." if self.path.is_dir() else self.path.name,
            "settings": settings,
            "config": self._config.values,
            "secret_keys": self._config.secret_keys,
        }
        process.stdin.write(json.dumps(given).encode())
        process.stdin.close()
        await asyncio.gather(self._forward(process.stdout), self._forward(process.stderr))
        return await process.wait()

    async def _forward(self, stream: asyncio.StreamReader) -> None:
        while line := await stream.readline():
            self._on_line(line.decode(errors="replace").rstrip())

    async def stop(self) -> None:
        """End the program if it still runs: it is asked first."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        os.killpg(process.pid, signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), _PATIENCE_SECONDS)
        except TimeoutError:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
