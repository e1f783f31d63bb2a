"""Keywords as others give them, made such that FITS can hold them: nothing about a header keeps its pixels from being written.

What has a form in FITS gets it: a value that is no number is undefined, text that is no printable ASCII is escaped as in
Python, a keyword that is long or has blanks is written by the HIERARCH convention. What has none is left out. The file
itself names what was changed, in ``LEFTOUT`` and ``ESCAPED``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any

import numpy as np

from workloads.pixels.errors import HeaderError
from workloads.pixels.fits_cards import card

LEFT_OUT, ESCAPED = "LEFTOUT", "ESCAPED"
_STRUCTURE = re.compile(
    r"SIMPLE|BITPIX|NAXIS\d*|EXTEND|XTENSION|END|[PG]COUNT|GROUPS|BLOCKED|CHECKSUM|DATASUM|CONTINUE|HIERARCH|INHERIT"
    r"|BZERO|BSCALE|BLANK|EXTNAME|EXTVER|EXTLEVEL|TFIELDS|THEAP|T(TYPE|FORM|UNIT|ZERO|SCAL|NULL|DIM|DISP)\d+"
    r"|Z(IMAGE|SIMPLE|TENSION|BITPIX|NAXIS\d*|TILE\d+|CMPTYPE|NAME\d+|VAL\d+|QUANTIZ|DITHER0|BLANK|[PG]COUNT)"
)
"""Keywords that say what the file's bytes are; only who writes the file knows."""
_SHOWN = 60
"""Characters of a value that a report shows."""


@dataclass(frozen=True)
class Fitted:
    """Keywords that FITS can hold.

    Parameters
    ----------
    cards
        Keyword to value and comment, `LEFT_OUT` and `ESCAPED` among them where there is something to name.
    left_out
        What the file does not hold, by the keyword as it was given: the value and why.
    escaped
        Keywords whose text is written with escapes.
    """

    cards: dict[str, tuple[Any, str]]
    left_out: dict[str, str] = field(default_factory=dict)
    escaped: tuple[str, ...] = ()


def fitted(cards: Mapping[str, Any]) -> Fitted:
    """Return keywords, given as value or (value, comment), as FITS can hold them, and what was changed."""
    kept: dict[str, tuple[Any, str]] = {}
    left_out: dict[str, str] = {}
    escaped: list[str] = []
    for given, entry in cards.items():
        value, comment = entry if isinstance(entry, tuple) and len(entry) == 2 else (entry, "")
        keyword = " ".join(str(given).upper().split())
        written, why = _value(value)
        refusal = "given twice" if keyword in kept else _refusal(keyword, written)
        if refusal or why:
            left_out[str(given)] = f"{_shown(value)} ({refusal or why})"
        if not refusal:
            kept[keyword] = written, _escaped(str(comment or ""))
        if not refusal and isinstance(value, str) and written != value:
            escaped.append(keyword)
    return Fitted(_with_names(kept, left_out, escaped), left_out, tuple(escaped))


def _value(value: Any) -> tuple[Any, str]:
    """Return a value as it is written, None for undefined, and why it is not as it was given."""
    if isinstance(value, str):
        return _escaped(value), ""
    if value is None or isinstance(value, bool | np.bool_):
        return value, ""
    if isinstance(value, Integral):
        return int(value), ""
    if isinstance(value, Real):
        return (float(value), "") if math.isfinite(value) else (None, "no number")
    return None, f"a {type(value).__name__}"


def _refusal(keyword: str, value: Any) -> str:
    """Say why a card cannot be written; empty if it can."""
    if _STRUCTURE.fullmatch(keyword) or keyword in {LEFT_OUT, ESCAPED}:
        return "describes the file itself"
    try:
        card(keyword, value)
    except HeaderError as error:
        return error.found
    return ""


def _with_names(
    kept: dict[str, tuple[Any, str]], left_out: Mapping[str, str], escaped: list[str]
) -> dict[str, tuple[Any, str]]:
    if left_out:
        said = "; ".join(f"{keyword} = {what}" for keyword, what in left_out.items())
        kept[LEFT_OUT] = _escaped(said), "what FITS cannot hold"
    if escaped:
        kept[ESCAPED] = ", ".join(escaped), "texts with escapes as in Python"
    return kept


def _escaped(text: str) -> str:
    """Return a text as printable ASCII; one that is no such text, with escapes that Python's `unicode_escape` undoes."""
    if text.isascii() and text.isprintable():
        return text
    return text.encode("unicode_escape").decode("ascii")


def _shown(value: Any) -> str:
    text = str(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
