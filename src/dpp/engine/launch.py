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

import pulumi
from pulumi.runtime import Settings, configure, run_in_stack, set_all_config

_CALLS_IN_FLIGHT = 512
"""Every registration holds a thread until its resource stands; threads are only made when they are needed."""


async def _run(program: str) -> None:
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(_CALLS_IN_FLIGHT))
    await run_in_stack(lambda: runpy.run_path(program, run_name="__main__") and None)


def main() -> int:
    """Run the program that standard input describes and return its exit code."""
    given = json.load(sys.stdin)
    program = given["program"]
    sys.argv = [program]
    sys.path.insert(0, os.getcwd())
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
        pulumi.log.error(_trimmed())
        return 1
    return 0


def _trimmed() -> str:
    kind, error, trace = sys.exc_info()
    frames = traceback.extract_tb(trace)
    own = [frame for frame in frames if not frame.filename.startswith(os.path.dirname(__file__))]
    return "".join([*traceback.format_list(own[-12:]), *traceback.format_exception_only(kind, error)]).rstrip()


if __name__ == "__main__":
    sys.exit(main())
