"""How high the sun stands over a telescope: by astropy alone, which asks nobody for today's rotation of the Earth."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from datetime import datetime

from dpp.model.types import Observing


def altitudes(where: Observing, times: Sequence[datetime]) -> list[float]:
    """Return the altitude of the centre of the sun in degrees at each time, without refraction.

    How the Earth has turned since the tables at hand were made is taken as predicted: that is right to a second.
    """
    from astropy import units  # noqa: PLC0415 - slow to import, and most commands need no sky
    from astropy.coordinates import AltAz, EarthLocation, get_sun  # noqa: PLC0415
    from astropy.time import Time  # noqa: PLC0415
    from astropy.utils import iers  # noqa: PLC0415

    offline = {"auto_download": False, "auto_max_age": None, "iers_degraded_accuracy": "ignore"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tables that end before the time that is asked about
        for name, value in offline.items():
            setattr(iers.conf, name, value)
        place = EarthLocation.from_geodetic(
            where.longitude_degrees * units.deg, where.latitude_degrees * units.deg, where.height_metres * units.m
        )
        when = Time([*times], scale="utc")
        return [float(one) for one in get_sun(when).transform_to(AltAz(obstime=when, location=place)).alt.deg]
