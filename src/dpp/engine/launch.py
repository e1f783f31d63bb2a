"""Runs a program in a process of its own, with the SDK connected to the engine.

It is run by file name with the program's interpreter, which need not have this package: it imports the SDK only.
What to run comes as JSON on standard input, so that no secret is in arguments or environment.
"""

from __future__ import annotations

import asyncio
import json
import os
import runpy
import sys
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pulumi
from pulumi.runtime import Settings, configure, run_in_stack, set_all_config

_CALLS_IN_FLIGHT = 512
"""Every registration holds a thread until its resource stands; threads are only made when they are needed."""


def _load(program: str) -> None:
    runpy.run_path(program, run_name="__main__")


async def _run(program: str) -> None:
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(_CALLS_IN_FLIGHT))
    await run_in_stack(lambda: _load(program))


def main() -> int:
    """Run the program that standard input describes and return its exit code."""
    given = json.load(sys.stdin)
    program = given["program"]
    sys.argv = [program]
    sys.path.insert(0, str(Path.cwd()))
    configure(Settings(**given["settings"]))
    set_all_config(given["config"], given["secret_keys"])
    if not os.environ.get("DPP_DEBUG"):
        pulumi.log.debug = lambda *_, **__: None  # otherwise the SDK makes four calls a resource that nobody reads
    try:
        asyncio.run(_run(program))
    except pulumi.RunError as error:
        pulumi.log.error(str(error))
        return 1
    except Exception:  # noqa: BLE001 - whatever the program raised is shown where it arose
        pulumi.log.error(_trimmed(given["settings"]["root_directory"]))
        return 1
    return 0


def _trimmed(root: str) -> str:
    """Return the error, then where in the project it arose."""
    kind, error, trace = sys.exc_info()
    frames = [
        frame
        for frame in traceback.extract_tb(trace)
        if frame.filename.startswith(root) and frame.filename != __file__ and "site-packages" not in frame.filename
    ]
    shown = [
        f"  at {os.path.relpath(frame.filename, root)}:{frame.lineno} in {frame.name}: {frame.line}"
        for frame in reversed(frames)
    ]
    return "\n".join(["".join(traceback.format_exception_only(kind, error)).rstrip(), *shown])


if __name__ == "__main__":
    sys.exit(main())
