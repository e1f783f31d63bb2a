"""One API server, one call at a time: objects as mappings, a missing one as None, errors as this project's."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from kubernetes import config
from kubernetes.client import ApiClient, ApiException, Configuration, CoreV1Api
from kubernetes.dynamic import DynamicClient
from kubernetes.dynamic.exceptions import DynamicApiError, ResourceNotFoundError
from urllib3.exceptions import HTTPError

from dpp.adapters.kubernetes.objects import Key, Manifest, owner_of
from dpp.model.errors import FatalError, RetriableError
from dpp.model.folders import Folders

P = ParamSpec("P")
T = TypeVar("T")

FIELD_MANAGER = "dpp"
_CALL_SECONDS = 30
_PASSING = frozenset({408, 409, 429, 500, 502, 503, 504})
"""Codes of answers that another try may better."""


class Api:
    """The API of one cluster, as one kubeconfig reaches it.

    Parameters
    ----------
    kubeconfig
        Path of the kubeconfig.
    folders
        Where what the client library writes may lie.

    Raises
    ------
    RetriableError
        If there is no such file.
    """

    def __init__(self, kubeconfig: Path, folders: Folders) -> None:
        if not kubeconfig.exists():
            raise RetriableError(
                f"cluster {kubeconfig.name}", f"no {kubeconfig}", "the cluster's access", "converge its control plane"
            )
        cache = folders.run / f"discovery-{kubeconfig.name}.json"
        # The library writes keys to files and forgets them when its process is killed: they lie where the lab's go.
        keys = folders.run / "keys"
        keys.mkdir(mode=0o700, parents=True, exist_ok=True)
        settings = Configuration()
        config.load_kube_config(str(kubeconfig), client_configuration=settings, temp_file_path=str(keys))  # type: ignore[no-untyped-call]
        self._http = ApiClient(settings)
        self._client = DynamicClient(self._http, cache_file=str(cache))  # type: ignore[no-untyped-call]

    def send(self, manifest: Manifest, **more: Any) -> Manifest:
        """Apply one object server-side under our field manager and return what the server made of it."""
        answer: Manifest = self._client.server_side_apply(  # type: ignore[no-untyped-call]
            self._client.resources.get(api_version=manifest["apiVersion"], kind=manifest["kind"]),
            body=manifest,
            name=manifest["metadata"]["name"],
            namespace=manifest["metadata"].get("namespace"),
            field_manager=FIELD_MANAGER,
            force_conflicts=True,
            _request_timeout=_CALL_SECONDS,
            **more,
        ).to_dict()
        return answer

    def get(self, key: Key) -> Manifest | None:
        """Return an object, or None where it, or even its kind, is not there."""
        try:
            resource = self._client.resources.get(api_version=key.api, kind=key.kind)
            found: Manifest = self._client.get(  # type: ignore[no-untyped-call]
                resource, name=key.name, namespace=key.namespace or None, _request_timeout=_CALL_SECONDS
            ).to_dict()
        except ResourceNotFoundError:
            return None
        except DynamicApiError as error:
            if error.status == 404:
                return None
            raise
        return found

    def list(self, api: str, kind: str, namespace: str, labels: Mapping[str, str], fields: str = "") -> list[Manifest]:
        """Return the objects of a namespace that carry all of `labels` and fit a field selector."""
        found: Manifest = self._client.get(  # type: ignore[no-untyped-call]
            self._client.resources.get(api_version=api, kind=kind),
            namespace=namespace,
            label_selector=",".join(f"{name}={value}" for name, value in labels.items()) or None,
            field_selector=fields or None,
            _request_timeout=_CALL_SECONDS,
        ).to_dict()
        return list(found["items"])

    def log(self, namespace: str, pod: str, container: str, *, previous: bool, lines: int) -> str:
        """Return the last lines of a container's log, or of the one before it; empty where there is none."""
        try:
            said = CoreV1Api(self._http).read_namespaced_pod_log(
                pod, namespace, container=container, previous=previous, tail_lines=lines, _request_timeout=_CALL_SECONDS
            )
        except ApiException as error:
            if error.status in {400, 404}:  # it has not started, or is gone
                return ""
            raise
        return str(said or "")

    def ask(self, namespace: str, service: str, path: str) -> Any:
        """Get a path of ``service:port`` by way of the API server and return the JSON that it answers with."""
        answer: Any = CoreV1Api(self._http).connect_get_namespaced_service_proxy_with_path(
            service, namespace, path, _preload_content=False, _request_timeout=_CALL_SECONDS
        )
        return json.loads(answer.data)

    def delete(self, key: Key, owner: str) -> bool:
        """Ask for the deletion of an object, dependents first; return whether it was there and is `owner`'s."""
        live = self.get(key)
        if live is None or owner_of(live) != owner:
            return False
        resource = self._client.resources.get(api_version=key.api, kind=key.kind)
        body = {"propagationPolicy": "Foreground", "preconditions": {"uid": live["metadata"]["uid"]}}
        try:
            self._client.delete(  # type: ignore[no-untyped-call]
                resource, name=key.name, namespace=key.namespace or None, body=body, _request_timeout=_CALL_SECONDS
            )
        except DynamicApiError as error:
            if error.status != 404:
                raise
        return True


def translating(subject: str, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call `function`; the client library's errors become this project's, about `subject`.

    Raises
    ------
    FatalError
        If the API refuses.
    RetriableError
        If it does not answer, or says that it may answer otherwise later.
    """
    try:
        return function(*args, **kwargs)
    except ResourceNotFoundError as error:
        raise FatalError(subject, str(error), "a kind that the API serves", "apply its definition first") from error
    except ApiException as error:
        kind = RetriableError if error.status in _PASSING else FatalError
        raise kind(subject, f"{error.status} {message(error)}") from error
    except (HTTPError, OSError) as error:
        raise RetriableError(subject, str(error), "an answer of its API", "see dpp lab status") from error


def message(error: ApiException) -> str:
    """Return what the API said of an error."""
    try:
        return str(json.loads(error.body or "")["message"])
    except (TypeError, ValueError, KeyError):
        return str(error.reason)
