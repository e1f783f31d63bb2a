"""The camera's memory on the network: images stay until whoever archives them says that they are safe."""

from __future__ import annotations

import hashlib
import json
import threading
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from workloads.camera.frames import Frame


class ImageBuffer:
    """Frames by observation id and detector."""

    def __init__(self) -> None:
        self._frames: dict[tuple[str, str], tuple[Frame, bytes, str]] = {}
        self._changed = threading.Condition()

    def store(self, obs_id: str, frame: Frame) -> str:
        """Keep a frame and return the SHA-256 of its pixels (little-endian, row by row)."""
        data = frame.pixels.astype("<u2").tobytes()
        digest = hashlib.sha256(data).hexdigest()
        with self._changed:
            self._frames[obs_id, frame.detector] = frame, data, digest
        return digest

    def describe(self, obs_id: str) -> dict[str, Any]:
        """Return what is kept of an image: per detector shape, digest, layout and keywords."""
        return {
            detector: {
                "shape": list(frame.pixels.shape),
                "sha256": digest,
                "layout": asdict(frame.layout),
                "cards": frame.cards,
            }
            for (name, detector), (frame, _, digest) in list(self._frames.items())
            if name == obs_id
        }

    def data(self, obs_id: str, detector: str) -> tuple[bytes, str] | None:
        """Return the pixels and their digest, or None."""
        found = self._frames.get((obs_id, detector))
        return (found[1], found[2]) if found else None

    def release(self, obs_id: str, detector: str) -> None:
        """Forget a frame that is safe elsewhere."""
        with self._changed:
            self._frames.pop((obs_id, detector), None)
            self._changed.notify_all()

    def wait_empty(self, timeout: float) -> list[str]:
        """Wait until all frames are released and return those that are not."""
        with self._changed:
            self._changed.wait_for(lambda: not self._frames, timeout)
            return [f"{obs_id}_{detector}" for obs_id, detector in self._frames]


def serve(buffer: ImageBuffer, port: int) -> ThreadingHTTPServer:
    """Offer the buffer: GET /images/OBSID, GET and DELETE /images/OBSID/DETECTOR."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            parts = self.path.strip("/").split("/")
            if parts == ["healthz"]:
                self._answer(200, b"ok")
            elif len(parts) == 2 and parts[0] == "images":
                self._answer(200, json.dumps(buffer.describe(parts[1])).encode())
            elif len(parts) == 3 and parts[0] == "images" and (found := buffer.data(parts[1], parts[2])):
                self._answer(200, found[0], found[1])
            else:
                self._answer(404, b"no such image")

        def do_DELETE(self) -> None:
            parts = self.path.strip("/").split("/")
            if len(parts) == 3 and parts[0] == "images":
                buffer.release(parts[1], parts[2])
                self._answer(204, b"")
            else:
                self._answer(404, b"no such image")

        def _answer(self, status: int, body: bytes, digest: str = "") -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            if digest:
                self.send_header("X-SHA256", digest)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("0.0.0.0", port), Handler)  # noqa: S104 - a pod's own network
    threading.Thread(target=server.serve_forever, name="daq", daemon=True).start()
    return server
