"""Sources of a difference against the objects known so far, as the alert database keeps both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import astropy.time
import numpy as np
import pandas as pd
from lsst.dax.apdb import ApdbSql
from lsst.sphgeom import Region
from scipy.spatial import cKDTree

RADIUS_ARCSEC = 1.0
_BANDS = "ugrizy"


@dataclass(frozen=True)
class Associated:
    """Rows for the alert database, and what each source's object looked like before."""

    objects: pd.DataFrame
    sources: pd.DataFrame
    history: dict[int, list[dict[str, Any]]]


def associate(apdb: ApdbSql, sources: pd.DataFrame, region: Region, time: astropy.time.Time, band: str) -> Associated:
    """Give every source an object: the nearest within one arcsecond, else a new one that is numbered like the source.

    Parameters
    ----------
    apdb
        The alert database.
    sources
        DiaSource rows; ``diaObjectId`` is set here.
    region, time, band
        What was observed, when (TAI) and through which filter.
    """
    known = apdb.getDiaObjects(region)
    number = _match(sources, known)
    ids = np.where(
        number >= 0,
        known["diaObjectId"].to_numpy(np.int64)[number] if len(known) else -1,
        sources["diaSourceId"].to_numpy(np.int64),
    )
    sources = sources.assign(diaObjectId=ids)
    matched = sorted({int(value) for value in ids[number >= 0]})
    before = apdb.getDiaSources(region, matched, time) if matched else None
    history = _by_object(before)
    rows = [
        _object(group, history.get(int(object_id), []), time, band)
        for object_id, group in sources.groupby("diaObjectId", sort=False)
    ]
    return Associated(pd.DataFrame(rows), sources, history)


def _match(sources: pd.DataFrame, known: pd.DataFrame) -> np.ndarray[Any, np.dtype[np.int64]]:
    if len(known) == 0 or len(sources) == 0:
        return np.full(len(sources), -1, np.int64)
    distance, index = cKDTree(_unit(known)).query(_unit(sources), distance_upper_bound=np.radians(RADIUS_ARCSEC / 3600))
    return np.where(np.isfinite(distance), index, -1).astype(np.int64)


def _unit(table: pd.DataFrame) -> np.ndarray[Any, np.dtype[np.float64]]:
    ra, dec = np.radians(table["ra"].to_numpy(np.float64)), np.radians(table["dec"].to_numpy(np.float64))
    return np.column_stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)])


def _by_object(sources: pd.DataFrame | None) -> dict[int, list[dict[str, Any]]]:
    found: dict[int, list[dict[str, Any]]] = {}
    if sources is not None:
        for row in sources.to_dict("records"):
            found.setdefault(int(row["diaObjectId"]), []).append(row)
    return found


def _object(group: pd.DataFrame, history: list[dict[str, Any]], time: astropy.time.Time, band: str) -> dict[str, Any]:
    """Return the object's row with the new sources in it: mean position and flux over all of its sources."""
    past = pd.DataFrame(history, columns=["ra", "dec", "psfFlux", "midpointMjdTai"])
    ra, dec, flux, when = (
        np.concatenate([past[name].to_numpy(np.float64), group[name].to_numpy(np.float64)]) for name in past.columns
    )
    row: dict[str, Any] = {
        "diaObjectId": int(group["diaObjectId"].iloc[0]), "validityStartMjdTai": float(time.tai.mjd), "ra": float(ra.mean()), "dec": float(dec.mean()),
        "nDiaSources": len(ra), "firstDiaSourceMjdTai": float(when.min()), "lastDiaSourceMjdTai": float(when.max()),
        f"{band}_psfFluxMean": float(flux.mean()), f"{band}_psfFluxSigma": float(flux.std()),
    }  # fmt: skip
    row.update(
        dict.fromkeys(("raErr", "decErr", "ra_dec_Cov"), np.nan)
    )  # not measured yet, but the table of last objects has them
    row.update({f"{name}_psfFluxNdata": 0 for name in _BANDS})
    row[f"{band}_psfFluxNdata"] = len(ra)
    return row
