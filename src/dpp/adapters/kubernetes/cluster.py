"""A cluster's objects: applied server-side under one field manager, waited for, compared, pruned, each owned by a URN.

An owner's objects are recorded in one ConfigMap of the cluster before the first of them is applied, so an apply that was
cut short is found and finished by the next one, and what an owner no longer names goes away.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, ParamSpec, TypeVar

from kubernetes.dynamic.exceptions import DynamicApiError

from dpp.adapters.kubernetes.api import Api, message, translating
from dpp.adapters.kubernetes.objects import (
    OWNER,
    Difference,
    Key,
    Manifest,
    check_owner,
    differences,
    owned,
    owner_of,
    plain,
)
from dpp.adapters.kubernetes.ready import has_completed, has_failed, waiting_for
from dpp.adapters.kubernetes.reasons import why_not_ready
from dpp.adapters.vantage import Vantage
from dpp.model.environment import Environment
from dpp.model.errors import FatalError, RetriableError
from dpp.model.folders import Folders

P = ParamSpec("P")
T = TypeVar("T")
Tell = Callable[[str], None]

_RECORDS = "kube-system"
_POLL_SECONDS = 0.5
_REASON_SECONDS = 3.0
"""How often pods, events and logs are asked for while something is waited for."""
_REPLACE_SECONDS = 30.0


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
        self, objects: Sequence[Manifest], owner: str, timeout: float = 300.0, progress: Tell = lambda _text: None
    ) -> list[Difference]:
        """Make the cluster hold exactly these objects of `owner`, wait until they are ready; return what was changed.

        Raises
        ------
        FatalError
            If the API refuses an object, one belongs to another owner, or a Job fails for good.
        RetriableError
            If the API does not answer or something is not ready after `timeout` seconds; the message says why.
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
        return self._at_vantage(self._unready, owner)

    def waiting(self, key: Key) -> str:
        """Return what an object waits for and why, or nothing where it is ready."""
        return self._at_vantage(lambda api: _waiting(api, api.get(key)))

    def unfinished(self, job: Key) -> str:
        """Return what a Job has not done yet, or nothing where it has completed.

        Raises
        ------
        FatalError
            If it has failed for good; what its pod said last is in the message.
        """
        return self._at_vantage(self._unfinished, job)

    def ask(self, namespace: str, service: str, path: str) -> Any:
        """Get a path of ``service:port`` by way of the API server, and return the JSON that it answers with."""
        return self._at_vantage(lambda api: api.ask(namespace, service, path))

    def delete(self, owner: str, timeout: float = 180.0) -> list[Key]:
        """Delete every object of `owner`, wait until they are gone, and return them; errors as in `apply`."""
        return self._at_vantage(self._delete, owner, timeout)

    # -- inside the vantage ------------------------------------------------------------------------------------------

    def _at_vantage(self, function: Callable[..., T], *args: Any) -> T:
        """Call `function` with the cluster's API first, where its site's operators are."""

        def body() -> T:
            return function(Api(self.folders.state / "kubeconfig" / self.name, self.folders), *args)

        site = _site_of(self.environment, self.name)
        vantage = Vantage.at(site, self.environment, self.folders)
        return vantage.run(lambda: translating(f"cluster {self.name}", body))

    def _apply(self, api: Api, objects: list[Manifest], owner: str, timeout: float, progress: Tell) -> list[Difference]:
        wanted = {Key.of(one): owned(one, owner) for one in objects}
        recorded = _recorded(api, owner)
        _record(api, owner, set(recorded) | set(wanted))
        changes = []
        for key in sorted(wanted, key=lambda one: one.rank):
            progress(f"{key}")
            if change := self._apply_one(api, wanted[key], owner):
                changes.append(change)
        stale = [key for key in _last_first(recorded) if key not in wanted]
        changes += [Difference(key, "delete") for key in stale if api.delete(key, owner)]
        self._wait_gone(api, stale, timeout)
        _record(api, owner, set(wanted))
        self._wait_ready(api, list(wanted), timeout, progress)
        return changes

    def _apply_one(self, api: Api, manifest: Manifest, owner: str) -> Difference | None:
        key = Key.of(manifest)
        live = api.get(key)
        check_owner(key, live, owner)
        try:
            made = api.send(manifest)
        except DynamicApiError as error:
            if live is None or error.status != 422 or key.kind != "Job":
                raise FatalError(f"{key} on cluster {self.name}", f"{error.status} {message(error)}") from error
            api.delete(key, owner)  # a Job's template cannot be changed, only replaced
            self._wait_gone(api, [key], _REPLACE_SECONDS)
            made = api.send(manifest)
        if live is None:
            return Difference(key, "create")
        fields = differences(plain(live), plain(made))
        return Difference(key, "update", fields) if fields else None

    def _diff(self, api: Api, objects: list[Manifest], owner: str) -> list[Difference]:
        wanted = {Key.of(one): owned(one, owner) for one in objects}
        found = []
        for key in sorted(wanted, key=lambda one: one.rank):
            live = api.get(key)
            check_owner(key, live, owner)
            if live is None:
                found.append(Difference(key, "create"))
            elif fields := _would_change(api, wanted[key], live):
                found.append(Difference(key, "update", fields))
        extra = [key for key in _recorded(api, owner) if key not in wanted and api.get(key)]
        return found + [Difference(key, "delete") for key in sorted(extra, key=lambda one: one.rank)]

    def _read(self, api: Api, owner: str) -> dict[Key, Manifest | None]:
        found = {key: api.get(key) for key in _recorded(api, owner)}
        return {key: live if live and owner_of(live) == owner else None for key, live in found.items()}

    def _unready(self, api: Api, owner: str) -> dict[str, str]:
        reasons = {str(key): _waiting(api, live) for key, live in self._read(api, owner).items()}
        return {key: reason for key, reason in reasons.items() if reason}

    def _unfinished(self, api: Api, job: Key) -> str:
        live = api.get(job)
        if live is None:
            return "missing"
        self._check_failed(api, job, live)
        return "" if has_completed(live) else why_not_ready(api, live) or "at work"

    def _delete(self, api: Api, owner: str, timeout: float) -> list[Key]:
        gone = [key for key in _last_first(_recorded(api, owner)) if api.delete(key, owner)]
        self._wait_gone(api, gone, timeout)
        _record(api, owner, set())
        return gone

    # -- waiting -----------------------------------------------------------------------------------------------------

    def _wait_gone(self, api: Api, keys: list[Key], timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while left := [key for key in keys if api.get(key) is not None]:
            if time.monotonic() > deadline:
                raise RetriableError(f"{left[0]} on cluster {self.name}", f"still there after {timeout:.0f} s", "gone")
            time.sleep(_POLL_SECONDS)

    def _wait_ready(self, api: Api, keys: list[Key], timeout: float, progress: Tell) -> None:
        """Wait for all of `keys`, saying every few seconds what the first of them waits for and why."""
        deadline, told = time.monotonic() + timeout, float("-inf")
        while True:
            live = {key: api.get(key) for key in keys}
            keys = [key for key, found in live.items() if found is None or waiting_for(found)]
            if not keys:
                return
            for key in keys:
                self._check_failed(api, key, live[key])
            late = time.monotonic() > deadline
            if late or time.monotonic() - told > _REASON_SECONDS:
                told, reason = time.monotonic(), _waiting(api, live[keys[0]])
                progress(f"waiting for {keys[0]}: {reason}")
            if late:
                raise RetriableError(
                    f"{keys[0]} on cluster {self.name}", f"{reason} after {timeout:.0f} s", "ready", _look(keys[0])
                )
            time.sleep(_POLL_SECONDS)

    def _check_failed(self, api: Api, key: Key, live: Manifest | None) -> None:
        if live is not None and has_failed(live):
            raise FatalError(f"{key} on cluster {self.name}", _waiting(api, live), "a Job that completes", _look(key))


def _waiting(api: Api, live: Manifest | None) -> str:
    """Return what an object waits for with the reason of its pods, or nothing where it is ready."""
    if live is None:
        return "missing"
    what = waiting_for(live)
    reason = why_not_ready(api, live) if what else ""
    return f"{what}; {reason}" if reason else what


def _would_change(api: Api, manifest: Manifest, live: Manifest) -> dict[str, tuple[Any, Any]]:
    try:
        return differences(plain(live), plain(api.send(manifest, dry_run="All")))
    except DynamicApiError as error:
        if error.status == 422 and manifest["kind"] == "Job":
            return {"spec.template": ("another template", "this one, in a new Job")}
        raise


def _recorded(api: Api, owner: str) -> list[Key]:
    record = api.get(Key("v1", "ConfigMap", _RECORDS, _record_name(owner)))
    return [Key(*words) for words in json.loads(record["data"]["objects"])] if record else []


def _record(api: Api, owner: str, keys: set[Key]) -> None:
    name = _record_name(owner)
    if not keys:
        api.delete(Key("v1", "ConfigMap", _RECORDS, name), owner)
        return
    rows = sorted([key.api, key.kind, key.namespace, key.name] for key in keys)
    metadata = {"name": name, "namespace": _RECORDS, "annotations": {OWNER: owner}}
    data = {"owner": owner, "objects": json.dumps(rows)}
    api.send({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})


def _record_name(owner: str) -> str:
    return f"dpp-{hashlib.sha256(owner.encode()).hexdigest()[:20]}"


def _last_first(keys: list[Key]) -> list[Key]:
    return sorted(keys, key=lambda one: one.rank, reverse=True)


def _look(key: Key) -> str:
    return f"look at kubectl -n {key.namespace} describe {key.kind.lower()} {key.name}"


@lru_cache(maxsize=64)
def _site_of(environment: str, cluster: str) -> str:
    """Return the site of a cluster; loading a model takes a second, and every call here needs it."""
    return Environment.load(environment).cluster(cluster).site
