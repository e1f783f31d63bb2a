"""What the object store says has arrived."""

from __future__ import annotations

import json
from dataclasses import dataclass
from urllib.parse import unquote_plus

from workloads.common.errors import NonRetriableError
from workloads.common.names import INSTRUMENT, RawName


@dataclass(frozen=True)
class Arrival:
    """One raw file that is said to stand in the store; `noticed` is how we know: ``notification`` or ``sweep``."""

    name: RawName
    time: float
    noticed: str

    @property
    def key(self) -> str:
        """The object key."""
        return self.name.key


def parse_notification(value: bytes, bucket: str) -> list[str]:
    """Return the keys of the camera's files in one bucket notification.

    What lies beside images, other objects and test events give none.

    Raises
    ------
    NonRetriableError
        If the message is no notification at all.
    """
    try:
        content = json.loads(value)
        records = content.get("Records", [])
        created = [record["s3"] for record in records if "ObjectCreated" in record["eventName"]]
        keys = [unquote_plus(item["object"]["key"]) for item in created if item["bucket"]["name"] == bucket]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise NonRetriableError(f"bucket notification {value[:80]!r}: not understood: {error}") from error
    return [key for key in keys if key.startswith(f"{INSTRUMENT}/") and not key.endswith(".json")]
