"""Sources of a difference against the objects known so far, as the alert database keeps both.

Means are over what the database gives: all sources of an object while it gives them all, else the object's last version,
carried on. Positions are averaged on the sphere, fluxes in each band for itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import astropy.time
import numpy as np
import numpy.typing as npt
import pandas as pd
from lsst.dax.apdb import ApdbSql
from lsst.sphgeom import Region
from scipy.spatial import cKDTree

from workloads.common.filters import BANDS

RADIUS_ARCSEC = 1.0
VERSION_COLUMNS = (
    *("diaObjectId", "ra", "dec", "nDiaSources", "firstDiaSourceMjdTai", "lastDiaSourceMjdTai"),
    *(f"{band}_psfFlux{what}" for band in BANDS for what in ("Mean", "Sigma", "Ndata")),
)
"""What is carried on of an object's last version."""
Versions = Callable[[list[int], float], pd.DataFrame]
"""Gives versions of objects by their ids: the last ones, and those that begin at an instant or within a second of it, days of TAI.

Columns are `VERSION_COLUMNS`, ``validityStartMjdTai`` and ``validityEndMjdTai``, which the last ones have not.
"""
_Row = Mapping[str, Any]
_Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Associated:
    """Rows for the alert database.

    Parameters
    ----------
    objects, sources
        What is to be stored.
    history
        What each source's object looked like before.
    begin
        When the objects' versions begin, TAI: the time of the observation, or just after it where an object has a version of
        that very instant, as of two images of one.
    """

    objects: pd.DataFrame
    sources: pd.DataFrame
    history: dict[int, list[dict[str, Any]]]
    begin: astropy.time.Time


def associate(
    apdb: ApdbSql, sources: pd.DataFrame, region: Region, time: astropy.time.Time, versions: Versions
) -> Associated:
    """Give every source an object: the nearest within one arcsecond, else a new one that is numbered like the source.

    No two sources of a visit have one object: of those near to it, the nearest has it.

    Parameters
    ----------
    apdb
        The alert database.
    sources
        DiaSource rows of one visit; ``diaObjectId`` is set here.
    region, time
        What was observed, and when (TAI).
    versions
        Where the last versions of objects are.
    """
    known = _latest(apdb.getDiaObjects(region))
    number = _match(sources, known)
    ids = np.where(
        number >= 0,
        known["diaObjectId"].to_numpy(np.int64)[number] if len(known) else -1,
        sources["diaSourceId"].to_numpy(np.int64),
    )
    sources = sources.assign(diaObjectId=ids)
    matched = sorted({int(value) for value in ids[number >= 0]})
    history = _by_object(apdb.getDiaSources(region, matched, time) if matched else None)
    kept = versions(matched, float(time.tai.mjd)).to_dict("records") if matched else []
    last = {int(row["diaObjectId"]): row for row in kept if not _is_number(row["validityEndMjdTai"])}
    begin = _free(time, {float(row["validityStartMjdTai"]) for row in kept})
    rows = [
        _object(source, history.get(int(source["diaObjectId"]), []), last.get(int(source["diaObjectId"])), begin)
        for source in sources.to_dict("records")
    ]
    return Associated(pd.DataFrame(rows), sources, history, begin)


def _free(time: astropy.time.Time, taken: set[float]) -> astropy.time.Time:
    """Return the first instant from `time` on at which none of some versions begins: an object has one of an instant."""
    begin = float(time.tai.mjd)
    if begin not in taken:
        return time
    while begin in taken:
        begin = math.nextafter(begin, math.inf)
    return astropy.time.Time(begin, format="mjd", scale="tai")


def _latest(known: pd.DataFrame) -> pd.DataFrame:
    """Return each object once: two visits that were stored at the same moment may leave it twice."""
    if known.empty or not known["diaObjectId"].duplicated().any():
        return known
    return known.sort_values("validityStartMjdTai").drop_duplicates("diaObjectId", keep="last").reset_index(drop=True)


def _match(sources: pd.DataFrame, known: pd.DataFrame) -> npt.NDArray[np.int64]:
    """Return the row of each source's object, -1 without: pairs by their distance, each source and object in one pair."""
    found = np.full(len(sources), -1, np.int64)
    if len(known) == 0 or len(sources) == 0:
        return found
    radius = np.radians(RADIUS_ARCSEC / 3600)
    pairs = cKDTree(_unit(sources)).sparse_distance_matrix(cKDTree(_unit(known)), radius, output_type="ndarray")
    taken = set[int]()
    for pair in pairs[np.lexsort((pairs["j"], pairs["i"], pairs["v"]))]:
        source, target = int(pair["i"]), int(pair["j"])
        if found[source] < 0 and target not in taken:
            found[source] = target
            taken.add(target)
    return found


