"""Runs a program in a process of its own, with the SDK connected to the engine.

It is run by file name with the program's interpreter, which need not have this package: it imports the SDK only.
What to run comes as JSON on standard input, so that no secret is in arguments or environment.
"""

from __future__ import annotations

import asyncio
import functools
import json
import os
import runpy
import sys
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType

import pulumi
from pulumi.runtime import Settings, configure, resource, run_in_stack, set_all_config
from pulumi.runtime.proto import source_pb2

_CALLS_IN_FLIGHT = 512
"""Every registration holds a thread until its resource stands; threads are only made when they are needed."""


def _load(program: str) -> None:
    runpy.run_path(program, run_name="__main__")


async def _run(program: str) -> None:
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(_CALLS_IN_FLIGHT))
    await run_in_stack(lambda: _load(program))


def _hurry() -> None:
    """Spare the SDK what nobody reads: four debugging calls a resource, and the whole stack where its top is enough."""
    pulumi.log.debug = lambda *_, **__: None
    if hasattr(resource, "_get_stack_trace"):
        resource._get_stack_trace = _origin  # noqa: SLF001 - a third of the program's time


def _origin() -> source_pb2.StackTrace:
    """Return the place in the program that makes the resource: outside the third constructor, counted from within."""
    frame: FrameType | None = sys._getframe()  # noqa: SLF001 - extracting all frames reads their sources
    constructors = 0
    while frame and constructors < 3:
        constructors += frame.f_code.co_name == "__init__"
        frame = frame.f_back
    if frame is None:
        return source_pb2.StackTrace()
    place = source_pb2.SourcePosition(uri=_uri(frame.f_code.co_filename), line=frame.f_lineno)
    return source_pb2.StackTrace(frames=[source_pb2.StackFrame(pc=place)])


@functools.lru_cache
def _uri(file: str) -> str:
    return Path(file).absolute().as_uri()


def main() -> int:
    """Run the program that standard input describes and return its exit code."""
    given = json.load(sys.stdin)
    program = given["program"]
    sys.argv = [program]
    sys.path.insert(0, str(Path.cwd()))
    configure(Settings(**given["settings"]))
    set_all_config(given["config"], given["secret_keys"])
    if not os.environ.get("DPP_DEBUG"):
        _hurry()
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
