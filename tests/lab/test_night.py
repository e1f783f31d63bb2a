"""A night on the standing observatory, from announced visit to alerts at an independent consumer, and what it must reach."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.observatory import Observatory

VISITS, INTERVAL, DETECTORS, TRANSIENTS = 3, 25, 9, 250
SEED = 1353374132
"""One night for all runs, so that what fails can be repeated; outside the tests every night is another one."""
SITES = {"summit": "st01.summit", "base": "svc01.base", "ncsa": "svc01.ncsa"}
OBJECTS = "/srv/object-store/data"


def _read(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return content


def _missed(report: dict[str, Any]) -> set[str]:
    """Return the requirements that are not met, of those that are counted: a clock judges in `test_clock.py`."""
    return {one["title"] for one in report["requirements"] if one["judged_by"] == "count" and not one["met"]}


def _sent_as_prompt_images(observatory: Observatory) -> int:
    """Bytes that the summit's router has sent in the class of images on their way to prompt processing."""
    listed = observatory.on("rt01.summit", "nft -j list chain inet dpp_router marking")
    rules = [one["rule"] for one in json.loads(listed)["nftables"] if "rule" in one]
    (rule,) = (one for one in rules if one.get("comment") == "prompt-images")
    return next(int(part["counter"]["bytes"]) for part in rule["expr"] if "counter" in part)


@pytest.fixture(scope="module")
def sent_before(observatory: Observatory) -> int:
    return _sent_as_prompt_images(observatory)


@pytest.fixture(scope="module")
def night(observatory: Observatory, sent_before: int) -> Path:  # noqa: ARG001 - what was sent before it
    return observatory.night(f"--visits={VISITS}", f"--interval={INTERVAL}", f"--seed={SEED}")


@pytest.fixture
def again(night: Path) -> Iterator[Path]:
    """Yield a copy of the night, to be spoilt."""
    copy = night.with_name(f"{night.name}-spoilt")
    shutil.copytree(night, copy)
    yield copy
    shutil.rmtree(copy)


def test_the_night_meets_what_is_counted(night: Path) -> None:
    report = _read(night)
    print(json.dumps(report["requirements"], indent=1))
    assert _missed(report) == set(), report["requirements"]
    for step in ("expected", "arrived", "verified", "ingested", "processed", "archived"):
        assert report["exposures"][step] == VISITS * DETECTORS, step
    assert report["transients"]["injected"] >= TRANSIENTS
    assert report["alerts"]["received"] == report["alerts"]["made"] > TRANSIENTS
    assert len(report["transients"]["missed"]) == report["transients"]["injected"] - report["transients"]["recovered"]


def test_every_exposure_lies_at_three_sites_with_one_digest(night: Path) -> None:
    lines = [json.loads(line) for line in (night / "stores.jsonl").read_text().splitlines()]
    assert len(lines) == VISITS * DETECTORS
    for line in lines:
        assert set(line["sites"]) == set(SITES), line
        assert len(set(line["sites"].values())) == 1, line
        assert all(line["pixels"].values()), line


def test_images_for_prompt_processing_cross_in_their_class(
    observatory: Observatory, night: Path, sent_before: int
) -> None:
    facts = [json.loads(line) for line in (night / "exposures.jsonl").read_text().splitlines()]
    names = " -o ".join(f"-path *{exposure}*.fits*" for exposure in {fact["obsId"] for fact in facts})
    sizes = observatory.on(SITES["ncsa"], rf"find {OBJECTS}/raw -type f \( {names} \) -printf %s+")
    images = sum(int(size) for size in sizes.split("+") if size)
    assert images < _sent_as_prompt_images(observatory) - sent_before < 1.5 * images


@pytest.mark.parametrize("site", SITES)
def test_a_deleted_object_is_a_loss(observatory: Observatory, again: Path, site: str) -> None:
    fact = json.loads((again / "exposures.jsonl").read_text().splitlines()[0])
    found = observatory.on(SITES[site], f"find {OBJECTS}/raw -type f -path *{fact['obsId']}*{fact['detector']}*.fits*")
    path = shlex.quote(found.split()[0])
    observatory.on(SITES[site], f"mv {path} {OBJECTS}/kept-for-the-test")
    try:
        observatory.dpp("night", "report", again.name, code=1)
    finally:
        observatory.on(SITES[site], f"mv {OBJECTS}/kept-for-the-test {path}")
    assert _missed(_read(again)) == {"exposures lost"}


def test_a_deleted_alert_is_missing(observatory: Observatory, again: Path) -> None:
    received = again / "alerts.jsonl"
    received.write_text("".join(received.read_text().splitlines(keepends=True)[1:]))
    observatory.dpp("night", "report", again.name, code=1)
    assert "alerts missing at the consumer" in _missed(_read(again))
