"""A forge as far as reviews speak to it: a server of its own on loopback, which refuses what a real one refuses.

``python forge_server.py`` prints its port. ``GET /state`` and ``POST /state`` are for tests; all else is the REST interface.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

TOKEN = "token-of-a-test"  # noqa: S105 - of no forge
WRITER = "github-actions[bot]"
BODY, LABEL, DESCRIPTION = 65_536, 50, 100
"""Characters that it takes."""

State = dict[str, Any]
Answer = tuple[int, Any]
STATE: State = {
    "pulls": [], "files": {}, "comments": [], "labels": [], "labels_of": {}, "artifacts": [], "said": [], "answers": [],
}  # fmt: skip
"""Said: what it was asked, as method and path. Answers: what it says once in place of the truth."""


def refused(code: str, field: str, message: str = "") -> Answer:
    return 422, {"message": "Validation Failed", "errors": [{"code": code, "field": field, "message": message}]}


def _pulls(query: dict[str, str], **_: Any) -> Answer:
    found = [
        pull
        for pull in STATE["pulls"]
        if pull["state"] == query.get("state", "open")
        and f"{pull['head']['repo']['owner']['login']}:{pull['head']['ref']}" == query["head"]
    ]
    return 200, found


def _files(number: str, **_: Any) -> Answer:
    return 200, STATE["files"].get(number, [])


def _comments(number: str, **_: Any) -> Answer:
    return 200, [comment for comment in STATE["comments"] if comment["issue"] == int(number)]


def _write_comment(number: str, content: Any, **_: Any) -> Answer:
    if len(content["body"]) > BODY:
        return refused("unprocessable", "data", f"Body is too long (maximum is {BODY} characters)")
    made = len(STATE["comments"]) + 1
    url = f"https://forge.example/{number}#{made}"
    comment = {"id": made, "issue": int(number), "body": content["body"], "user": {"login": WRITER}, "html_url": url}
    STATE["comments"].append(comment)
    return 201, comment


def _rewrite_comment(number: str, content: Any, **_: Any) -> Answer:
    if len(content["body"]) > BODY:
        return refused("unprocessable", "data", f"Body is too long (maximum is {BODY} characters)")
    for comment in STATE["comments"]:
        if comment["id"] == int(number):
            comment["body"] = content["body"]
            return 200, comment
    return 404, {"message": "Not Found"}


def _labels(**_: Any) -> Answer:
    return 200, STATE["labels"]


def _label(name: str) -> dict[str, Any] | None:
    return next((label for label in STATE["labels"] if label["name"].lower() == name.lower()), None)


def _unfit(label: dict[str, Any]) -> Answer | None:
    if len(label["name"]) > LABEL:
        return refused("too_long", "name")
    if not re.fullmatch(r"[0-9a-fA-F]{6}", label["color"]):
        return refused("invalid", "color")
    return refused("too_long", "description") if len(label.get("description") or "") > DESCRIPTION else None


def _make_label(content: Any, **_: Any) -> Answer:
    if _label(content["name"]):
        return refused("already_exists", "name")
    if unfit := _unfit(content):
        return unfit
    STATE["labels"].append(content)
    return 201, content


def _mend_label(name: str, content: Any, **_: Any) -> Answer:
    label = _label(name)
    if label is None:
        return 404, {"message": "Not Found"}
    label |= {"name": content["new_name"], "color": content["color"], "description": content["description"]}
    return _unfit(label) or (200, label)


def _labels_of(number: str, **_: Any) -> Answer:
    return 200, [{"name": name} for name in STATE["labels_of"].get(number, [])]


def _add_labels(number: str, content: Any, **_: Any) -> Answer:
    has = STATE["labels_of"].setdefault(number, [])
    for name in content["labels"]:
        label = _label(name)
        if label is None:  # a real one makes it, in a colour of its own
            STATE["labels"].append({"name": name, "color": "ededed", "description": None})
        has += [name] if name not in has else []
    return (200, [{"name": name} for name in has]) if len(has) <= 100 else refused("too_many", "labels")


def _remove_label(number: str, name: str, **_: Any) -> Answer:
    has = STATE["labels_of"].get(number, [])
    if name not in has:
        return 404, {"message": "Label does not exist"}
    has.remove(name)
    return 200, [{"name": left} for left in has]


def _artifacts(number: str, query: dict[str, str], **_: Any) -> Answer:
    found = [
        {name: value for name, value in artifact.items() if name != "content"}
        for artifact in STATE["artifacts"]
        if artifact["run"] == int(number) and query.get("name") in (None, artifact["name"])
    ]
    return 200, {"total_count": len(found), "artifacts": found}


ROUTES: list[tuple[str, str, Callable[..., Answer]]] = [
    ("GET", r"pulls", _pulls),
    ("GET", r"pulls/(?P<number>\d+)/files", _files),
    ("GET", r"issues/(?P<number>\d+)/comments", _comments),
    ("POST", r"issues/(?P<number>\d+)/comments", _write_comment),
    ("PATCH", r"issues/comments/(?P<number>\d+)", _rewrite_comment),
    ("GET", r"labels", _labels),
    ("POST", r"labels", _make_label),
    ("PATCH", r"labels/(?P<name>[^/]+)", _mend_label),
    ("GET", r"issues/(?P<number>\d+)/labels", _labels_of),
    ("POST", r"issues/(?P<number>\d+)/labels", _add_labels),
    ("DELETE", r"issues/(?P<number>\d+)/labels/(?P<name>[^/]+)", _remove_label),
    ("GET", r"actions/runs/(?P<number>\d+)/artifacts", _artifacts),
]


class Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Say nothing: tests ask for what was said."""

    def do_GET(self) -> None:
        self._serve()

    do_POST = do_PATCH = do_DELETE = do_GET  # noqa: N815 - the library's names

    def _serve(self) -> None:
        target = urlsplit(self.path)
        size = int(self.headers.get("Content-Length") or 0)
        content = json.loads(self.rfile.read(size)) if size else None
        if target.path == "/state":
            if self.command == "POST":
                STATE.update(content)
            self._answer(200, STATE)
        elif target.path.startswith("/store/"):
            self._store(int(target.path.removeprefix("/store/")))
        else:
            self._interface(target.path, {name: values[0] for name, values in parse_qs(target.query).items()}, content)

    def _interface(self, path: str, query: dict[str, str], content: Any) -> None:
        STATE["said"].append(f"{self.command} {path}")
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._answer(401, {"message": "Bad credentials"})
            return
        for once in STATE["answers"]:
            if re.fullmatch(once["about"], f"{self.command} {path}"):
                STATE["answers"].remove(once)
                self._answer(once["status"], {"message": once["message"]}, once.get("headers", {}))
                return
        inside = re.fullmatch(r"/repos/[^/]+/[^/]+/(?P<rest>.*)", path)
        rest = inside["rest"] if inside else ""
        if zipped := re.fullmatch(r"actions/artifacts/(\d+)/zip", rest):
            host = f"http://localhost:{self.server.server_address[1]}"  # another host than ours: the store's
            self._answer(302, {}, {"Location": f"{host}/store/{zipped[1]}"})
            return
        for method, pattern, answer in ROUTES:
            if method == self.command and (match := re.fullmatch(pattern, rest)):
                words = {name: unquote(value) for name, value in match.groupdict().items()}
                status, told = answer(**words, query=query, content=content)
                self._page(status, told, path, query)
                return
        self._answer(404, {"message": "Not Found"})

    def _page(self, status: int, told: Any, path: str, query: dict[str, str]) -> None:
        """Answer with one page of a list, and where the next one is."""
        headers = {}
        if isinstance(told, list) and self.command == "GET":
            number, size = int(query.get("page", 1)), int(query.get("per_page", 30))
            if len(told) > number * size:
                more = "&".join(f"{name}={value}" for name, value in {**query, "page": number + 1}.items())
                headers = {"Link": f'<http://127.0.0.1:{self.server.server_address[1]}{path}?{more}>; rel="next"'}
            told = told[(number - 1) * size : number * size]
        self._answer(status, told, headers)

    def _store(self, number: int) -> None:
        """Answer with an archive; like a real store, not to somebody who shows a token of another."""
        found = next((one for one in STATE["artifacts"] if one["id"] == number), None)
        if "Authorization" in self.headers or found is None:
            self._answer(400, {"message": "InvalidAuthenticationInfo"})
            return
        content = base64.b64decode(found["content"])
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _answer(self, status: int, told: Any, headers: dict[str, str] | None = None) -> None:
        content = json.dumps(told).encode()
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)


if __name__ == "__main__":
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        print(server.server_address[1], flush=True)
        server.serve_forever()
