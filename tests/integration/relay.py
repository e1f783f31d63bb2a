"""A way to a server that breaks at a named message: what a crash, a cut or a failing link does, at each of its moments."""

from __future__ import annotations

import select
import socket
import struct
import threading
from typing import Self


class Relay:
    """Hands bytes on between clients and a server on loopback; use as a context manager.

    Parameters
    ----------
    target
        Port of the server.
    """

    def __init__(self, target: int) -> None:
        self._target, self._listener = target, socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.messages: list[bytes] = []
        self._breaks_at, self._answered = 0, False

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    @property
    def broken(self) -> bool:
        """Tell whether the way is broken: nobody gets through."""
        return bool(self._breaks_at) and len(self.messages) >= self._breaks_at

    def break_at(self, message: int, *, answered: bool) -> None:
        """Break at a client's next message but `message` - 1; the server gets it all the same if it is `answered`."""
        self.messages, self._breaks_at, self._answered = [], message, answered

    def mend(self) -> None:
        """Let everything through, and note messages anew."""
        self.messages, self._breaks_at = [], 0

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.broken:
                _reset(client)
            else:
                server = socket.create_connection(("127.0.0.1", self._target))
                threading.Thread(target=self._hand_on, args=(client, server), daemon=True).start()

    def _hand_on(self, client: socket.socket, server: socket.socket) -> None:
        with client, server:
            while not self.broken:
                for source in select.select([client, server], [], [], 0.1)[0]:
                    data = source.recv(1 << 20)
                    if not data:
                        return
                    if source is client:
                        self.messages.append(data)
                        if self.broken:
                            if self._answered:
                                server.sendall(data)
                                server.recv(1 << 20)
                            break
                    (server if source is client else client).sendall(data)
            _reset(client)


def _reset(connection: socket.socket) -> None:
    """Close as the kernel does where a process was killed with data unread."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
