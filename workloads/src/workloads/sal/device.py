"""A device: the states that the control system leads it through, its own commands, and what goes wrong.

A handler that fails fails its command and not the device. FAULT is left only through ``standby``; no restart jumps to
ENABLED, because a new process begins in STANDBY.
"""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping

from workloads.common.config import Configuration, ConfigurationFolder
from workloads.common.errors import RetriableError, WorkloadError
from workloads.sal.commands import Commands, Obey, Running
from workloads.sal.interfaces import EVENT
from workloads.sal.link import Link
from workloads.sal.states import TRANSITIONS, SummaryState
from workloads.sal.versions import versions

LOG = logging.getLogger(__name__)
NO_ERROR: dict[str, object] = {"errorCode": 0, "errorReport": "", "traceback": ""}
_CONFIGURABLE = f"{EVENT}configurationApplied"


class Device(ABC):
    """Base class of devices.

    Parameters
    ----------
    link
        Its topics.
    folder
        Its configuration files; none where its interface is not configurable.
    simulation_mode
        0 where it does real work.
    """

    def __init__(self, link: Link, folder: ConfigurationFolder | None = None, simulation_mode: int = 0) -> None:
        self.link, self.name = link, link.component.name
        self.configuration: Configuration | None = None
        self.commands = Commands(link, self._obey)
        self._folder, self._simulation_mode = folder, simulation_mode
        self._state = SummaryState.STANDBY
        self._telling = threading.RLock()
        """Whoever changes the state tells of it before another changes it."""
        self._missing()

    def _missing(self) -> None:
        """Refuse code and interface that do not go together."""
        wanted = {name for name in self.link.component.commands if name not in (*TRANSITIONS, "setLogLevel")}
        handled = set(self.handlers())
        if wanted != handled:
            raise WorkloadError(f"{self.name}: handlers of {sorted(handled)}, its interface has {sorted(wanted)}")
        if (_CONFIGURABLE in self.link.component.topics) != (self._folder is not None):
            raise WorkloadError(
                f"{self.name}: a folder of configurations, and an interface that is not configurable; or the other way round"
            )

    # -- for the subclass ----------------------------------------------------------------------------------------------

    @abstractmethod
    def handle_summary_state(self) -> None:
        """Do the work of DISABLED or ENABLED, and stop it otherwise; called after each change, before it is told."""

    def begin(self, transition: str) -> None:  # noqa: B027 - nothing, unless the subclass has something
        """Prepare a transition; if this fails, the state stays."""

    def end(self, transition: str) -> None:  # noqa: B027
        """Finish a transition; if this fails, the state goes back."""

    def handlers(self) -> dict[str, Obey]:
        """Return what carries out each of its own commands; each may return a text for the acknowledgement."""
        return {}

    def require_enabled(self) -> None:
        """Refuse unless the device is ENABLED."""
        if self.state is not SummaryState.ENABLED:
            raise WorkloadError(f"{self.name}: not allowed in state {self.state.name}; expected ENABLED")

    # -- states --------------------------------------------------------------------------------------------------------

    @property
    def state(self) -> SummaryState:
        """The state that it is in."""
        return self._state

    @property
    def offline(self) -> bool:
        """Whether ``exitControl`` has ended it."""
        return self.state is SummaryState.OFFLINE

    def announce(self) -> None:
        """Tell all that a client wants to know of a device that has begun, and take commands from now on."""
        self.tell("simulationMode", {"mode": self._simulation_mode})
        self.tell("softwareVersions", versions(self.link.component))
        if self._folder is not None:
            self.tell("configurationsAvailable", self._folder.available())
        self.commands.begin()
        with self._telling:
            self.tell("errorCode", NO_ERROR, force=True)
            self._tell_state()

    def announce_log_level(self) -> None:
        """Tell which messages are logged."""
        self.tell("logLevel", {"level": logging.getLogger().getEffectiveLevel(), "subsystem": ""}, force=True)

    def fault(self, code: int, report: str, trace: str = "") -> None:
        """Go to FAULT: the error is told before the state. A second fault changes nothing."""
        with self._telling:
            if self._state in (SummaryState.FAULT, SummaryState.OFFLINE):
                return
            self._state = SummaryState.FAULT
            self.tell("errorCode", {"errorCode": code, "errorReport": report, "traceback": trace})
            self._tell_state()
        LOG.error("%s: FAULT %d: %s", self.name, code, report)
        self.commands.call_off()
        try:
            self.handle_summary_state()
        except Exception:
            LOG.exception("%s: its work was not stopped cleanly", self.name)

    def _transition(self, running: Running) -> None:
        name = running.command.name
        allowed, target = TRANSITIONS[name]
        before = self.state
        if before not in allowed:
            expected = " or ".join(sorted(state.name for state in allowed))
            raise WorkloadError(f"{self.name}: {name} is not allowed in state {before.name}; expected {expected}")
        former = self.configuration
        if name == "start":
            self.configuration = self._load(str(running["configurationOverride"]))
        try:
            self.begin(name)
            self._enter(before, target)
            try:
                self.end(name)
                self.handle_summary_state()
            except BaseException:
                self._go_back(target, before)
                raise
        except BaseException:
            self.configuration = former
            raise
        self._tell_transition(name, target)

    def _load(self, override: str) -> Configuration | None:
        if self._folder is not None:
            return self._folder.load(override)
        if override:
            raise WorkloadError(f"{self.name}: configuration {override}, expected none: it is not configurable")
        return None

    def _enter(self, before: SummaryState, target: SummaryState) -> None:
        with self._telling:
            if self._state is not before:
                raise WorkloadError(f"{self.name}: it went to {self._state.name} meanwhile")
            self._state = target
        if before is SummaryState.ENABLED:
            self.commands.call_off()

    def _go_back(self, target: SummaryState, before: SummaryState) -> None:
        with self._telling:
            if self._state is not target:
                return  # a fault came first
            self._state = before
        try:
            self.handle_summary_state()
        except Exception:
            LOG.exception("%s: back in %s, and its work was not taken up again", self.name, before.name)

    def _tell_transition(self, name: str, target: SummaryState) -> None:
        with self._telling:
            if self._state is not target:
                raise WorkloadError(f"{self.name}: it went to {self._state.name} meanwhile")
            if name == "start" and self.configuration is not None:
                self.tell("configurationApplied", self.configuration.event())
            self.tell("errorCode", NO_ERROR)
            self._tell_state()

    def _tell_state(self) -> None:
        self.tell("summaryState", {"summaryState": int(self._state)})

    # -- commands and events -------------------------------------------------------------------------------------------

    def _obey(self, running: Running) -> str | None:
        name = running.command.name
        if name in TRANSITIONS:
            self._transition(running)
        elif name == "setLogLevel":
            self._set_log_level(int(running["level"]), str(running["subsystem"]))
        else:
            self.require_enabled()
            return self.handlers()[name](running)
        return None

    def _set_log_level(self, level: int, subsystem: str) -> None:
        if level < 0:
            raise WorkloadError(f"level {level}: expected one of Python's logging, from 0")
        logging.getLogger(subsystem or None).setLevel(level)
        self.tell("logLevel", {"level": level, "subsystem": subsystem})

    def tell(self, event: str, values: Mapping[str, object], *, force: bool = False) -> None:
        """Write an event if it has changed, or if forced; one that Kafka does not take is written anew with the next heartbeat."""
        try:
            self.link.event(event).write(force=force, **values)
        except RetriableError as error:
            LOG.warning("%s not told yet: %s", event, error)
