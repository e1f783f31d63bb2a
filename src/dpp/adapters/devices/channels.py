"""Ways to a router: its shell and its command line by SSH, in band; its console, at bootstrap and to break the glass."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from dpp.adapters.podman import Podman
from dpp.adapters.process import CommandFailedError, run
from dpp.adapters.secrets import Secrets
from dpp.adapters.vantage import Vantage
from dpp.model.errors import FatalError, RetriableError
from dpp.model.types import Host

_CONNECT_SECONDS = 10
_COMMAND_SECONDS = 120


class Channel(Protocol):
    """Runs programs on a router as its administrator, and shows what its command line says."""

    def run(self, *command: str, text: str = "") -> tuple[int, str]:
        """Run a command with `text` as its input; return exit code and what it printed."""
        ...

    def show(self, command: str) -> str:
        """Return what the router's command line answers."""
        ...


@dataclass(frozen=True)
class SshChannel:
    """In band, from a vantage, with a user certificate and the host's known key.

    Parameters
    ----------
    host
        The router.
    vantage
        Where the connection starts.
    secrets
        Where certificates and known keys come from.
    administrator
        Account that may become root.
    reader
        Account whose shell is the router's command line.
    """

    host: Host
    vantage: Vantage
    secrets: Secrets
    administrator: str = "operator"
    reader: str = "netops"

    def run(self, *command: str, text: str = "") -> tuple[int, str]:
        """Run a command as root; see `Channel`.

        Raises
        ------
        RetriableError
            If the router cannot be reached, or the connection breaks.
        FatalError
            If it refuses the certificate or is not the host it should be.
        """
        return self.vantage.run(self._run, command, text)

    def show(self, command: str) -> str:
        """Ask the router's command line; see `Channel`. Raises as `run` does."""
        return self.vantage.run(self._show, command)

    def _run(self, command: tuple[str, ...], text: str) -> tuple[int, str]:
        with self._connection("linux", self.administrator) as connection:
            channel = connection.remote_conn_pre.get_transport().open_session(timeout=_CONNECT_SECONDS)
            channel.settimeout(_COMMAND_SECONDS)
            channel.exec_command(" ".join(["sudo", "-n", *command]))
            channel.sendall(text.encode())
            channel.shutdown_write()
            with channel.makefile("rb") as output, channel.makefile_stderr("rb") as errors:
                printed = output.read().decode() + errors.read().decode()
            return channel.recv_exit_status(), printed

    def _show(self, command: str) -> str:
        with self._connection("cisco_ios", self.reader) as connection:
            return str(connection.send_command(command, read_timeout=_COMMAND_SECONDS))

    @contextmanager
    def _connection(self, kind: str, user: str) -> Iterator[Any]:
        from netmiko import ConnectHandler  # noqa: PLC0415 - costs half a second
        from netmiko.exceptions import NetmikoAuthenticationException, NetmikoBaseException  # noqa: PLC0415
        from paramiko.ssh_exception import BadHostKeyException, SSHException  # noqa: PLC0415

        address = str(self.host.address)
        public = self.secrets.ssh_host_certificate(self.host.name, [address]).public.split()
        with _in_memory(f"{address} {public[0]} {public[1]}\n") as known:
            try:
                with ConnectHandler(
                    device_type=kind,
                    host=address,
                    username=user,
                    use_keys=True,
                    key_file=str(self.secrets.ssh_user_certificate(user).path),
                    ssh_strict=True,
                    alt_host_keys=True,
                    alt_key_file=known,
                    conn_timeout=_CONNECT_SECONDS,
                    auth_timeout=_CONNECT_SECONDS,
                    banner_timeout=_CONNECT_SECONDS,
                    session_timeout=_COMMAND_SECONDS,
                ) as connection:
                    yield connection
            except (NetmikoAuthenticationException, BadHostKeyException) as error:
                raise FatalError(
                    f"router {self.host.name}",
                    _first_line(error),
                    f"{user} let in at {address}",
                    "converge its base_system",
                ) from error
            except (NetmikoBaseException, SSHException, OSError, EOFError) as error:
                raise RetriableError(
                    f"router {self.host.name}",
                    f"no answer at {address} from {self.vantage.site}: {_first_line(error)}",
                    "an SSH session",
                    "see dpp lab status, or try from another site",
                ) from error


@contextmanager
def _in_memory(text: str) -> Iterator[str]:
    """Yield the path of a file that no disk has: a killed process leaves nothing."""
    with os.fdopen(os.memfd_create("known_hosts"), "w") as file:
        file.write(text)
        file.flush()
        yield f"/proc/self/fd/{file.fileno()}"


@dataclass(frozen=True)
class Console:
    """The lab's out-of-band console.

    Parameters
    ----------
    host
        The router.
    machine
        Name of its container.
    """

    host: Host
    machine: str

    def run(self, *command: str, text: str = "") -> tuple[int, str]:
        """Run a command as root; see `Channel`. Raises ``FatalError`` where there is no such machine."""
        try:
            return 0, Podman(timeout=_COMMAND_SECONDS).execute(self.machine, command, input=text)
        except CommandFailedError as error:
            if error.code in {125, 126, 127}:  # podman's own, or no such program
                raise
            return error.code, error.stdout + error.stderr

    def show(self, command: str) -> str:
        """Ask the router's command line; see `Channel`."""
        code, printed = self.run("vtysh", "-c", command)
        if code:
            raise FatalError(f"router {self.host.name}", printed.strip(), f"an answer to {command!r}")
        return printed


def reachable(vantage: Vantage, address: str, seconds: float = 2.0) -> bool:
    """Say whether something answers ping at `address`, seen from `vantage`; three tries.

    Raises
    ------
    FatalError
        If there is no ping: nobody knows then.
    """
    program = shutil.which("ping")
    if program is None:
        raise FatalError("ping", "not on PATH", "Debian's iputils-ping", "run dpp doctor --fix")
    ping = [program, "-n", "-q", "-c", "3", "-i", "0.3", "-W", str(seconds), address]
    return run([*vantage.prefix(), *ping], timeout=_COMMAND_SECONDS, check=False).code == 0


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
