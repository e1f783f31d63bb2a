"""Commands of a device: each is taken at most once, answered in any case, and may be called off while it runs."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from workloads.common.consume import Delivery
from workloads.common.errors import RetriableError, WorkloadError
from workloads.sal.interfaces import ACK, COMMAND
from workloads.sal.link import Link
from workloads.sal.states import TRANSITIONS, Ack

LOG = logging.getLogger(__name__)
PATIENCE_SECONDS = 60.0
"""A command that waited longer, in Kafka or here, is not carried out: whoever sent it has given it up."""


class AbortedError(WorkloadError):
    """A command was called off while it ran."""


@dataclass(frozen=True)
class Command:
    """One command: whose it is stands in `seq_num`, `identity` and `origin`; parameters have the interface's types."""

    name: str
    parameters: Mapping[str, Any]
    seq_num: int
    identity: str
    origin: int
    sent: float


class Running:
    """A command that is carried out, as its handler sees it.

    Parameters
    ----------
    link
        Where acknowledgements go.
    command
        The command.
    """

    def __init__(self, link: Link, command: Command) -> None:
        self._link = link
        self.command = command
        self._called_off = threading.Event()
        self._end = float("inf")

    def __getitem__(self, name: str) -> Any:
        """Return a parameter."""
        return self.command.parameters[name]

    def in_progress(self, timeout: float, result: str = "") -> None:
        """Tell the sender that it takes up to `timeout` seconds longer."""
        self.acknowledge(Ack.INPROGRESS, result, timeout=timeout)

    def limit(self, seconds: float) -> None:
        """Let it run out of time after some seconds from now; 0 is no limit."""
        self._end = time.monotonic() + seconds if seconds > 0 else float("inf")

    def wait(self, seconds: float) -> None:
        """Wait, unless it is called off or runs out of time meanwhile; errors as of `check`."""
        self._called_off.wait(max(0.0, min(seconds, self._end - time.monotonic())))
        self.check()

    def check(self) -> None:
        """Stop here if it is called off or has run out of time.

        Raises
        ------
        AbortedError, TimeoutError
            It is, or has.
        """
        if self._called_off.is_set():
            raise AbortedError(f"{self.command.name}: called off")
        if time.monotonic() >= self._end:
            raise TimeoutError(f"{self.command.name}: out of time")

    def call_off(self) -> None:
        """Ask the handler to stop."""
        self._called_off.set()

    def acknowledge(self, ack: Ack, result: str, timeout: float = 0.0) -> None:
        """Tell the sender what becomes of it."""
        command, component = self.command, self._link.component
        values = {
            "ack": int(ack), "error": 0 if ack > 0 else 1, "result": result, "identity": command.identity,
            "origin": command.origin, "cmdtype": component.commands.index(command.name), "timeout": float(timeout),
        }  # fmt: skip
        try:
            self._link.send(component.topics[ACK], (command.seq_num, values))
        except RetriableError as error:
            LOG.warning("%s %s of %s: %s", command.name, ack.name, command.identity, error)


Obey = Callable[[Running], str | None]


class Commands:
    """Gives commands to a device.

    Commands of one name are carried out one after the other, those that lead from state to state as well; others beside
    them, in threads of their own.

    Parameters
    ----------
    link
        The device's topics.
    obey
        Carries one out, and returns a text for the acknowledgement.
    """

    def __init__(self, link: Link, obey: Obey) -> None:
        self._link, self._obey = link, obey
        self._begun = float("inf")
        self._taken: dict[str, int] = {}
        self._threads: dict[str, ThreadPoolExecutor] = {}
        self._running: set[Running] = set()
        self._lock = threading.Lock()

    def begin(self) -> None:
        """Carry out what is sent from now on: nothing spurious after a power-up (DMS-REQ-0297)."""
        self._begun = self._link.clock()

    def take(self, deliveries: Sequence[Delivery]) -> None:
        """Begin commands, or refuse them: the sender has an answer in either case."""
        for delivery in deliveries:
            record, message = delivery.content, delivery.message
            if not self._link.concerns(record):
                continue
            name = message.role.partition(".")[2].removeprefix(COMMAND)
            own = self._link.component.topics[f"{COMMAND}{name}"].own
            command = Command(
                name, {field.name: record[field.name] for field in own}, record["private_seqNum"],
                record["private_identity"], record["private_origin"], record["private_sndStamp"],
            )  # fmt: skip
            running = Running(self._link, command)
            if refusal := self._refusal(command, message.role, message.offset):
                running.acknowledge(Ack.FAILED, f"Failed: {name} refused: {refusal}")
            else:
                self._taken[message.role] = message.offset
                self._thread(name).submit(self._run, running)

    def _refusal(self, command: Command, role: str, offset: int) -> str:
        """Return why a command is not carried out; empty if it is."""
        age = self._link.clock() - command.sent
        if offset <= self._taken.get(role, -1):
            return "it was begun, and came again"
        if not command.sent >= self._begun:
            return "it was sent before this device began; send it again if it is still wanted"
        if age > PATIENCE_SECONDS:
            return f"sent {age:.1f} s ago, expected at most {PATIENCE_SECONDS:g} s; send it again if it is still wanted"
        if command.seq_num <= 0:
            return f"private_seqNum {command.seq_num}, expected a number from 1"
        return ""

    def _thread(self, name: str) -> ThreadPoolExecutor:
        lane = "state" if name in TRANSITIONS else name
        if lane not in self._threads:
            self._threads[lane] = ThreadPoolExecutor(1, thread_name_prefix=f"command-{lane}")
        return self._threads[lane]

    def _run(self, running: Running) -> None:
        with self._lock:
            self._running.add(running)
        name = running.command.name
        try:
            result = self._obey(running)
        except AbortedError:
            running.acknowledge(Ack.ABORTED, "Aborted")
        except TimeoutError:
            running.acknowledge(Ack.TIMEOUT, "Timeout")
        except WorkloadError as error:
            running.acknowledge(Ack.FAILED, f"Failed: {error}")
        except Exception as error:
            LOG.exception("command %s of %s failed", name, running.command.identity)
            running.acknowledge(Ack.FAILED, f"Failed: {type(error).__name__}: {error}")
        else:
            running.acknowledge(Ack.COMPLETE, result or "Done")
        finally:
            with self._lock:
                self._running.discard(running)

    def call_off(self) -> None:
        """Call off what runs, but for what leads from state to state."""
        with self._lock:
            running = [one for one in self._running if one.command.name not in TRANSITIONS]
        for one in running:
            one.call_off()

    def end(self) -> None:
        """Take no more, call off what runs, and wait for its acknowledgements."""
        self.call_off()
        for thread in self._threads.values():
            thread.shutdown(wait=True, cancel_futures=True)
