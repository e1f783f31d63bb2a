"""What a raw file's primary header and sidecar say. TIMESYS is TAI; null where a value is not known."""

from __future__ import annotations

import json
import math
from typing import Any

from workloads.common.names import INSTRUMENT
from workloads.common.times import iso, mjd
from workloads.common.visit import EndReadout

Cards = dict[str, tuple[Any, str]]

_SITE: Cards = {
    "FACILITY": ("Vera C. Rubin Observatory", "facility"),
    "TELESCOP": ("Simonyi Survey Telescope", "telescope"),
    "INSTRUME": (INSTRUMENT, "instrument"),
    "OBS-LONG": (-70.749417, "[deg] longitude, east positive"),
    "OBS-LAT": (-30.244639, "[deg] latitude"),
    "OBS-ELEV": (2663.0, "[m] elevation"),
    "OBSGEO-X": (1818938.94, "[m] geocentric"),
    "OBSGEO-Y": (-5208470.95, "[m] geocentric"),
    "OBSGEO-Z": (-3195172.08, "[m] geocentric"),
}


_IDENTITY = ("OBSID", "DAYOBS", "SEQNUM", "EXPID", "CONTRLLR", "RAFTBAY", "CCDSLOT", "TIMESYS", "ENDREAD")
"""What makes a file the one that its name says; the camera's own values, where they differ, go by another keyword."""


def primary_cards(event: EndReadout, detector: str, camera: Cards) -> Cards:
    """Return the keywords of one detector's file.

    Parameters
    ----------
    event
        The end of its readout.
    detector
        Rnn_Snn.
    camera
        What camera and telescope add: pointing, exposure time, number of the detector. What they say otherwise than the
        event wins, but for the file's identity and what is not known; it stays as ``CAMERA`` and the keyword.
    """
    raft, _, slot = detector.partition("_")
    begin, end = event.timestampAcquisitionStart, event.timestampAcquisitionStart + event.requestedExposureTime
    extra = event.additional
    name = event.exposure
    own: Cards = {
        "OBSID": (event.imageName, "observation id"),
        "GROUPID": (extra.get("groupId"), "group of the visit"),
        "IMGTYPE": (extra.get("imageType", "OBJECT"), "type of image"),
        "DAYOBS": (str(name.day_obs), "observing day, UTC-12"),
        "SEQNUM": (name.seq_num, "number in the day"),
        "EXPID": (name.exposure_id, "number of the exposure"),
        "CONTRLLR": (name.controller, "what triggered the exposure"),
        "CURINDEX": (event.imageIndex, "index in the sequence, from 1"),
        "MAXINDEX": (event.imagesInSequence, "images of the sequence"),
        "RAFTBAY": (raft, "raft"),
        "CCDSLOT": (slot, "sensor in the raft"),
        "FILTER": (extra.get("filter"), "filter"),
        "EXPTIME": (event.requestedExposureTime, "[s]"),
        "TIMESYS": ("TAI", "time scale of all dates"),
        **_dates(event.timestampEndOfReadout, begin, end),
    }
    asked = {
        keyword: entry
        for keyword, entry in camera.items()
        if keyword in own and (keyword in _IDENTITY or not _is_known(entry[0])) and entry[0] != own[keyword][0]
    }
    kept = {keyword: entry for keyword, entry in camera.items() if keyword not in asked and keyword not in _IDENTITY}
    return {**_SITE, **own, **kept, **{f"CAMERA {keyword}": entry for keyword, entry in asked.items()}}


def _dates(read: float, begin: float, end: float) -> Cards:
    """Return the keywords of times; one that is no time of a calendar is not known."""
    cards: Cards = {"ENDREAD": (read, "[s] end of readout, Unix-like TAI")}
    for keywords, seconds, what in (
        (("DATE", "MJD"), read, "end of readout"),
        (("DATE-OBS", "MJD-OBS"), begin, "begin of the exposure"),
        (("DATE-BEG", "MJD-BEG"), begin, "begin of the exposure"),
        (("DATE-END", "MJD-END"), end, "end of the exposure"),
    ):
        try:
            cards[keywords[0]] = iso(seconds), what
        except (ValueError, OverflowError, OSError):
            cards[keywords[0]] = None, what
        cards[keywords[1]] = mjd(seconds), f"[d] {what}"
    return cards


def sidecar(cards: Cards) -> bytes:
    """Return the JSON sidecar: every keyword of the primary header with its value, null where that is no number."""
    values = {name: _json(value) for name, (value, _) in cards.items()}
    return json.dumps(values, indent=1, allow_nan=False).encode()


def _is_known(value: Any) -> bool:
    return value is not None and not (isinstance(value, float) and not math.isfinite(value))


def _json(value: Any) -> Any:
    """Return a value without what JSON has no word for."""
    if isinstance(value, dict):
        return {str(name): _json(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_json(inner) for inner in value]
    return value if _is_known(value) else None
