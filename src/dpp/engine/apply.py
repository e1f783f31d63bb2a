"""What `up` and `preview` do between the first and the last word of the program, and how an interruption reaches them."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from dpp.engine import cleanup, recovery
from dpp.engine.deployment import Deployment
from dpp.engine.events import Event
from dpp.engine.monitor import Monitor
from dpp.engine.program import Program
from dpp.model.errors import FatalError


@dataclass
class Session:
    """All parts of one operation while it runs."""

    stack: str
    deployment: Deployment
    monitor: Monitor
    program: Program


async def apply(session: Session) -> None:
    """Run the program, do what it asks for, and delete what it does not ask for any more.

    Raises
    ------
    Stopped
        If a step failed or somebody interrupted; steps that ran then have ended.
    """
    deployment, monitor = session.deployment, session.monitor
    await recovery.settle_pending(deployment)
    run = asyncio.create_task(
        session.program.run(session.stack, monitor.address, preview=deployment.preview, parallel=deployment.parallel)
    )
    news = {asyncio.create_task(monitor.program_done.wait()), asyncio.create_task(deployment.stopped.wait())}
    try:
        await asyncio.wait({run, *news}, return_when=asyncio.FIRST_COMPLETED)
        if monitor.program_done.is_set() and not deployment.stopped.is_set():
            deployment.providers.program_ended()
            await cleanup.delete_all(deployment, deployment.journal.left)
        await deployment.quiet()
        if deployment.stopped.is_set():
            await session.program.stop()
    finally:
        monitor.release.set()
        for task in news:
            task.cancel()
    code = await run
    if not deployment.stopped.is_set() and not deployment.errors and (code or not monitor.program_done.is_set()):
        raise FatalError(
            str(session.program.path), f"ended with exit code {code} before it had registered everything", "exit code 0"
        )


@contextmanager
def interruptible(deployment: Deployment) -> Iterator[None]:
    """Turn SIGINT and SIGTERM into a quiet end: steps that run are finished; a second one ends the providers."""
    if threading.current_thread() is not threading.main_thread():
        yield  # whoever runs stacks in threads handles signals
        return
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, _interrupt, deployment)
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


def _interrupt(deployment: Deployment) -> None:
    if deployment.interrupted:
        deployment.emit(
            Event("log", message="ending the providers; the next up finds what they left", severity="warning")
        )
        deployment.providers.kill()
        return
    deployment.interrupted = True
    text = "interrupted: finishing the steps that run and keeping the state; once more to end them at once"
    deployment.emit(Event("log", message=text, severity="warning"))
    deployment.errors.append("interrupted")
    deployment.stop()
