"""Where operators sit: every in-band connection starts at a site's operations host.

In the lab this machine is not on the observatory's network, so a vantage enters the network namespace of the site's
operations host, with the observatory's host names resolvable, and nothing else of it. Elsewhere the tool runs on that
host already and a vantage changes nothing.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec, TypeVar

from dpp.model.errors import FatalError, RetriableError
from dpp.model.folders import Folders

P = ParamSpec("P")
T = TypeVar("T")

_CLONE_NEWNS, _CLONE_NEWNET = 0x00020000, 0x40000000
_MS_BIND, _MS_REC, _MS_PRIVATE = 0x1000, 0x4000, 0x40000
_BIND_HOSTS = 'mount --bind "$0" /etc/hosts && exec "$@"'


@dataclass(frozen=True)
class Vantage:
    """A place on the observatory's network that connections start from.

    Parameters
    ----------
    site
        The site whose operations host this is.
    namespace
        Path of the network namespace to enter, or None where this machine is the operations host.
    hosts
        File that replaces /etc/hosts for what runs here, or None to keep it.
    """

    site: str
    namespace: Path | None = None
    hosts: Path | None = None

    @classmethod
    def at(cls, site: str, environment: str = "lab", folders: Folders | None = None) -> Vantage:
        """Return the vantage of a site's operations host.

        Raises
        ------
        RetriableError
            If the lab's operations host of that site is not up.
        """
        if environment != "lab":
            return cls(site)
        folders = folders or Folders.current()
        link = folders.run / "vantages" / site
        if not link.exists():
            raise RetriableError(
                f"site {site}", f"no operations host is up ({link} leads nowhere)", "a standing lab", "run dpp lab up"
            )
        hosts = folders.state / "hosts"
        return cls(site, link.readlink(), hosts if hosts.exists() else None)

    def prefix(self) -> list[str]:
        """Return the words to put before a command so that it runs here."""
        if self.namespace is None:
            return []
        enter = ["nsenter", f"--net={self.namespace}"]
        if self.hosts is None:
            return [*enter, "--"]
        return [*enter, "unshare", "--mount", "--", "sh", "-c", _BIND_HOSTS, str(self.hosts)]

    def run(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call `function` in a thread that lives here: sockets, threads and processes it makes belong to this place.

        Raises
        ------
        FatalError
            If the namespace cannot be entered (not root, or it went away).
        """
        if self.namespace is None:
            return function(*args, **kwargs)
        future: Future[T] = Future()

        def body() -> None:
            try:
                self._enter()
                future.set_result(function(*args, **kwargs))
            except BaseException as error:  # noqa: BLE001 - handed to the caller's thread whole
                future.set_exception(error)

        threading.Thread(target=body, name=f"vantage-{self.site}", daemon=True).start()
        return future.result()

    def _enter(self) -> None:
        assert self.namespace is not None  # noqa: S101 - run() has checked it
        libc = ctypes.CDLL(None, use_errno=True)

        def check(result: int, what: str) -> None:
            if result != 0:
                reason = os.strerror(ctypes.get_errno())
                raise FatalError(
                    f"vantage {self.site}", f"cannot {what}: {reason}", "root and a standing lab", "run dpp lab status"
                )

        try:
            descriptor = os.open(self.namespace, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise FatalError(
                f"vantage {self.site}", str(error), "the operations host's namespace", "run dpp lab up"
            ) from error
        try:
            check(libc.setns(descriptor, _CLONE_NEWNET), f"enter {self.namespace}")
        finally:
            os.close(descriptor)
        if self.hosts is not None:
            check(libc.unshare(_CLONE_NEWNS), "unshare mounts")
            check(libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None), "make mounts private")
            check(libc.mount(os.fsencode(self.hosts), b"/etc/hosts", None, _MS_BIND, None), f"bind {self.hosts}")
