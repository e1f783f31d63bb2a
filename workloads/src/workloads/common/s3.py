"""Object stores: puts and gets whose SHA-256 is checked, over TLS."""

from __future__ import annotations

import base64
import hashlib
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, IncompleteReadError
from botocore.exceptions import ConnectionError as UnreachableError
from botocore.httpsession import URLLib3Session

from workloads.common.errors import AwayError, NonRetriableError, RetriableError
from workloads.common.settings import Settings, Verb

_MISSING = {"404", "NoSuchKey", "NotFound"}
_TRANSIENT = {"500", "502", "503", "504", "SlowDown", "InternalError", "ServiceUnavailable", "RequestTimeout"}
AWAY = (UnreachableError, HTTPClientError, IncompleteReadError)
"""What clients of a store raise where it is gone, ends, or starts."""

_CONNECT_SECONDS, _READ_SECONDS, _CONNECTIONS = 5, 30, 16


def _marking_session(dscp: int, verify: str | None, connections: int) -> Any:
    """Return what sends requests with marked packets: the client's configuration has no word for socket options."""
    options = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1), (socket.IPPROTO_IP, socket.IP_TOS, dscp << 2)]
    return URLLib3Session(
        verify=verify or True,
        timeout=(_CONNECT_SECONDS, _READ_SECONDS),
        max_pool_connections=connections,
        socket_options=options,
    )


def sha256(data: bytes) -> str:
    """Return the SHA-256 digest, hexadecimal."""
    return hashlib.sha256(data).hexdigest()


@dataclass(frozen=True)
class Item:
    """An object as a listing shows it; `size` in bytes, `modified` in Unix seconds."""

    key: str
    size: int
    modified: float


