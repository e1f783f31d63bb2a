"""Packets to a store carry the mark that they are given."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from workloads.common.s3 import Store
from workloads.common.settings import Settings

AF41 = 34


class _Anything(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def port() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Anything) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def _marks(port: int) -> set[int]:
    """Return the marks on this process's connections to a port, whatever other sockets it has."""
    found = set()
    for file in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the folder's own, closed by now
            if not str(file.readlink()).startswith("socket:"):
                continue
            with socket.socket(fileno=os.dup(int(file.name))) as one, suppress(OSError):  # listening: no peer
                if one.family == socket.AF_INET and one.getpeername()[1] == port:
                    found.add(one.getsockopt(socket.IPPROTO_IP, socket.IP_TOS) >> 2)
    return found


@pytest.mark.parametrize("dscp", [0, AF41])
def test_packets_to_a_store_are_marked(tmp_path: Path, port: int, dscp: int) -> None:
    (tmp_path / "s3-ncsa").write_text("secret\n")
    stores = {"ncsa": {"endpoint": f"http://127.0.0.1:{port}"}}
    grant = {"bucket": "raw", "site": "ncsa", "prefix": "a/", "may": ["write"]}
    site = {"environment": "small", "site": "summit", "principal": "forwarder", "object_stores": stores}
    (tmp_path / "site.yml").write_text(yaml.safe_dump({**site, "buckets": [grant]}))
    store = Store(Settings(tmp_path / "site.yml", tmp_path, tmp_path / "ca.crt"), "ncsa", "raw", dscp=dscp)
    store.put("raw", "a/key", b"pixels")
    one, other = socket.socketpair()  # a local socket among them, as test runners leave
    with one, other:
        assert _marks(port) == {dscp}
