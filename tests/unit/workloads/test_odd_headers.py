"""Whatever a camera says beside its pixels, they are stored, and the file names what it could not hold."""

from __future__ import annotations

import io
import json
import math
import warnings
from pathlib import Path
from typing import Any

import fitsio
import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st

from workloads.archiver.header import primary_cards, sidecar
from workloads.archiver.images import journal_detector, journal_expected
from workloads.archiver.journal import Journal
from workloads.camera.daq import ImageBuffer
from workloads.camera.frames import Frame
from workloads.common.errors import NonRetriableError, RetriableError
from workloads.common.raw import decode_raw, encode_raw
from workloads.common.visit import EndReadout
from workloads.pixels import fits_io, simulator
from workloads.pixels.fits_fitting import fitted

CAMERA = simulator.Camera(1, 1, 256)
LAYOUT = CAMERA.layout(0)
PIXELS = simulator.flat_frame(CAMERA, 0, 1)
DETECTOR = LAYOUT.name
PLACE = {"RAFTBAY": (DETECTOR[:3], ""), "CCDSLOT": (DETECTOR[4:], ""), "DETNUM": (LAYOUT.detector, "")}


def stored(cards):
    """Return the header of a raw file with these keywords, as a stock reader finds it; its pixels are right."""
    data = encode_raw(PIXELS, LAYOUT, PLACE | cards)
    pixels, _, header = decode_raw(data)
    assert np.array_equal(pixels, PIXELS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with fits.open(io.BytesIO(data), checksum=True) as hdus:
            assert np.array_equal(np.stack([hdu.data for hdu in hdus[1:]]), PIXELS)
            found = hdus[0].header.copy()
    assert repr(found) == repr(header)
    return found


def test_the_cards_of_a_bad_night():
    found = stored(
        {
            "AIRMASS": (float("nan"), "airmass"),
            "SEEING": (float("inf"), "[arcsec]"),
            "OBJECT": ("\N{GREEK SMALL LETTER ETA} Carinae\n", "target"),
            "STUTTER ROWS": (3, "rows"),
            "AUTOGUIDER_MODE_OF_THE_NIGHT": ("slow, from the west", "mode"),
            "TEMP": (-100.5, "[\N{DEGREE SIGN}C]"),
        }
    )
    assert found["AIRMASS"] is None
    assert found["SEEING"] is None
    assert found["OBJECT"] == r"\u03b7 Carinae\n"
    assert found["OBJECT"].encode().decode("unicode_escape") == "\N{GREEK SMALL LETTER ETA} Carinae\n"
    assert found["STUTTER ROWS"] == 3
    assert found["AUTOGUIDER_MODE_OF_THE_NIGHT"] == "slow, from the west"
    assert found["TEMP"] == -100.5
    assert found["LEFTOUT"] == "AIRMASS = nan (no number); SEEING = inf (no number)"
    assert found["ESCAPED"] == "OBJECT"


@pytest.mark.parametrize(
    ("keyword", "value", "said"),
    [
        ("NAXIS", 2, "NAXIS = 2 (describes the file itself)"),
        ("ZIMAGE", True, "ZIMAGE = True (describes the file itself)"),
        ("CHECKSUM", "x", "CHECKSUM = x (describes the file itself)"),
        ("END", "now", "END = now (describes the file itself)"),
        ("SHUTTER", [1, 2], "SHUTTER = [1, 2] (a list)"),
        ("SHUTTER", {"open": 1}, "SHUTTER = {'open': 1} (a dict)"),
        ("COUNT", 10**90, "(91 digits)"),
        ("A=B", 1, "A=B = 1 (characters that FITS does not know)"),
        ("\N{GREEK SMALL LETTER ETA}", 1, r"\u03b7 = 1"),
        ("", 1, " = 1 (a word of the header's own)"),
        ("X" * 60, 1, "(characters that FITS does not know)"),
    ],
)
def test_what_fits_has_no_form_for_is_named(keyword, value, said):
    found = stored({keyword: (value, "")})
    assert said in found["LEFTOUT"]


def test_a_keyword_given_twice_keeps_its_first_value():
    found = stored({"Filter": ("r", ""), "FILTER": ("g", "")})
    assert found["FILTER"] == "r"
    assert "FILTER = g (given twice)" in found["LEFTOUT"]


def test_texts_of_any_length_and_quotes_come_back():
    text = "it's " * 60
    found = stored({"NOTE": (text, ""), "A KEYWORD OF MORE WORDS": (text, ""), "TRAP": ("CHECKSUM= 'abc", "")})
    assert found["NOTE"] == found["A KEYWORD OF MORE WORDS"] == text.rstrip()
    assert found["TRAP"] == "CHECKSUM= 'abc"
    assert "LEFTOUT" not in found


ANY = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=200), st.lists(st.integers(), max_size=2)
)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.text(max_size=60), st.tuples(ANY, st.text(max_size=80)), max_size=5))
def test_nothing_about_a_header_keeps_pixels_from_being_written(cards):
    made = fitted(cards)
    data = bytes(fits_io.encode(made.cards, [fits_io.Extension("C00", PIXELS[0])]))
    assert (fits_io.decode(data)[1].data == PIXELS[0]).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with fits.open(io.BytesIO(data), checksum=True) as hdus:
            found = hdus[0].header
            for keyword, (value, _) in made.cards.items():
                if keyword not in {"COMMENT", "HISTORY"}:
                    back = found[keyword]
                    wanted = value.rstrip() if isinstance(value, str) else value
                    assert back == wanted


