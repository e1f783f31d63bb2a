"""A cluster's objects: applied server-side under one field manager, waited for, compared, pruned, each owned by a URN.

An owner's objects are recorded in one ConfigMap of the cluster before the first of them is applied, so an apply that was
cut short is found and finished by the next one, and what an owner no longer names goes away.
"""

from __future__ import annotations

import copy
import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, ParamSpec, TypeVar

from kubernetes import config
from kubernetes.client import ApiClient, Configuration
from kubernetes.dynamic import DynamicClient
from kubernetes.dynamic.exceptions import DynamicApiError, ResourceNotFoundError
from urllib3.exceptions import HTTPError

from dpp.adapters.kubernetes_ready import waiting_for
from dpp.adapters.vantage import Vantage
from dpp.model.environment import Environment
from dpp.model.errors import FatalError, RetriableError
from dpp.model.folders import Folders

P = ParamSpec("P")
T = TypeVar("T")
Manifest = dict[str, Any]

FIELD_MANAGER = "dpp"
OWNER = "dpp.lsst.org/owner"
"""Annotation that holds the URN of the resource that owns an object."""

_RECORDS = "kube-system"
_ORDER = (
    "Namespace",
    "CustomResourceDefinition",
    "PriorityClass",
    "ResourceQuota",
    "LimitRange",
    "NetworkPolicy",
    "ServiceAccount",
    "ConfigMap",
    "Secret",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "Service",
)
"""Kinds that others need, in the order in which they are applied; all other kinds come after."""

_SERVER_FIELDS = ("managedFields", "resourceVersion", "uid", "creationTimestamp", "generation", "selfLink")
_POLL_SECONDS = 0.5
_CALL_SECONDS = 30


@dataclass(frozen=True, order=True)
class Key:
    """What names one object of a cluster."""

    api: str
    kind: str
    namespace: str
    name: str

    @classmethod
    def of(cls, manifest: Manifest) -> Key:
        """Return the key of a manifest."""
        metadata = manifest["metadata"]
        return cls(manifest["apiVersion"], manifest["kind"], metadata.get("namespace", ""), metadata["name"])

    def __str__(self) -> str:
        place = f"{self.namespace}/" if self.namespace else ""
        return f"{self.kind} {place}{self.name}"


@dataclass(frozen=True)
class Difference:
    """How one object differs from what it should be.

    Parameters
    ----------
    key
        The object.
    action
        ``create``, ``update`` or ``delete``: what an apply would do.
    fields
        Dotted path of each differing field, with what is there and what should be.
    """

    key: Key
    action: str
    fields: dict[str, tuple[Any, Any]] = field(default_factory=dict)


