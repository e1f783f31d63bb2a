"""What stands in the records of topics that the camera stands in for, before their own fields."""

from __future__ import annotations

import os

from workloads.common.times import tai_to_utc


def sal_header(index: int, number: int, identity: str, now: float) -> dict[str, object]:
    """Return the private fields of a SAL record; `now` is TAI seconds."""
    return {
        "salIndex": index,
        "private_sndStamp": now,
        "private_efdStamp": tai_to_utc(now),
        "private_kafkaStamp": now,
        "private_rcvStamp": 0.0,
        "private_seqNum": number,
        "private_origin": os.getpid(),
        "private_revCode": "1",
        "private_identity": identity,
    }