def test_the_library_of_others_reads_long_words(tmp_path):
    path = tmp_path / "a.fits"
    path.write_bytes(fits_io.encode(fitted({"STUTTER ROWS": 3, "A LONG KEYWORD": "x" * 100}).cards, []))
    header = fitsio.read_header(str(path))
    assert header["STUTTER ROWS"] == 3
    assert header["A LONG KEYWORD"] == "x" * 100


# -- the archiver ------------------------------------------------------------------------------------------------------


class Camera:
    """A camera's memory without the network between."""

    off = frozenset()

    def __init__(self, cards, sensors=(DETECTOR,), **facts):
        self.buffer, self.facts, self.released = ImageBuffer(), facts, []
        for sensor in sensors:
            self.buffer.store("MC_O_20261122_000001", Frame(sensor, PIXELS, LAYOUT, cards))

    def describe(self, obs_id):
        described = json.loads(json.dumps(self.buffer.describe(obs_id)))
        return {sensor: facts | self.facts for sensor, facts in described.items()}

    def pixels(self, obs_id, detector, _facts):
        return self.buffer.data(obs_id, detector)[0]

    def release(self, obs_id, detector):
        self.released.append(detector)
        self.buffer.release(obs_id, detector)


def event(**changes):
    content = {
        "imageName": "MC_O_20261122_000001", "imageController": "O", "imageDate": "20261122", "imageNumber": 1,
        "requestedExposureTime": 30.0, "timestampAcquisitionStart": 1.8e9, "timestampEndOfReadout": 1.8e9 + 32,
        "additionalKeys": "groupId:sensors", "additionalValues": f"g1:{DETECTOR}",
    }  # fmt: skip
    return EndReadout(**(content | changes))


def archived(tmp_path, camera, readout):
    journal = Journal(tmp_path)
    for sensor in journal_expected(journal, camera, readout):
        journal_detector(journal, camera, readout, sensor)
    assert sorted(camera.released) == sorted(set(camera.released))
    return {
        entry.key.removeprefix(readout.exposure.prefix + readout.imageName + "_"): data
        for entry, data in journal.pending()
    }


ODD = {
    "AIRMASS": (float("nan"), "airmass"),
    "NESTED": ([float("inf"), {"a": float("nan")}], "sensors"),
    "OBSID": ("MC_O_20261122_000099", "the camera's own opinion"),
    "MJD-BEG": (float("nan"), "clock lost"),
    "DETNUM": (94, "number"),
}


