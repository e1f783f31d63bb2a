"""What a detector needs before its pixels come: calibration and templates, loaded once and kept."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import Any

from lsst.daf.butler import Butler, DatasetNotFoundError

from workloads.common.errors import AwayError, NonRetriableError, RetriableError, WorkloadError
from workloads.common.filters import BANDS
from workloads.common.names import INSTRUMENT
from workloads.common.peers import asking
from workloads.common.plan import FIELDS, Field
from workloads.common.settings import Detector
from workloads.data_backbone.repository import Products

LOG = logging.getLogger(__name__)
_REFRESH_SECONDS = 600.0
_ROOM = {"calibration": 2, "template": 4}
"""How many of a kind are kept, the last used: a field is announced before its visit, a night has a hundred fields, and what is
kept of one in full size is a third of a gigabyte."""


@dataclass
class _Kept:
    kind: str
    value: Any
    dataset: Any
    checked: float


class Inputs:
    """Calibration and templates of one detector.

    Parameters
    ----------
    butler
        The archive's Butler, reading.
    detector
        Which detector.
    """

    def __init__(self, butler: Butler, detector: Detector) -> None:
        self._butler, self._detector = butler, detector
        self._kept: dict[str, _Kept] = {}

    def calibration(self, field: Field) -> Any:
        """Return the newest certified calibration of the detector that looks at a field.

        Raises
        ------
        RetriableError
            If there is none yet; `AwayError` if the registry or the store does not answer.
        """
        data_id = {"instrument": INSTRUMENT, "detector": self._detector.id}
        name = " ".join(part for part in ("calibration", field.replayed) if part)
        return self._get(name, "calibration", data_id, Products(field.replayed).latest)

    def template(self, field: Field) -> Any:
        """Return the template of a field in its band; as `calibration` in all else.

        Raises
        ------
        NonRetriableError
            If there is none in this band and there are in others: none is on its way.
        """
        data_id = {"skymap": field.skymap, "tract": field.number, "patch": self._detector.id, "band": field.band}
        collection = Products(field.replayed).templates
        try:
            return self._get(f"template {field.name} {field.band}", "template", data_id, collection)
        except AwayError:
            raise
        except RetriableError as error:
            others = self._bands(data_id, collection)
            if not others or field.band in others:
                raise
            raise NonRetriableError(
                f"template of {field.name} of {self._detector.name}: none in band {field.band}; there are in {', '.join(others)}"
            ) from error

    def _bands(self, data_id: dict[str, Any], collection: str) -> list[str]:
        """Return the bands in which there are templates of a place."""
        with asking("templates"):
            return [
                band
                for band in BANDS
                if self._butler.find_dataset("template", data_id | {"band": band}, collections=collection)
            ]

    def preload(self) -> None:
        """Load what there is room for, so that the first visit finds it in memory."""
        for field in FIELDS[: _ROOM["template"]]:
            try:
                self.calibration(field)
                self.template(field)
            except WorkloadError as error:
                LOG.warning("not preloaded: %s", error)
                return

    def _get(self, name: str, dataset_type: str, data_id: dict[str, Any], collection: str) -> Any:
        kept = self._kept.pop(name, None)
        if kept:
            self._kept[name] = kept  # the last used stands last
        if kept and time.monotonic() - kept.checked < _REFRESH_SECONDS:
            return kept.value
        what = f"{name} of {self._detector.name}"
        try:
            with asking(what):
                self._butler.registry.refresh()
                dataset = self._butler.find_dataset(dataset_type, data_id, collections=collection)
        except LookupError as error:
            raise RetriableError(f"{what}: {error}") from error
        if dataset is None:
            raise RetriableError(f"{what}: not in the repository; expected from the Job calibration")
        if kept and kept.dataset == dataset.id:
            kept.checked = time.monotonic()
            return kept.value
        kept = self._kept.pop(name, None) and None  # what replaces it may be as large
        self._make_room(dataset_type)
        try:
            with asking(what):
                value = self._butler.get(dataset)
        except (DatasetNotFoundError, FileNotFoundError) as error:
            raise RetriableError(f"{what}: {error}") from error
        self._kept[name] = _Kept(dataset_type, value, dataset.id, time.monotonic())
        return value

    def _make_room(self, kind: str) -> None:
        """Let go of what was used longest ago, before another one of its kind is loaded: both at once would be the peak."""
        names = [name for name, kept in self._kept.items() if kept.kind == kind]
        for name in names[: max(0, len(names) - _ROOM[kind] + 1)]:
            del self._kept[name]
