"""The REST interface of a forge, as far as a review needs it, and what its runners tell of a run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import httpx
from pydantic import BaseModel, Field, ValidationError

from dpp.model.errors import FatalError, RetriableError, UsageError

TOKEN: Final = "GITHUB_TOKEN"  # noqa: S105 - the name of a variable
_VERSION: Final = "2022-11-28"
_SECONDS: Final = 60.0
_AGAIN: Final = 2
_PER_PAGE: Final = 100
_LOOPBACK: Final = {"127.0.0.1", "localhost", "::1"}
_EVENT: Final = "pull_request"
_NOT_FOUND, _REFUSED, _MANY = 404, 422, 429


class _Told(BaseModel, frozen=True):
    """Something that a forge tells; it tells more than is taken."""


class Account(_Told):
    """Who a repository or a comment belongs to."""

    login: str


class Repository(_Told):
    """A repository of the forge."""

    full_name: str
    owner: Account


class Run(_Told):
    """A run of a workflow that was about a commit."""

    id: int
    name: str
    event: str
    conclusion: str | None
    head_sha: str = Field(pattern=r"^[0-9a-f]{40}$")
    head_branch: str
    head_repository: Repository | None = Field(description="None where the fork has been deleted meanwhile.")
    html_url: str

    @classmethod
    def read(cls, file: Path) -> Run:
        """Read the run that an event is about.

        Raises
        ------
        UsageError
            If the file is of no such event.
        """
        try:
            run = _Event.model_validate_json(file.read_bytes()).workflow_run
        except (OSError, ValidationError) as error:
            raise UsageError(f"event {file}", " ".join(str(error).split())[:300], "that a run of a workflow has ended") from error  # fmt: skip
        if run.event != _EVENT:
            raise UsageError(f"event {file}", f"a run for {run.event!r}", f"one for {_EVENT}")
        return run

    @property
    def succeeded(self) -> bool:
        """Whether it did what it was for."""
        return self.conclusion == "success"


class _Event(_Told):
    workflow_run: Run


class End(_Told):
    """One end of a pull request."""

    ref: str
    sha: str
    repo: Repository | None


class PullRequest(_Told):
    """A pull request."""

    number: int
    head: End
    base: End


class Comment(_Told):
    """A comment on a pull request."""

    id: int
    body: str
    user: Account | None
    html_url: str


class Label(_Told):
    """A label of the repository."""

    name: str
    color: str = ""
    description: str | None = None


class Artifact(_Told):
    """What a run left."""

    id: int
    name: str
    size_in_bytes: int
    expired: bool


class Forge:
    """One repository at a forge.

    Parameters
    ----------
    url
        Where its interface is: https, or a server on this machine.
    repository
        Owner and name.
    token
        What it knows us by.
    """

    def __init__(self, url: str, repository: str, token: str) -> None:
        target = httpx.URL(url)
        if target.scheme != "https" and target.host not in _LOOPBACK:
            raise UsageError(f"forge {url}", f"{target.scheme or 'no scheme'}", "https: a token is sent to it")
        headers = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": _VERSION}
        self.url, self._repository = url, f"/repos/{repository}"
        self._client = httpx.Client(
            base_url=url,
            headers=headers | {"Authorization": f"Bearer {token}"},
            timeout=_SECONDS,
            transport=httpx.HTTPTransport(retries=_AGAIN),
        )

    @classmethod
    def of_runner(cls, url: str, repository: str) -> Forge:
        """Return the forge that a runner works for; its token stands in the environment, never on a command line.

        Raises
        ------
        UsageError
            If there is no token.
        """
        if token := os.environ.get(TOKEN):
            return cls(url, repository, token)
        raise UsageError(TOKEN, "not set", "the token of the forge's runner", f"run it with {TOKEN} in its environment")

    # -- pull requests ---------------------------------------------------------------------------------------------------

    def pull_request(self, run: Run, base: str) -> PullRequest | None:
        """Return the open pull request into a branch whose head a run was about; none where it has moved on or is closed.

        A run of a fork does not say which pull request it was for, and what it left is not believed.
        """
        origin = run.head_repository
        if origin is None:
            return None
        query = {"state": "open", "head": f"{origin.owner.login}:{run.head_branch}"}
        for row in self._rows("pulls", **query):
            pull = PullRequest.model_validate(row)
            same = pull.head.repo is not None and pull.head.repo.full_name == origin.full_name
            if same and pull.head.sha == run.head_sha and pull.base.ref == base:
                return pull
        return None

    def files(self, number: int) -> tuple[str, ...]:
        """Return the files that differ in a pull request, as the forge itself says."""
        rows = self._rows(f"pulls/{number}/files")
        return tuple(name for row in rows for name in (row["filename"], row.get("previous_filename")) if name)

    # -- comments --------------------------------------------------------------------------------------------------------

    def comments(self, number: int) -> Iterator[Comment]:
        """Yield the comments on a pull request, the oldest first."""
        return (Comment.model_validate(row) for row in self._rows(f"issues/{number}/comments"))

    def write_comment(self, number: int, body: str) -> Comment:
        """Add a comment to a pull request."""
        return Comment.model_validate(self._call("POST", f"issues/{number}/comments", {"body": body}).json())

    def rewrite_comment(self, comment: int, body: str) -> Comment:
        """Give a comment another text."""
        return Comment.model_validate(self._call("PATCH", f"issues/comments/{comment}", {"body": body}).json())

    # -- labels ----------------------------------------------------------------------------------------------------------

    def labels(self) -> dict[str, Label]:
        """Return the labels that the repository has, by name in small letters: it has no two that differ in size alone."""
        return {label.name.lower(): label for row in self._rows("labels") for label in [Label.model_validate(row)]}

    def make_label(self, label: Label) -> None:
        """Have a label in the repository; another job may have made it meanwhile."""
        answer = self._call("POST", "labels", label.model_dump(), accepted=(_REFUSED,))
        if answer.is_error and "already_exists" not in answer.text:
            self._refuse(answer)

    def mend_label(self, old: Label, new: Label) -> None:
        """Give a label of the repository another spelling, colour or description."""
        content = {"new_name": new.name, "color": new.color, "description": new.description}
        self._call("PATCH", f"labels/{_word(old.name)}", content)

    def labels_of(self, number: int) -> list[str]:
        """Return the labels of a pull request."""
        return [row["name"] for row in self._rows(f"issues/{number}/labels")]

    def add_labels(self, number: int, names: list[str]) -> None:
        """Add labels to a pull request."""
        self._call("POST", f"issues/{number}/labels", {"labels": names})

    def remove_label(self, number: int, name: str) -> None:
        """Take a label away from a pull request; somebody may have done so meanwhile."""
        self._call("DELETE", f"issues/{number}/labels/{_word(name)}", accepted=(_NOT_FOUND,))

    # -- artifacts -------------------------------------------------------------------------------------------------------

    def artifacts(self, run: int, name: str) -> list[Artifact]:
        """Return what a run left under a name."""
        answer = self._call("GET", f"actions/runs/{run}/artifacts?per_page={_PER_PAGE}&name={_word(name)}").json()
        found = [Artifact.model_validate(row) for row in answer["artifacts"]]
        return [artifact for artifact in found if artifact.name == name and not artifact.expired]

    def download(self, artifact: Artifact, limit: int) -> bytes:
        """Return the archive of an artifact.

        The forge sends us on to a store, which does not get the token.

        Raises
        ------
        FatalError
            If it is larger than `limit` bytes.
        """
        content = bytearray()
        path = f"{self._repository}/actions/artifacts/{artifact.id}/zip"
        try:
            with self._client.stream("GET", path, follow_redirects=True) as answer:
                if answer.is_error:
                    answer.read()
                    self._refuse(answer)
                for piece in answer.iter_bytes():
                    content += piece
                    if len(content) > limit:
                        raise FatalError(f"artifact {artifact.name}", f"more than {limit} bytes", "a dossier")
        except httpx.TransportError as error:
            raise self._away(error) from error
        return bytes(content)

    # -- HTTP ------------------------------------------------------------------------------------------------------------

    def _rows(self, path: str, **query: str) -> Iterator[Any]:
        """Yield the rows of a list, page after page."""
        answer = self._call("GET", path, query=query | {"per_page": str(_PER_PAGE)})
        yield from answer.json()
        while following := answer.links.get("next", {}).get("url"):
            if httpx.URL(following).host != httpx.URL(self.url).host:
                raise FatalError(f"forge {self.url}", f"a next page at {following}", "one of its own")
            answer = self._call("GET", following)
            yield from answer.json()

    def _call(
        self,
        method: str,
        path: str,
        content: Any = None,
        query: dict[str, str] | None = None,
        accepted: tuple[int, ...] = (),
    ) -> httpx.Response:
        url = path if "://" in path else f"{self._repository}/{path}"
        try:
            answer = self._client.request(method, url, json=content, params=query or None)
        except httpx.TransportError as error:
            raise self._away(error) from error
        if answer.is_error and answer.status_code not in accepted:
            self._refuse(answer)
        return answer

    def _away(self, error: httpx.TransportError) -> RetriableError:
        return RetriableError(f"forge {self.url}", f"{type(error).__name__}: {error}", "an answer", "try again later")

    def _refuse(self, answer: httpx.Response) -> None:
        about = f"{answer.request.method} {answer.request.url}"
        try:
            said = str(answer.json()["message"])
        except (ValueError, KeyError, TypeError):
            said = answer.text[:200]
        limited = answer.status_code == _MANY or answer.headers.get("x-ratelimit-remaining") == "0"
        if answer.is_server_error or limited or "retry-after" in answer.headers:
            raise RetriableError(about, f"{answer.status_code} {said}", "an answer", "run the job again later")
        raise FatalError(about, f"{answer.status_code} {said}", "to be allowed it", "see which permissions the job has")


def _word(name: str) -> str:
    return quote(name, safe="")
