"""Deletions that last: who deletes an object leaves a record in its store, which everybody honours who would bring it back.

A record is about one site's copy, and about the bytes that stood there: others that come later under the same name are none
of its business. It is written before the object goes, so that a deletion that was cut short is only to be repeated.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

from workloads.common.errors import NonRetriableError
from workloads.common.s3 import MissingObjectError, Store
from workloads.common.times import iso, tai_now

LOG = logging.getLogger(__name__)
PREFIX = "deleted/"


def record_key(key: str) -> str:
    """Return where the record of an object's deletion stands."""
    return f"{PREFIX}{key}.json"


def delete(store: Store, bucket: str, key: str, reason: str) -> None:
    """Delete an object for good: the record first, with its digest and the reason."""
    record = {"key": key, "sha256": store.digest(bucket, key) or "", "reason": reason, "time": iso(tai_now())}
    store.put(bucket, record_key(key), json.dumps(record, indent=1).encode())
    store.delete(bucket, key)


def deleted_keys(store: Store, bucket: str, folder: str) -> Iterator[str]:
    """Yield the keys of all objects that were deleted in a folder of a store, whose name ends with a slash."""
    for item in store.list(bucket, f"{PREFIX}{folder}"):
        yield item.key.removeprefix(PREFIX).removesuffix(".json")


def why_deleted(store: Store, bucket: str, key: str, digest: str = "") -> str:
    """Return why an object was deleted at a site; empty if it was not, or if these are not the bytes that were.

    Parameters
    ----------
    digest
        That of the bytes that somebody would bring back; empty where it is not known.
    """
    try:
        data = store.get(bucket, record_key(key))
    except MissingObjectError:
        return ""
    except NonRetriableError as error:  # to bring something back too often costs less than to lose it
        LOG.error("%s: taken as not deleted: %s", key, error)  # noqa: TRY400 - the text says it all
        return ""
    try:
        record: Any = json.loads(data)
        said, gone = str(record["reason"]), str(record["sha256"])
    except (ValueError, KeyError, TypeError) as error:
        return f"deleted at {store.site}, its record cannot be read: {error}"
    return "" if digest and gone and digest != gone else f"deleted at {store.site}: {said}"