def _unit(table: pd.DataFrame) -> _Doubles:
    return _vectors(table["ra"].to_numpy(np.float64), table["dec"].to_numpy(np.float64))


def _vectors(ra: _Doubles, dec: _Doubles) -> _Doubles:
    longitude, latitude = np.radians(ra), np.radians(dec)
    cosine = np.cos(latitude)
    return np.column_stack([cosine * np.cos(longitude), cosine * np.sin(longitude), np.sin(latitude)])


def _by_object(sources: pd.DataFrame | None) -> dict[int, list[dict[str, Any]]]:
    found: dict[int, list[dict[str, Any]]] = {}
    if sources is not None:
        for row in sources.to_dict("records"):
            found.setdefault(int(row["diaObjectId"]), []).append(row)
    return found


def _object(source: _Row, history: list[dict[str, Any]], last: _Row | None, time: astropy.time.Time) -> dict[str, Any]:
    """Return the object's row with the new source in it."""
    rows: list[_Row] = [*history, source]
    before = int(last["nDiaSources"]) if last else 0
    carried = last if last and before > len(history) else None
    ra, dec = _place(rows if carried is None else [source], carried, before)
    times = [float(row["midpointMjdTai"]) for row in rows]
    if last:
        times += [
            float(last[name]) for name in ("firstDiaSourceMjdTai", "lastDiaSourceMjdTai") if _is_number(last[name])
        ]
    row: dict[str, Any] = {
        "diaObjectId": int(source["diaObjectId"]), "validityStartMjdTai": float(time.tai.mjd), "ra": ra, "dec": dec,
        "nDiaSources": max(before + 1, len(rows)), "firstDiaSourceMjdTai": min(times), "lastDiaSourceMjdTai": max(times),
        **dict.fromkeys(("raErr", "decErr", "ra_dec_Cov"), np.nan),  # not measured yet, but the table of last objects has them
    }  # fmt: skip
    for band in BANDS:
        row |= _fluxes(band, rows, source, last)
    return row


def _place(rows: list[_Row], carried: _Row | None, before: int) -> tuple[float, float]:
    """Return the mean position, degrees: the direction of the sum of directions, an object's last place for its sources."""
    ra, dec = (np.array([float(row[name]) for row in rows]) for name in ("ra", "dec"))
    total = _vectors(ra, dec).sum(axis=0)
    if carried is not None:
        total = total + before * _vectors(np.array([carried["ra"]]), np.array([carried["dec"]]))[0]
    longitude, latitude = np.arctan2(total[1], total[0]), np.arctan2(total[2], np.hypot(total[0], total[1]))
    return float(np.degrees(longitude) % 360.0), float(np.degrees(latitude))


def _fluxes(band: str, rows: list[_Row], source: _Row, last: _Row | None) -> dict[str, float | int]:
    """Return number, mean and scatter of an object's fluxes (nJy) in one band."""
    names = [f"{band}_psfFlux{what}" for what in ("Mean", "Sigma", "Ndata")]
    flux = np.array([float(row["psfFlux"]) for row in rows if row["band"] == band])
    flux = flux[np.isfinite(flux)]
    new = int(source["band"] == band and np.isfinite(float(source["psfFlux"])))
    before = int(last[names[2]]) if last and _is_number(last[names[2]]) else 0
    if last is None or before <= len(flux) - new or not _is_number(last[names[0]]):
        values = (float(flux.mean()), float(flux.std())) if len(flux) else (np.nan, np.nan)
        return dict(zip(names, (*values, len(flux)), strict=True))
    mean, sigma = float(last[names[0]]), float(last[names[1]]) if _is_number(last[names[1]]) else 0.0
    if not new:
        return dict(zip(names, (mean, sigma, before), strict=True))
    step = float(source["psfFlux"]) - mean
    count = before + 1
    variance = (before * sigma**2 + step**2 * before / count) / count
    return dict(zip(names, (mean + step / count, float(np.sqrt(variance)), count), strict=True))


def _is_number(value: Any) -> bool:
    return value is not None and bool(np.isfinite(float(value)))
