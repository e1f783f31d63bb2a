"""Changes to border routers as operators make them: shown first, applied on trial, checked from elsewhere, confirmed."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from dpp.adapters.devices.change import Applied, Change
from dpp.adapters.devices.channels import Channel, Console, SshChannel, reachable
from dpp.adapters.devices.drivers import DRIVERS, Driver
from dpp.adapters.devices.text import platform_of, router_text
from dpp.adapters.secrets import Secrets
from dpp.adapters.vantage import Vantage
from dpp.model.environment import Environment
from dpp.model.errors import FatalError, RetriableError
from dpp.model.folders import Folders
from dpp.model.types import Host

T = TypeVar("T")
_TRIES = 3
_PAUSE_SECONDS = 2.0
_CONFIRM_MARGIN_SECONDS = 10.0


def _quiet(_: str) -> None:
    """Report nothing."""


@dataclass(frozen=True)
class DeviceConfigurations:
    """The configurations of an environment's border routers.

    Parameters
    ----------
    environment
        The model that they are derived from.
    folders
        The instance's folders.
    site
        Where the operator sits; None for each router's own site.
    console
        Use the lab's consoles, where there is no operations host to sit at yet; nothing is checked from elsewhere then.
    progress
        Told of each step.
    """

    environment: Environment
    folders: Folders
    site: str | None = None
    console: bool = False
    progress: Callable[[str], None] = field(default=_quiet, compare=False)

    def intended(self, host: str) -> str:
        """Return the whole configuration that `host` should have."""
        return router_text(self.environment, host)

    def read(self, host: str) -> str:
        """Return the running configuration of `host`, without greetings and comments.

        Raises
        ------
        RetriableError
            If the router cannot be reached.
        """
        return self._again(lambda: self._driver(host).running())

    def diff(self, host: str, text: str | None = None) -> Change:
        """Return what `apply` (or `push` of `text`) would change. Raises as `read` does."""
        wanted = self.intended(host) if text is None else text
        return self._again(lambda: self._driver(host).difference(wanted))

    def apply(self, host: str, confirm_seconds: float = 60.0) -> Applied:
        """Make the configuration of `host` exactly the intended one.

        The router takes the change back by itself after `confirm_seconds`, unless it has been seen to work from here and
        from other sites: sessions and paths that were up before must be up again.

        Raises
        ------
        RetriableError
            If the router cannot be reached; after the change it is on its way back by itself.
        FatalError
            If it refuses the configuration, or something that was up stayed down; the change was taken back.
        """
        return self.push(host, self.intended(host), confirm_seconds)

    def push(self, host: str, text: str, confirm_seconds: float = 60.0) -> Applied:
        """Make the configuration of `host` exactly `text`; as `apply` does."""
        driver = self._driver(host)
        before = self._again(driver.sessions)
        paths = self._paths(host)
        self.progress(f"{host}: applying, taken back in {confirm_seconds:.0f} s unless it works")
        deadline = time.monotonic() + confirm_seconds - _CONFIRM_MARGIN_SECONDS
        change = driver.apply(text, confirm_seconds)
        if not change:
            return self._applied(host, change, before, before)
        wanted = {address for address, up in before.items() if up and f"neighbor {address} remote-as" in text}
        after = self._check(host, wanted, paths, deadline)
        driver.confirm()
        return self._applied(host, change, before, after)

    # -- steps -----------------------------------------------------------------------------------------------------------

    def _check(
        self, host: str, wanted: set[str], paths: dict[tuple[str, str], bool], deadline: float
    ) -> dict[str, bool]:
        """Wait until all that worked before works again; take the change back where it does not."""
        while True:
            self.progress(f"{host}: checking sessions and paths")
            lost, sessions = self._lost(host, wanted, paths)
            if not lost:
                return sessions
            if time.monotonic() > deadline:
                break
            time.sleep(_PAUSE_SECONDS)
        found = f"down after the change: {', '.join(lost)}"
        try:
            self._driver(host).revert()
        except RetriableError as error:
            raise RetriableError(
                f"router {host}", f"{found}; {error.found}", "what worked before", "it takes the change back by itself"
            ) from error
        raise FatalError(f"router {host}", found, "what worked before", "the change was taken back: correct it")

    def _lost(
        self, host: str, wanted: set[str], paths: dict[tuple[str, str], bool]
    ) -> tuple[list[str], dict[str, bool]]:
        try:
            sessions = self._driver(host).sessions()
        except RetriableError as error:
            return [error.found], {}
        lost = [f"session to {address}" for address in sorted(wanted) if not sessions.get(address)]
        now = self._probe([path for path, up in paths.items() if up])
        return lost + [f"path from {site} to {name}" for (site, name), up in now.items() if not up], sessions

    def _paths(self, host: str) -> dict[tuple[str, str], bool]:
        """Return the paths that this router's change could break, by vantage and target, and whether each works now."""
        if self.console:
            return {}
        here = self.environment.host(host).site
        others = [site for site in self.environment.sites if site != here]
        outward = [(here, self.environment.routers(site)[0].name) for site in others]
        return self._probe([*outward, *((site, host) for site in others)])

    def _probe(self, paths: list[tuple[str, str]]) -> dict[tuple[str, str], bool]:
        def works(path: tuple[str, str]) -> bool:
            try:
                vantage = self._vantage(path[0])
            except RetriableError:
                return False
            return reachable(vantage, str(self.environment.host(path[1]).address))

        with ThreadPoolExecutor(max_workers=16) as pool:
            return dict(zip(paths, pool.map(works, paths), strict=True))

    @staticmethod
    def _applied(host: str, change: Change, before: dict[str, bool], after: dict[str, bool]) -> Applied:
        waiting = tuple(address for address, up in after.items() if not up and not before.get(address))
        return Applied(
            host=host, change=change, established=tuple(one for one, up in after.items() if up), waiting=waiting
        )

    # -- ways ------------------------------------------------------------------------------------------------------------

    def _driver(self, host: str) -> Driver:
        return DRIVERS[platform_of(self.environment, host)](host, self._channel(self.environment.host(host)))

    def _channel(self, host: Host) -> Channel:
        if self.console:
            return Console(host, f"dpp-{self.folders.instance}-{host.slug}")
        return SshChannel(host, self._vantage(self.site or host.site), Secrets(self.folders.secrets))

    def _vantage(self, site: str) -> Vantage:
        return Vantage.at(site, self.environment.name, self.folders)

    @staticmethod
    def _again(call: Callable[[], T]) -> T:
        """Call until it succeeds or has failed three times in a way that may pass."""
        for _ in range(_TRIES - 1):
            try:
                return call()
            except RetriableError:
                time.sleep(_PAUSE_SECONDS)
        return call()