class Cluster:
    """One Kubernetes cluster, reached from the operations host of its site.

    Parameters
    ----------
    name
        Name of the cluster in the inventory.
    environment
        The environment that it belongs to.
    folders
        Where its kubeconfig lies.
    """

    def __init__(self, name: str, environment: str = "lab", folders: Folders | None = None) -> None:
        self.name = name
        self.environment = environment
        self.folders = folders or Folders.current()

    # -- verbs -------------------------------------------------------------------------------------------------------

    def apply(
        self,
        objects: Sequence[Manifest],
        owner: str,
        timeout: float = 300.0,
        progress: Callable[[str], None] = lambda _text: None,
    ) -> list[Difference]:
        """Make the cluster hold exactly these objects of `owner`, wait until they are ready; return what was changed.

        Raises
        ------
        FatalError
            If the API refuses an object, or one belongs to another owner.
        RetriableError
            If the API does not answer or something is not ready after `timeout` seconds.
        """
        return self._at_vantage(self._apply, list(objects), owner, timeout, progress)

    def diff(self, objects: Sequence[Manifest], owner: str) -> list[Difference]:
        """Return what `apply` would change, asked of the API server without changing anything; errors as in `apply`."""
        return self._at_vantage(self._diff, list(objects), owner)

    def read(self, owner: str) -> dict[Key, Manifest | None]:
        """Return every object that `owner` is recorded to own, None where it is gone; empty where nothing is recorded."""
        return self._at_vantage(self._read, owner)

    def unready(self, owner: str) -> dict[str, str]:
        """Return which objects of `owner` are missing or not ready, with the reason."""
        reasons = {key: waiting_for(live) if live else "missing" for key, live in self.read(owner).items()}
        return {str(key): reason for key, reason in reasons.items() if reason}

    def delete(self, owner: str, timeout: float = 180.0) -> list[Key]:
        """Delete every object of `owner`, wait until they are gone, and return them; errors as in `apply`."""
        return self._at_vantage(self._delete, owner, timeout)

    # -- inside the vantage ------------------------------------------------------------------------------------------

    def _at_vantage(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        site = _site_of(self.environment, self.name)
        vantage = Vantage.at(site, self.environment, self.folders)
        return vantage.run(lambda: self._translating(function, *args, **kwargs))

    def _translating(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call `function`, turning the client's errors into this project's."""
        subject = f"cluster {self.name}"
        try:
            return function(*args, **kwargs)
        except ResourceNotFoundError as error:
            raise FatalError(subject, str(error), "a kind that the API serves", "apply its definition first") from error
        except DynamicApiError as error:
            kind = RetriableError if error.status in {408, 409, 429, 500, 502, 503, 504} else FatalError
            raise kind(subject, f"{error.status} {_message(error)}") from error
        except (HTTPError, OSError) as error:
            raise RetriableError(subject, str(error), "an answer of its API", "see dpp lab status") from error

    def _client(self) -> DynamicClient:
        path = self.folders.state / "kubeconfig" / self.name
        if not path.exists():
            raise RetriableError(
                f"cluster {self.name}", f"no {path}", "the cluster's access", "converge its control plane"
            )
        cache = self.folders.run / f"discovery-{self.name}.json"
        # The library writes keys to files and forgets them when its process is killed: they lie where the lab's go.
        keys = self.folders.run / "keys"
        keys.mkdir(mode=0o700, parents=True, exist_ok=True)
        settings = Configuration()
        config.load_kube_config(str(path), client_configuration=settings, temp_file_path=str(keys))  # type: ignore[no-untyped-call]
        return DynamicClient(ApiClient(settings), cache_file=str(cache))  # type: ignore[no-untyped-call]

    def _apply(
        self, objects: list[Manifest], owner: str, timeout: float, progress: Callable[[str], None]
    ) -> list[Difference]:
        client = self._client()
        wanted = {Key.of(one): _owned(one, owner) for one in objects}
        recorded = self._recorded(client, owner)
        self._record(client, owner, set(recorded) | set(wanted))
        changes = []
        for key in sorted(wanted, key=_rank):
            progress(f"{key}")
            if change := self._apply_one(client, wanted[key], owner):
                changes.append(change)
        stale = [key for key in sorted(recorded, key=_rank, reverse=True) if key not in wanted]
        changes += [Difference(key, "delete") for key in stale if self._delete_one(client, key, owner)]
        self._wait_gone(client, stale, timeout)
        self._record(client, owner, set(wanted))
        self._wait_ready(client, list(wanted), timeout, progress)
        return changes

    def _apply_one(self, client: DynamicClient, manifest: Manifest, owner: str) -> Difference | None:
        key = Key.of(manifest)
        live = self._get(client, key)
        _check_owner(key, live, owner)
        try:
            made = self._send(client, manifest)
        except DynamicApiError as error:
            if live is None or error.status != 422 or key.kind != "Job":
                raise FatalError(f"{key} on cluster {self.name}", f"{error.status} {_message(error)}") from error
            self._delete_one(client, key, owner)  # a Job's template cannot be changed, only replaced
            self._wait_gone(client, [key], _CALL_SECONDS)
            made = self._send(client, manifest)
        if live is None:
            return Difference(key, "create")
        fields = _differences(_plain(live), _plain(made))
        return Difference(key, "update", fields) if fields else None

    def _diff(self, objects: list[Manifest], owner: str) -> list[Difference]:
        client = self._client()
        wanted = {Key.of(one): _owned(one, owner) for one in objects}
        found = []
        for key in sorted(wanted, key=_rank):
            live = self._get(client, key)
            _check_owner(key, live, owner)
            if live is None:
                found.append(Difference(key, "create"))
            elif fields := self._would_change(client, wanted[key], live):
                found.append(Difference(key, "update", fields))
        extra = [key for key in self._recorded(client, owner) if key not in wanted and self._get(client, key)]
        return found + [Difference(key, "delete") for key in sorted(extra, key=_rank)]

    def _would_change(self, client: DynamicClient, manifest: Manifest, live: Manifest) -> dict[str, tuple[Any, Any]]:
        try:
            return _differences(_plain(live), _plain(self._send(client, manifest, dry_run="All")))
        except DynamicApiError as error:
            if error.status == 422 and manifest["kind"] == "Job":
                return {"spec.template": ("another template", "this one, in a new Job")}
            raise

    def _read(self, owner: str) -> dict[Key, Manifest | None]:
        client = self._client()
        found = {key: self._get(client, key) for key in self._recorded(client, owner)}
        return {key: live if live and _owner(live) == owner else None for key, live in found.items()}

    def _delete(self, owner: str, timeout: float) -> list[Key]:
        client = self._client()
        keys = sorted(self._recorded(client, owner), key=_rank, reverse=True)
        gone = [key for key in keys if self._delete_one(client, key, owner)]
        self._wait_gone(client, gone, timeout)
        self._record(client, owner, set())
        return gone

    # -- single calls ------------------------------------------------------------------------------------------------

    def _send(self, client: DynamicClient, manifest: Manifest, **more: Any) -> Manifest:
        resource = client.resources.get(api_version=manifest["apiVersion"], kind=manifest["kind"])
        answer: Manifest = client.server_side_apply(  # type: ignore[no-untyped-call]
            resource,
            body=manifest,
            name=manifest["metadata"]["name"],
            namespace=manifest["metadata"].get("namespace"),
            field_manager=FIELD_MANAGER,
            force_conflicts=True,
            _request_timeout=_CALL_SECONDS,
            **more,
        ).to_dict()
        return answer

    def _get(self, client: DynamicClient, key: Key) -> Manifest | None:
        try:
            resource = client.resources.get(api_version=key.api, kind=key.kind)
            found: Manifest = client.get(  # type: ignore[no-untyped-call]
                resource, name=key.name, namespace=key.namespace or None, _request_timeout=_CALL_SECONDS
            ).to_dict()
        except ResourceNotFoundError:  # not even its kind is there
            return None
        except DynamicApiError as error:
            if error.status == 404:
                return None
            raise
        return found

    def _delete_one(self, client: DynamicClient, key: Key, owner: str) -> bool:
        live = self._get(client, key)
        if live is None or _owner(live) != owner:
            return False
        resource = client.resources.get(api_version=key.api, kind=key.kind)
        body = {"propagationPolicy": "Foreground", "preconditions": {"uid": live["metadata"]["uid"]}}
        try:
            client.delete(  # type: ignore[no-untyped-call]
                resource, name=key.name, namespace=key.namespace or None, body=body, _request_timeout=_CALL_SECONDS
            )
        except DynamicApiError as error:
            if error.status != 404:
                raise
        return True

    def _recorded(self, client: DynamicClient, owner: str) -> list[Key]:
        record = self._get(client, Key("v1", "ConfigMap", _RECORDS, _record_name(owner)))
        return [Key(*words) for words in json.loads(record["data"]["objects"])] if record else []

    def _record(self, client: DynamicClient, owner: str, keys: set[Key]) -> None:
        name = _record_name(owner)
        if not keys:
            self._delete_one(client, Key("v1", "ConfigMap", _RECORDS, name), owner)
            return
        rows = sorted([key.api, key.kind, key.namespace, key.name] for key in keys)
        metadata = {"name": name, "namespace": _RECORDS, "annotations": {OWNER: owner}}
        data = {"owner": owner, "objects": json.dumps(rows)}
        self._send(client, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})

    # -- waiting -----------------------------------------------------------------------------------------------------

    def _wait_gone(self, client: DynamicClient, keys: list[Key], timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while left := [key for key in keys if self._get(client, key) is not None]:
            if time.monotonic() > deadline:
                raise RetriableError(f"{left[0]} on cluster {self.name}", f"still there after {timeout:.0f} s", "gone")
            time.sleep(_POLL_SECONDS)

    def _wait_ready(
        self, client: DynamicClient, keys: list[Key], timeout: float, progress: Callable[[str], None]
    ) -> None:
        deadline = time.monotonic() + timeout
        while True:
            live = {key: self._get(client, key) for key in keys}
            reasons = {key: waiting_for(found) if found else "missing" for key, found in live.items()}
            keys = [key for key, reason in reasons.items() if reason]
            if not keys:
                return
            first = keys[0]
            progress(f"waiting for {first}: {reasons[first]}")
            if time.monotonic() > deadline:
                raise RetriableError(
                    f"{first} on cluster {self.name}",
                    f"{reasons[first]} after {timeout:.0f} s",
                    "ready",
                    f"look at kubectl -n {first.namespace} describe {first.kind.lower()} {first.name}",
                )
            time.sleep(_POLL_SECONDS)


@lru_cache(maxsize=64)
def _site_of(environment: str, cluster: str) -> str:
    """Return the site of a cluster; loading a model takes a second, and every call here needs it."""
    return Environment.load(environment).cluster(cluster).site


def _rank(key: Key) -> tuple[int, Key]:
    return (_ORDER.index(key.kind) if key.kind in _ORDER else len(_ORDER), key)


def _owned(manifest: Manifest, owner: str) -> Manifest:
    marked = copy.deepcopy(manifest)
    marked["metadata"].setdefault("annotations", {})[OWNER] = owner
    return marked


def _owner(live: Manifest) -> str:
    return str((live["metadata"].get("annotations") or {}).get(OWNER, ""))


def _check_owner(key: Key, live: Manifest | None, owner: str) -> None:
    if live is not None and (found := _owner(live)) not in {"", owner}:
        raise FatalError(f"{key}", f"it belongs to {found}", owner, "name it in one place only")


def _record_name(owner: str) -> str:
    return f"dpp-{hashlib.sha256(owner.encode()).hexdigest()[:20]}"


def _plain(live: Manifest) -> Manifest:
    """Return an object without what the server keeps for itself."""
    plain = {key: value for key, value in live.items() if key != "status"}
    plain["metadata"] = {key: value for key, value in live["metadata"].items() if key not in _SERVER_FIELDS}
    return plain


def _differences(before: Any, after: Any, path: str = "") -> dict[str, tuple[Any, Any]]:
    if isinstance(before, dict) and isinstance(after, dict):
        found: dict[str, tuple[Any, Any]] = {}
        for key in sorted(before.keys() | after.keys()):
            found |= _differences(before.get(key), after.get(key), f"{path}.{key}".lstrip("."))
        return found
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        found = {}
        for index, (one, other) in enumerate(zip(before, after, strict=True)):
            found |= _differences(one, other, f"{path}[{index}]")
        return found
    return {} if before == after else {path: (before, after)}


def _message(error: DynamicApiError) -> str:
    try:
        return str(json.loads(error.body or "")["message"])
    except (TypeError, ValueError, KeyError):
        return str(error.reason)
