"""What a raw file's primary header and sidecar say. TIMESYS is TAI; null where a value is not known."""

from __future__ import annotations

import json
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


def primary_cards(event: EndReadout, detector: str, camera: Cards) -> Cards:
    """Return the keywords of one detector's file.

    Parameters
    ----------
    event
        The end of its readout.
    detector
        Rnn_Snn.
    camera
        What camera and telescope add: pointing, exposure time, number of the detector.
    """
    raft, slot = detector.split("_")
    begin, end = event.timestampAcquisitionStart, event.timestampAcquisitionStart + event.requestedExposureTime
    extra = event.additional
    name = event.exposure
    own: Cards = {
        "OBSID": (event.imageName, "observation id"),
        "GROUPID": (extra.get("groupId"), "group of the visit"),
        "IMGTYPE": (extra.get("imageType", "OBJECT"), "type of image"),
        "DAYOBS": (event.imageDate, "observing day, UTC-12"),
        "SEQNUM": (event.imageNumber, "number in the day"),
        "EXPID": (name.exposure_id, "number of the exposure"),
        "CONTRLLR": (event.imageController, "what triggered the exposure"),
        "CURINDEX": (event.imageIndex, "index in the sequence, from 1"),
        "MAXINDEX": (event.imagesInSequence, "images of the sequence"),
        "RAFTBAY": (raft, "raft"),
        "CCDSLOT": (slot, "sensor in the raft"),
        "FILTER": (extra.get("filter", "r"), "filter"),
        "TIMESYS": ("TAI", "time scale of all dates"),
        "DATE": (iso(event.timestampEndOfReadout), "end of readout"),
        "DATE-OBS": (iso(begin), "begin of the exposure"),
        "DATE-BEG": (iso(begin), "begin of the exposure"),
        "DATE-END": (iso(end), "end of the exposure"),
        "MJD": (mjd(event.timestampEndOfReadout), "[d] end of readout"),
        "MJD-OBS": (mjd(begin), "[d] begin of the exposure"),
        "MJD-BEG": (mjd(begin), "[d] begin of the exposure"),
        "MJD-END": (mjd(end), "[d] end of the exposure"),
        "ENDREAD": (event.timestampEndOfReadout, "[s] end of readout, Unix-like TAI"),
    }
    return {**_SITE, **own, **camera}


def sidecar(cards: Cards) -> bytes:
    """Return the JSON sidecar: every keyword of the primary header with its value."""
    return json.dumps({name: value for name, (value, _) in cards.items()}, indent=1).encode()
