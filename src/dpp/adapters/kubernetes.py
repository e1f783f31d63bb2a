"""A Kubernetes cluster's API, in band: objects applied server-side under one field manager, watched until ready, pruned."""

from __future__ import annotations

import base64
import json
import ssl
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

import httpx
import yaml

from dpp.adapters.vantage import Vantage
from dpp.model.errors import FatalError, RetriableError
from dpp.model.folders import Folders
from dpp.model.types import Cluster

T = TypeVar("T")
Object = dict[str, Any]

MANAGER: Final = "dpp"
OWNER: Final = "dpp.lsst.org/owner"
"""Label (a digest) and annotation (the URN) that tell which resource an object belongs to."""
_SECONDS: Final = 30.0


@dataclass(frozen=True, order=True)
class Key:
    """Names an object of a cluster."""

    api_version: str
    kind: str
    namespace: str
    name: str

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Key:
        """Return the key of a manifest."""
        metadata = content["metadata"]
        return cls(content["apiVersion"], content["kind"], metadata.get("namespace", ""), metadata["name"])

    @classmethod
    def parse(cls, text: str) -> Key:
        """Return the key that ``str`` wrote."""
        place, _, name = text.rpartition("/")
        api_version, kind, namespace = place.rsplit("/", 2)
        return cls(api_version, kind, "" if namespace == "-" else namespace, name)

    def __str__(self) -> str:
        return f"{self.api_version}/{self.kind}/{self.namespace or '-'}/{self.name}"


@dataclass
class Api:
    """Requests to one cluster; used where `KubernetesCluster.run` calls.

    Parameters
    ----------
    cluster
        Name of the cluster, for messages.
    client
        Connections to its API, authenticated.
    """

    cluster: str
    client: httpx.Client
    _plurals: dict[str, dict[str, tuple[str, bool]]] = field(default_factory=dict)

    def get(self, key: Key) -> Object | None:
        """Return an object, or None where there is none."""
        return self._request("GET", self._path(key), missing_is_none=True)

    def apply(self, content: Mapping[str, Any], *, dry_run: bool = False) -> Object:
        """Make an object's fields as `content` says, taking them over from other managers; return the object."""
        parameters = {"fieldManager": MANAGER, "force": "true"} | ({"dryRun": "All"} if dry_run else {})
        headers = {"Content-Type": "application/apply-patch+yaml"}
        body = json.dumps(content)
        answer = self._request("PATCH", self._path(Key.of(content)), params=parameters, headers=headers, content=body)
        assert answer is not None  # noqa: S101 - only GET and DELETE may find nothing
        return answer

    def delete(self, key: Key) -> None:
        """Delete an object and what it made; nothing happens where there is none."""
        self._request("DELETE", self._path(key), missing_is_none=True, params={"propagationPolicy": "Foreground"})

    def list(self, api_version: str, kind: str, selector: str, namespace: str = "") -> list[Object]:
        """Return the objects of a kind that carry labels, in one namespace or in all."""
        path = self._collection(api_version, kind, namespace)
        answer = self._request("GET", path, missing_is_none=True, params={"labelSelector": selector})
        items: list[Object] = (answer or {}).get("items") or []
        return [{"apiVersion": api_version, "kind": kind, **item} for item in items]

    # -- paths ---------------------------------------------------------------------------------------------------------

    def _path(self, key: Key) -> str:
        return f"{self._collection(key.api_version, key.kind, key.namespace)}/{key.name}"

    def _collection(self, api_version: str, kind: str, namespace: str) -> str:
        root = f"/api/{api_version}" if "/" not in api_version else f"/apis/{api_version}"
        plural, namespaced = self._plural(root, api_version, kind)
        return f"{root}/namespaces/{namespace}/{plural}" if namespaced and namespace else f"{root}/{plural}"

    def _plural(self, root: str, api_version: str, kind: str) -> tuple[str, bool]:
        if kind not in self._plurals.get(root, {}):
            answer = self._request("GET", root, missing_is_none=True) or {"resources": []}
            rows = [row for row in answer["resources"] if "/" not in row["name"]]
            self._plurals[root] = {row["kind"]: (row["name"], row["namespaced"]) for row in rows}
        if kind not in self._plurals[root]:
            raise RetriableError(
                f"cluster {self.cluster}",
                f"no kind {kind} of {api_version}",
                "a kind that it serves",
                "apply its definition first",
            )
        return self._plurals[root][kind]

    def _request(self, method: str, path: str, *, missing_is_none: bool = False, **options: Any) -> Object | None:
        try:
            answer = self.client.request(method, path, **options)
        except httpx.HTTPError as error:
            raise RetriableError(
                f"cluster {self.cluster}",
                f"{type(error).__name__}: {error}",
                "an answer of its API",
                "see dpp lab status",
            ) from error
        if answer.status_code == httpx.codes.NOT_FOUND and missing_is_none:
            return None
        if answer.is_error:
            raise _refusal(self.cluster, path, answer)
        content: Object = answer.json()
        return content