class Store:
    """The object store of one site.

    Parameters
    ----------
    settings
        Where it is and the key to it.
    site
        Whose store.
    bucket, more
        Which of its buckets are used; `ContractError` where the contract does not name one of them.
    dscp
        Mark of all that is sent to it (RFC 2474, 0 to 63), by which routers know its class; 0 leaves that to them.
    connections
        How many are kept open: as many as threads use it at once. What goes beyond is opened and closed for each request,
        which over a long way costs several round trips.
    """

    def __init__(
        self, settings: Settings, site: str, bucket: str, *more: str, dscp: int = 0, connections: int = _CONNECTIONS
    ) -> None:
        for one in (bucket, *more):
            settings.require_bucket(one, site)
        self.site, self._settings = site, settings
        endpoint = settings.site.object_stores[site].endpoint
        verify = str(settings.authority) if endpoint.startswith("https") else None
        self._client: Any = boto3.client(
            "s3",
            endpoint_url=endpoint,
            region_name="us-east-1",
            aws_access_key_id=settings.site.principal,
            aws_secret_access_key=settings.secret(f"s3-{site}"),
            verify=verify,
            config=Config(
                connect_timeout=_CONNECT_SECONDS,
                read_timeout=_READ_SECONDS,
                retries={"max_attempts": 2},
                max_pool_connections=connections,
                s3={"addressing_style": "path"},
            ),
        )
        if dscp:
            marked = _marking_session(dscp, verify, connections)
            self._client.meta.events.register("before-send.s3", lambda request, **_: marked.send(request))

    def put(self, bucket: str, key: str, data: bytes, digest: str = "") -> str:
        """Store `data`; the server checks the SHA-256 that is sent along. Return the digest, hexadecimal."""
        self._require(bucket, "write", key)
        digest = digest or sha256(data)
        checksum = base64.b64encode(bytes.fromhex(digest)).decode()
        with self._errors(bucket, key):
            self._client.put_object(
                Bucket=bucket, Key=key, Body=data, ChecksumSHA256=checksum, Metadata={"sha256": digest}
            )
        return digest

    def get(self, bucket: str, key: str) -> bytes:
        """Return the bytes of an object; errors as of `read`."""
        return self.read(bucket, key)[0]

    def read(self, bucket: str, key: str) -> tuple[bytes, str]:
        """Return the bytes of an object and the digest that they have.

        Raises
        ------
        NonRetriableError
            If there is none, or its bytes do not have the digest it was stored with.
        """
        self._require(bucket, "read", key)
        with self._errors(bucket, key):
            response = self._client.get_object(Bucket=bucket, Key=key)
            data = bytes(response["Body"].read())
        stored, found = response.get("Metadata", {}).get("sha256", ""), sha256(data)
        if stored and stored != found:
            raise NonRetriableError(f"{self.site}:{bucket}/{key}: digest {found} of what was read, expected {stored}")
        return data, found

    def digest(self, bucket: str, key: str) -> str | None:
        """Return the digest that an object was stored with; None if there is no such object."""
        self._require(bucket, "read", key)
        try:
            with self._errors(bucket, key):
                response = self._client.head_object(Bucket=bucket, Key=key)
        except MissingObjectError:
            return None
        return str(response.get("Metadata", {}).get("sha256", ""))

    def list(self, bucket: str, prefix: str = "") -> Iterator[Item]:
        """Yield the objects whose key begins with `prefix`."""
        self._require(bucket, "list")
        with self._errors(bucket, prefix):
            for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
                yield from map(_item, page.get("Contents", []))

    def folders(self, bucket: str, prefix: str) -> Iterator[str]:
        """Yield the folders directly below `prefix`, which ends with a slash; so do they."""
        for page in self._level(bucket, prefix):
            for entry in page.get("CommonPrefixes", []):
                yield str(entry["Prefix"])

    def directly(self, bucket: str, prefix: str) -> Iterator[Item]:
        """Yield the objects directly below `prefix`, which ends with a slash, and none of what is in folders there."""
        for page in self._level(bucket, prefix):
            yield from map(_item, page.get("Contents", []))

    def _level(self, bucket: str, prefix: str) -> Iterator[Any]:
        self._require(bucket, "list")
        with self._errors(bucket, prefix):
            yield from self._client.get_paginator("list_objects_v2").paginate(
                Bucket=bucket, Prefix=prefix, Delimiter="/"
            )

    def move_unchecked(self, bucket: str, key: str, target: str) -> str:
        """Move an object inside a bucket as it is, even if its bytes do not have their digest; return the one they have."""
        self._require(bucket, "write", target)
        self._require(bucket, "delete", key)
        with self._errors(bucket, key):
            data = bytes(self._client.get_object(Bucket=bucket, Key=key)["Body"].read())
            self._client.put_object(Bucket=bucket, Key=target, Body=data)
            self._client.delete_object(Bucket=bucket, Key=key)
        return sha256(data)

    def delete(self, bucket: str, key: str) -> None:
        """Delete an object; that there is none is no error."""
        self._require(bucket, "delete", key)
        with self._errors(bucket, key):
            self._client.delete_object(Bucket=bucket, Key=key)

    def _require(self, bucket: str, verb: Verb, key: str | None = None) -> None:
        self._settings.require_bucket(bucket, self.site, verb, key)

    def _errors(self, bucket: str, key: str) -> _Translate:
        return _Translate(f"{self.site}:{bucket}/{key}")


def _item(entry: Mapping[str, Any]) -> Item:
    return Item(entry["Key"], int(entry["Size"]), entry["LastModified"].timestamp())


class MissingObjectError(NonRetriableError):
    """There is no object of that key."""


class _Translate:
    """Turn the client library's exceptions into ours."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        return None

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, ClientError):
            code = str(error.response.get("Error", {}).get("Code", ""))
            if code in _MISSING:
                raise MissingObjectError(f"{self._what}: no such object") from error
            kind = RetriableError if code in _TRANSIENT else NonRetriableError
            raise kind(f"{self._what}: {error}") from error
        if isinstance(error, BotoCoreError):
            raise (AwayError if isinstance(error, AWAY) else RetriableError)(f"{self._what}: {error}") from error
