"""Filters by the names that the camera gives them, and the band of each, as the observatory defines them.

Two wheels are written with a tilde between: ``SDSSi~ND_OD1.0``; an empty place in one of them does not count.
"""

from __future__ import annotations

BANDS = "ugrizy"
WHITE, UNKNOWN = "white", "unknown"
"""Bands of light that no filter stands in, and of filters that nobody has defined."""
_BETWEEN_WHEELS = "~"
_EMPTY = {"", "empty", "none", "open", "no_filter"}
DEFINED = {
    **{band: band for band in BANDS},  # simulated and replayed skies
    "u_24": "u", "g_6": "g", "r_57": "r", "i_39": "i", "z_20": "z", "y_10": "y", "ph_5": WHITE, "ef_43": WHITE,
    "SDSSu": "u", "SDSSg": "g", "SDSSr": "r", "SDSSi": "i", "SDSSz": "z", "SDSSY": "y", "SDSSy": "y",
    "480nm": "g", "650nm": "r", "750nm": "i", "870nm": "z", "950nm": "y", "970nm": "y",
    "uv": "u", "blue": "g", "red": "r", "nm750": "i", "nm850": "z", "nm960": "y", "HIGH": WHITE, "LOW": WHITE,
    "grid": "grid", "spot": "spot", "sparsegrid": "sparsegrid", "streak": "streak", "ellipses": "ellipses",
    "none": WHITE, "empty": WHITE, UNKNOWN: UNKNOWN,
}  # fmt: skip
"""Physical filters and their bands."""
_NEUTRAL = "ND_OD"
_LONGEST = 32
"""Characters of a filter's name in the Butler."""


def physical_filter(name: object) -> str:
    """Return the name of a filter as the Butler can hold it; what is not known is named so."""
    text = str(name).strip() if isinstance(name, str) else ""
    return text[:_LONGEST] or UNKNOWN


def band_of(name: object) -> str:
    """Return the band of a filter by its name, `UNKNOWN` if it has no definition."""
    text = physical_filter(name)
    if text in DEFINED:
        return DEFINED[text]
    parts = [part for part in text.split(_BETWEEN_WHEELS) if part not in _EMPTY]
    colors = [part for part in parts if not part.startswith(_NEUTRAL)]
    if not parts:
        return WHITE
    bands = {DEFINED.get(part, UNKNOWN) for part in colors} or {WHITE}
    bands = bands - {WHITE} or bands
    band = bands.pop() if len(bands) == 1 else UNKNOWN
    return f"{band}~nd" if len(colors) < len(parts) and band != UNKNOWN else band


def bands_of(names: str) -> list[str]:
    """Return the bands of a list of filters, as announcements have it: with commas between, each once."""
    return list(dict.fromkeys(band_of(name) for name in names.split(",")))