def test_odd_cards_cost_no_pixels_and_the_sidecar_is_json(tmp_path):
    files = archived(tmp_path, Camera(ODD), event())
    assert set(files) == {"expectedSensors.json", f"{DETECTOR}.json", f"{DETECTOR}.fits"}
    pixels, _, header = decode_raw(files[f"{DETECTOR}.fits"])
    assert np.array_equal(pixels, PIXELS)
    assert header["OBSID"] == "MC_O_20261122_000001", "a file is what its name says"
    assert header["CAMERA OBSID"] == "MC_O_20261122_000099"
    assert header["MJD-BEG"] == header["MJD-OBS"], "what the camera does not know stands in the event"
    assert "AIRMASS = nan" in header["LEFTOUT"]

    def refuse(constant):
        raise AssertionError(constant)

    beside = json.loads(files[f"{DETECTOR}.json"], parse_constant=refuse)
    assert beside["AIRMASS"] is None
    assert beside["NESTED"] == [None, {"a": None}]
    assert beside["GROUPID"] == "g1"


def _no_constant(constant: str) -> None:
    raise AssertionError(constant)


@pytest.mark.parametrize(
    "cards",
    [
        {"AIRMASS": (float("-inf"), "airmass"), "SEEING": (float("nan"), "[arcsec]")},
        {"OBJECT": ("\N{GREEK SMALL LETTER ETA}\n", "target")},
        {"OBJECT": ("\N{MICRO SIGN} Cephei\r\n", "target")},
        {"OBSERVER": ("a\ttab and a zero\0", "name")},
        {"STUTTER ROWS": (3, "rows")},
        {"STUTTER DELAY OF ROWS": (0.5, "[s]")},
        {"AUTOGUIDER_MODE_OF_THE_NIGHT": ("slow,\nfrom the west", "mode")},
    ],
)
def test_each_odd_card_by_itself_is_archived_and_named(tmp_path: Path, cards: dict[str, Any]) -> None:
    files = archived(tmp_path, Camera({"DETNUM": (94, "number")} | cards), event())
    pixels, _, header = decode_raw(files[f"{DETECTOR}.fits"])
    assert np.array_equal(pixels, PIXELS)
    assert json.loads(files[f"{DETECTOR}.json"], parse_constant=_no_constant).keys() >= cards.keys()
    for keyword, (value, _) in cards.items():
        if isinstance(value, str):
            assert header[keyword].encode().decode("unicode_escape") == value
            assert keyword in header["ESCAPED"]
        elif math.isfinite(value):
            assert header[keyword] == value
        else:
            assert header[keyword] is None
            assert f"{keyword} = {value} (no number)" in header["LEFTOUT"]


def test_keywords_in_any_shape_are_taken(tmp_path):
    cards = {"DETNUM": [94, ""], "BARE": 3, "THREE": [1, 2, 3], "TEXT": "ab", "NOTHING": None}
    camera = Camera({})
    described = camera.describe("MC_O_20261122_000001")[DETECTOR]
    camera.describe = lambda _: {DETECTOR: described | {"cards": cards}}
    header = decode_raw(archived(tmp_path, camera, event())[f"{DETECTOR}.fits"])[2]
    assert (header["BARE"], header["TEXT"], header["THREE"], header["NOTHING"]) == (3, "ab", None, None)
    assert header["LEFTOUT"] == "THREE = [1, 2, 3] (a list)"


@pytest.mark.parametrize("cards", [None, [], "none", 7])
def test_a_camera_without_keywords_has_pixels_all_the_same(tmp_path, cards):
    camera = Camera({})
    described = camera.describe("MC_O_20261122_000001")[DETECTOR]
    camera.describe = lambda _: {DETECTOR: described | {"cards": cards}}
    hdus = fits_io.decode(archived(tmp_path, camera, event())[f"{DETECTOR}.fits"])
    assert np.array_equal(np.stack([hdu.data for hdu in hdus[1:]]), PIXELS)


