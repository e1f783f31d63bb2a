"""The observed fields as a sky map of the Butler: a tract per field, a patch per detector."""

from __future__ import annotations

import hashlib
from typing import Any

from workloads.common.plan import FIELDS, Field
from workloads.common.settings import Detector
from workloads.data_backbone.instrument import region_of
from workloads.pixels.wcs import Wcs

SKYMAP = FIELDS[0].skymap
_SCALE = 0.2 / 3600.0
_PITCH = 1.03
_SHRINK = 0.1


def field_records(detectors: list[Detector], size: int) -> dict[str, list[dict[str, Any]]]:
    """Return the dimension records of map, tracts and patches, by element and in the order to insert.

    Parameters
    ----------
    detectors
        The camera's; a patch has the number of its detector.
    size
        Pixels along a side of a detector. Patches are a tenth smaller, so that none overlaps a neighbour.
    """
    plan = f"{SKYMAP} {size} {[field.name for field in FIELDS]} {[detector.id for detector in detectors]}"
    digest = hashlib.sha1(plan.encode(), usedforsecurity=False).digest()
    skymap = {"name": SKYMAP, "hash": digest, "tract_max": len(FIELDS) + 1, "patch_nx_max": 256, "patch_ny_max": 1}
    half = (2.0 * size * _PITCH) * _SCALE
    tracts, patches = [], []
    for field in FIELDS:
        whole = Wcs((field.ra, field.dec), (0.0, 0.0), ((-half, 0.0), (0.0, half)))
        tracts.append({"skymap": SKYMAP, "id": field.number, "region": region_of(whole.shifted(-0.5, -0.5), 1, 1, 0.5)})
        for detector in detectors:
            center = (size - 1) / 2
            place = (center - detector.column * size * _PITCH, center - detector.row * size * _PITCH)
            wcs = Wcs((field.ra, field.dec), place, ((-_SCALE, 0.0), (0.0, _SCALE)))
            region = region_of(wcs, size, size, -_SHRINK * size)
            patches.append(
                {
                    "skymap": SKYMAP,
                    "tract": field.number,
                    "id": detector.id,
                    "cell_x": detector.id,
                    "cell_y": 0,
                    "region": region,
                }
            )
    return {"skymap": [skymap], "tract": tracts, "patch": patches}


def replayed_records(field: Field, wcs: Wcs, size: int, detector: Detector) -> dict[str, list[dict[str, Any]]]:
    """Return the same records for a replayed sky: a map of its own with one tract and one patch.

    Parameters
    ----------
    field
        Its field.
    wcs, size
        Grid and pixels along a side of its exposures.
    detector
        Which detector sees it.
    """
    digest = hashlib.sha1(field.skymap.encode(), usedforsecurity=False).digest()
    skymap = {"name": field.skymap, "hash": digest, "tract_max": 2, "patch_nx_max": 256, "patch_ny_max": 1}
    place = {"skymap": field.skymap, "tract": field.number, "id": detector.id, "cell_x": detector.id, "cell_y": 0}
    return {
        "skymap": [skymap],
        "tract": [{"skymap": field.skymap, "id": field.number, "region": region_of(wcs, size, size, size / 2)}],
        "patch": [{**place, "region": region_of(wcs, size, size, -_SHRINK * size)}],
    }