def _refusal(cluster: str, path: str, answer: httpx.Response) -> FatalError | RetriableError:
    try:
        message = str(answer.json().get("message", answer.text))
    except ValueError:
        message = answer.text
    transient = answer.status_code in {408, 409, 429} or answer.is_server_error
    kind = RetriableError if transient else InvalidObjectError if answer.status_code == 422 else FatalError
    return kind(
        f"cluster {cluster}", f"{answer.status_code} for {path}: {message}", remedy="correct the manifest or the rights"
    )


class InvalidObjectError(FatalError):
    """The API refuses an object's content (422), such as a change of a field that cannot change."""


@dataclass(frozen=True)
class KubernetesCluster:
    """A cluster as operators of its site reach it.

    Parameters
    ----------
    name, endpoint
        Name of the cluster and host of its API.
    vantage
        Where connections start.
    kubeconfig
        File with the administrator's credentials.
    """

    name: str
    endpoint: str
    vantage: Vantage
    kubeconfig: Path

    @classmethod
    def at(cls, cluster: Cluster, environment: str, folders: Folders) -> KubernetesCluster:
        """Return a cluster of an environment, reached from its own site's operations host."""
        place = folders.state / "kubeconfig" if environment == "lab" else Path("/etc/dpp/kubeconfig")
        vantage = Vantage.at(cluster.site, environment, folders)
        return cls(cluster.name, cluster.endpoint, vantage, place / cluster.name)

    def run(self, work: Callable[[Api], T]) -> T:
        """Call `work` with a connected API, in the vantage's network.

        Raises
        ------
        FatalError
            If there are no credentials: the cluster was never made.
        """
        return self.vantage.run(self._run, work)

    def _run(self, work: Callable[[Api], T]) -> T:
        with httpx.Client(base_url=f"https://{self.endpoint}:6443", verify=self._context(), timeout=_SECONDS) as client:
            return work(Api(self.name, client))

    def _context(self) -> ssl.SSLContext:
        if not self.kubeconfig.exists():
            raise FatalError(
                f"cluster {self.name}", f"no {self.kubeconfig}", "a cluster that stands", "apply its stack first"
            )
        config = yaml.safe_load(self.kubeconfig.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        context = ssl.create_default_context(cadata=_decoded(cluster["certificate-authority-data"]))
        with tempfile.NamedTemporaryFile("w", prefix="dpp-kube-") as pair:  # the ssl module takes files only
            pair.write(_decoded(user["client-certificate-data"]) + _decoded(user["client-key-data"]))
            pair.flush()
            context.load_cert_chain(pair.name)
        return context


def _decoded(text: str) -> str:
    return base64.b64decode(text).decode()


_IGNORED: Final = {"managedFields", "resourceVersion", "generation", "uid", "creationTimestamp"}


def differences(live: Any, wanted: Any, path: str = "") -> Iterable[str]:
    """Yield the paths at which two states of one object differ, apart from what the API itself counts."""
    if isinstance(live, Mapping) and isinstance(wanted, Mapping):
        for key in sorted(live.keys() | wanted.keys()):
            if (path, key) == ("", "status") or (path == ".metadata" and key in _IGNORED):
                continue
            yield from differences(live.get(key), wanted.get(key), f"{path}.{key}")
    elif isinstance(live, list) and isinstance(wanted, list) and len(live) == len(wanted):
        for index, (one, other) in enumerate(zip(live, wanted, strict=True)):
            yield from differences(one, other, f"{path}[{index}]")
    elif live != wanted:
        yield path.removeprefix(".")