@pytest.mark.parametrize("layout", [{}, {"amplifiers": []}, {"name": "R22_S00"}, None])
def test_pixels_without_a_layout_are_stored_as_pixels_alone(tmp_path, layout):
    files = archived(tmp_path, Camera(ODD, layout=layout), event())
    hdus = fits_io.decode(files[f"{DETECTOR}.fits"])
    assert np.array_equal(np.stack([hdu.data for hdu in hdus[1:]]), PIXELS)
    assert hdus[0].cards["NOLAYOUT"]
    with pytest.raises(NonRetriableError, match="header without"):
        decode_raw(files[f"{DETECTOR}.fits"])


@pytest.mark.parametrize("shape", [None, "wide", [7], [-1], [1, 1, 1], [[2]], {}])
def test_pixels_without_a_shape_are_stored_as_they_come(tmp_path, shape):
    files = archived(tmp_path, Camera(ODD, shape=shape), event())
    primary, *frames = fits_io.decode(files[f"{DETECTOR}.fits"])
    assert np.array_equal(np.concatenate([frame.data.ravel() for frame in frames]), PIXELS.ravel())
    assert "shape" in primary.cards["NOLAYOUT"]


@pytest.mark.parametrize("facts", [None, 7, "R22_S11", {}])
def test_pixels_of_which_the_camera_says_nothing_are_stored_as_they_come(tmp_path, facts):
    camera = Camera({})
    camera.describe = lambda _: {DETECTOR: facts}
    camera.pixels = lambda *_: b"\1\0\2\0\3"  # half a pixel at the end
    files = archived(tmp_path, camera, event())
    assert fits_io.decode(files[f"{DETECTOR}.fits"])[1].data.tolist() == [[1, 2, 3]]
    assert json.loads(files[f"{DETECTOR}.json"])["PIXSHA"]


@pytest.mark.parametrize(
    ("keys", "values"),
    [("groupId:sensors", f"2026-11-22T03:04:05.1#1:{DETECTOR}"), ("groupId", "g1"), ("", ""), ("a:b:c", "d")],
)
def test_sensors_that_the_event_does_not_name_are_asked_of_the_camera(tmp_path, keys, values):
    files = archived(tmp_path, Camera(ODD), event(additionalKeys=keys, additionalValues=values))
    assert f"{DETECTOR}.fits" in files


def test_pixels_that_nobody_named_are_archived_and_the_list_says_what_they_are(tmp_path):
    files = archived(tmp_path, Camera(ODD, (DETECTOR, "R00_SG0", "R00_SW1")), event())
    assert {"R00_SG0.fits", "R00_SW1.fits", f"{DETECTOR}.fits"} < set(files)
    said = json.loads(files["expectedSensors.json"])["expectedSensors"]
    assert said == {DETECTOR: "SCIENCE", "R00_SG0": "GUIDER", "R00_SW1": "WAVEFRONT"}


def test_a_camera_that_is_away_is_no_reason_to_forget_what_the_event_names(tmp_path):
    camera = Camera({}, ())

    def away(_):
        raise RetriableError("away")

    camera.describe = away
    assert journal_expected(Journal(tmp_path / "a"), camera, event()) == [DETECTOR]
    with pytest.raises(RetriableError):
        journal_expected(Journal(tmp_path / "b"), camera, event(additionalKeys="", additionalValues=""))


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), -1e30, 1e18])
def test_times_of_no_calendar_are_not_known(seconds):
    cards = primary_cards(event(timestampAcquisitionStart=seconds), DETECTOR, {})
    assert cards["DATE-OBS"][0] is None
    assert json.loads(sidecar(cards))["DATE-BEG"] is None
    assert np.array_equal(decode_raw(encode_raw(PIXELS, LAYOUT, PLACE | cards))[0], PIXELS)
