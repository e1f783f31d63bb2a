"""The state machine of an OCS-commandable device, apart from any transport.

Commands in, acknowledgements and events out. A command in the wrong state is rejected, never queued. FAULT is left only
through ``standby``; no restart jumps to ENABLED, because a new process begins in STANDBY.
"""

from __future__ import annotations

import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from workloads.common.config import Configuration, ConfigurationFolder
from workloads.common.errors import WorkloadError


class SummaryState(IntEnum):
    """The observatory's numbers of the states."""

    DISABLED = 1
    ENABLED = 2
    FAULT = 3
    OFFLINE = 4
    STANDBY = 5


class Ack(IntEnum):
    """The observatory's acknowledgement codes."""

    ACK = 300
    INPROGRESS = 301
    STALLED = 302
    COMPLETE = 303
    NOPERM = -300
    NOACK = -301
    FAILED = -302
    ABORTED = -303
    TIMEOUT = -304


TRANSITIONS: dict[str, tuple[frozenset[SummaryState], SummaryState]] = {
    "start": (frozenset({SummaryState.STANDBY}), SummaryState.DISABLED),
    "enable": (frozenset({SummaryState.DISABLED}), SummaryState.ENABLED),
    "disable": (frozenset({SummaryState.ENABLED}), SummaryState.DISABLED),
    "standby": (frozenset({SummaryState.DISABLED, SummaryState.FAULT}), SummaryState.STANDBY),
    "exitControl": (frozenset({SummaryState.STANDBY}), SummaryState.OFFLINE),
}
"""From which states a command leads to which."""

Emit = Callable[[str, Mapping[str, object]], None]


@dataclass(frozen=True)
class Command:
    """One command: `seq_num` and `identity` tell whose it is, parameters are text."""

    name: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    seq_num: int = 0
    identity: str = ""


class Device(ABC):
    """Base class of devices.

    Parameters
    ----------
    name
        Name of the component.
    emit
        Where events go.
    folder
        Its configuration files.
    """

    def __init__(self, name: str, emit: Emit, folder: ConfigurationFolder) -> None:
        self.name = name
        self.state = SummaryState.STANDBY
        self.error_code = 0
        self.configuration: Configuration | None = None
        self._emit = emit
        self._folder = folder

    # -- for the subclass ------------------------------------------------------------------------------------------

    @abstractmethod
    def handle_summary_state(self) -> None:
        """Start the device's work in DISABLED or ENABLED, stop it otherwise; called after each change."""

    def commands(self) -> dict[str, Callable[[Mapping[str, str]], str]]:
        """Return the device's own commands: a function of the parameters that returns a text for the acknowledgement."""
        return {}

    def assert_enabled(self) -> None:
        """Refuse unless the device is ENABLED."""
        if self.state is not SummaryState.ENABLED:
            raise WorkloadError(f"{self.name}: not allowed in state {self.state.name}; expected ENABLED")

    # -- the machine -----------------------------------------------------------------------------------------------

    @property
    def offline(self) -> bool:
        """Whether ``exitControl`` has ended the device."""
        return self.state is SummaryState.OFFLINE

    def begin(self) -> None:
        """Announce the first state and what can be configured."""
        self._emit(
            "configurationsAvailable",
            {"overrides": ",".join(self._folder.overrides()), "version": self._folder.version()},
        )
        self._emit("simulationMode", {"mode": 0})
        self._emit_state()

    def command(self, command: Command) -> None:
        """Carry one command out: ACK, then COMPLETE, or FAILED with the reason."""
        self._ack(command, Ack.ACK, "")
        try:
            result = self._carry_out(command)
        except WorkloadError as error:
            self._ack(command, Ack.FAILED, str(error))
        except Exception as error:  # noqa: BLE001 - whatever a handler does, the commander gets its answer
            self._ack(command, Ack.FAILED, f"{type(error).__name__}: {error}")
            self.fault(1, f"command {command.name}: {error}", traceback.format_exc())
        else:
            self._ack(command, Ack.COMPLETE, result)

    def refuse(self, command: Command, reason: str) -> None:
        """Answer a command that is not carried out, whatever the state."""
        self._ack(command, Ack.FAILED, f"{self.name}: {command.name} refused: {reason}")

    def in_progress(self, command: Command, timeout: float, text: str = "") -> None:
        """Tell the commander that it takes up to `timeout` seconds longer."""
        self._ack(command, Ack.INPROGRESS, text, timeout=timeout)

    def fault(self, code: int, report: str, trace: str = "") -> None:
        """Go to FAULT; the error code is emitted before the state. A second fault changes nothing."""
        if self.state is SummaryState.FAULT:
            return
        self.error_code = code
        self._emit("errorCode", {"errorCode": code, "errorReport": report, "traceback": trace})
        self._enter(SummaryState.FAULT)

    def _carry_out(self, command: Command) -> str:
        if command.name in TRANSITIONS:
            self._transition(command)
            return ""
        if command.name in ("setLogLevel", "setAuthList"):
            self._emit(
                command.name.removeprefix("set")[0].lower() + command.name.removeprefix("set")[1:],
                dict(command.parameters),
            )
            return ""
        handlers = self.commands()
        if command.name not in handlers:
            known = ", ".join([*TRANSITIONS, "setLogLevel", "setAuthList", *handlers])
            raise WorkloadError(f"{self.name}: no command {command.name}; expected one of {known}")
        self.assert_enabled()
        return handlers[command.name](command.parameters)

    def _transition(self, command: Command) -> None:
        allowed, target = TRANSITIONS[command.name]
        if self.state not in allowed:
            expected = " or ".join(sorted(state.name for state in allowed))
            raise WorkloadError(
                f"{self.name}: {command.name} is not allowed in state {self.state.name}; expected {expected}"
            )
        if command.name == "start":
            self.configuration = self._folder.load(command.parameters.get("configurationOverride", ""))
            self._emit("configurationApplied", self.configuration.event())
        if command.name == "standby" and self.state is SummaryState.FAULT:
            self.error_code = 0
            self._emit("errorCode", {"errorCode": 0, "errorReport": "", "traceback": ""})
        self._enter(target)

    def _enter(self, state: SummaryState) -> None:
        self.state = state
        self.handle_summary_state()
        self._emit_state()

    def _emit_state(self) -> None:
        self._emit("summaryState", {"summaryState": int(self.state)})

    def _ack(self, command: Command, ack: Ack, result: str, timeout: float = 0.0) -> None:
        content: dict[str, Any] = {
            "command": command.name,
            "cmdSeqNum": command.seq_num,
            "identity": command.identity,
            "ack": int(ack),
            "error": 0 if ack > 0 else 1,
            "result": result,
            "timeout": timeout,
        }
        self._emit("ack", content)
