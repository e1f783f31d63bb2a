"""FITS headers as bytes: cards with units and comments, checked; checksums."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from numbers import Integral
from typing import Any

from workloads.pixels.errors import HeaderError

Cards = Mapping[str, Any]
"""Keyword to value, or to (value, comment); None is a keyword without value."""

BLOCK = 2880
_KEYWORD = re.compile(r"[A-Z0-9_-]{1,8}")
_HIERARCH = re.compile(r"(?=.{1,50}$)(?!.*\.\.\.)[A-Z0-9_.:,+/()#%-]+( [A-Z0-9_.:,+/()#%-]+)*")
"""Keywords that the HIERARCH convention takes, in words; without signs that readers take for a pattern."""
_COMMENTARY = {"COMMENT", "HISTORY"}
_RESERVED = {"", "END", "CONTINUE", "HIERARCH"}
_INTEGER = re.compile(r"[+-]?[0-9]{1,300}")
_REAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([EDed][+-]?[0-9]+)?")
_PRINTABLE = re.compile(r"[\x20-\x7e]*")


def card(keyword: str, value: Any, comment: str = "") -> bytes:
    """One header record of 80 bytes (several if a text is long).

    Raises
    ------
    HeaderError
        The keyword or the value cannot be written.
    """
    if not _PRINTABLE.fullmatch(comment):
        raise HeaderError(f"comment of {keyword}", "characters that FITS does not know", "printable ASCII")
    if keyword in _COMMENTARY:
        return _commentary(keyword, value)
    if keyword in _RESERVED:
        raise HeaderError(f"keyword {keyword!r}", "a word of the header's own", "another name")
    if _KEYWORD.fullmatch(keyword):
        head = f"{keyword:<8}= "
    elif _HIERARCH.fullmatch(keyword) and not keyword.startswith("HIERARCH"):
        head = f"HIERARCH {keyword} = "
    else:
        raise HeaderError(f"keyword {keyword!r}", "characters that FITS does not know", "A-Z, 0-9, - and _, at most 8")
    if isinstance(value, str):
        return _text(head, value, comment)
    number = _number(keyword, value)
    text = f"{head}{number:>20}" if len(head) + 20 <= 80 else head + number
    if len(text) > 80:
        raise HeaderError(f"keyword {keyword}", f"{len(number)} digits", "as many as a card of 80 characters holds")
    return (f"{text} / {comment}" if comment else text)[:80].ljust(80).encode("ascii")


def _commentary(keyword: str, value: Any) -> bytes:
    if not isinstance(value, str) or not _PRINTABLE.fullmatch(value):
        raise HeaderError(f"keyword {keyword}", f"{value!r}", "printable ASCII")
    lines = [value[at : at + 72] for at in range(0, len(value), 72)] or [""]
    return "".join(f"{keyword:<8}{line:<72}" for line in lines).encode("ascii")


def _number(keyword: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool) or type(value).__name__ in {"bool", "bool_"}:
        return "T" if value else "F"
    try:
        if isinstance(value, Integral):
            return str(int(value))
        if not math.isfinite(value):
            raise HeaderError(f"keyword {keyword}", f"value {value}", "a finite number; None where it is not known")
    except (TypeError, ValueError, OverflowError) as error:
        raise HeaderError(f"keyword {keyword}", f"value {value!r}", "text, number, bool or None") from error
    text = repr(float(value)).upper()
    return text if "." in text or "E" not in text else text.replace("E", ".0E")


def _text(head: str, value: str, comment: str) -> bytes:
    if not _PRINTABLE.fullmatch(value):
        raise HeaderError(f"keyword {head.removesuffix('= ').strip()}", f"text {value!r}", "printable ASCII")
    quoted = value.replace("'", "''")
    if len(head) + len(quoted) + 2 <= 80:
        text = f"{head}'{quoted:<8}'" if len(head) + 10 <= 80 else f"{head}'{quoted}'"
        return (f"{text:<30} / {comment}" if comment else text)[:80].ljust(80).encode("ascii")
    pieces, rest, begin = list[str](), value, head
    while rest:
        size = room = 77 - len(begin)
        # A doubled quote must not be cut in two.
        while len(rest[:size].replace("'", "''")) > room:
            size -= 1
        pieces.append(f"{begin}'{rest[:size].replace(chr(39), chr(39) * 2)}&'")
        rest, begin = rest[size:], "CONTINUE  "
    pieces[-1] = pieces[-1][:-2] + "'"
    return "".join(piece.ljust(80) for piece in pieces).encode("ascii")


def header_bytes(cards: Cards) -> bytearray:
    """Header with END, padded to whole blocks."""
    out = bytearray()
    for keyword, entry in cards.items():
        value, comment = entry if isinstance(entry, tuple) else (entry, "")
        out += card(keyword, value, comment)
    out += b"END".ljust(80)
    out += b" " * (-len(out) % BLOCK)
    return out


def encode_checksum(total: int) -> str:
    """Return the 16 characters that make an HDU sum to all ones (complement of ``total``, spread over printable characters)."""
    value = 0xFFFFFFFF - total
    characters = [[0] * 4 for _ in range(4)]
    for i in range(4):
        byte = (value >> (24 - 8 * i)) & 0xFF
        parts = [byte // 4 + 0x30] * 4
        parts[0] += byte % 4
        # Punctuation between the digits and letters is avoided in pairs, so that the sum stays.
        while any(0x3A <= p <= 0x40 or 0x5B <= p <= 0x60 for p in parts):
            for j in (0, 2):
                if any(0x3A <= p <= 0x40 or 0x5B <= p <= 0x60 for p in parts[j : j + 2]):
                    parts[j] += 1
                    parts[j + 1] -= 1
        for j in range(4):
            characters[j][i] = parts[j]
    text = "".join(chr(c) for group in characters for c in group)
    return text[-1] + text[:-1]


def parse_header(data: bytes | memoryview, start: int, bad: list[str] | None = None) -> tuple[dict[str, Any], int]:
    """Keywords and values of the header at ``start`` and where its data begin.

    Parameters
    ----------
    bad
        Takes the cards that are left out because their keyword or value cannot be understood.

    Raises
    ------
    HeaderError
        There is no END, or no FITS header at all.
    """
    cards: dict[str, Any] = {}
    last = ""
    for at in range(start, len(data) - 79, 80):
        line = bytes(data[at : at + 80]).decode("latin-1")  # what is no ASCII stays one character
        keyword = line[:8].rstrip()
        if keyword == "END" and not line[8:].strip():
            return cards, start + -(-(at + 80 - start) // BLOCK) * BLOCK
        if keyword in _COMMENTARY or not keyword:
            continue
        try:
            if keyword == "CONTINUE":
                if isinstance(cards.get(last), str):
                    cards[last] = cards[last].removesuffix("&") + str(_value(line[8:]) or "")
                continue
            key, text = _split(line, keyword)
            if key:
                cards[key], last = _value(text), key
        except HeaderError as error:
            if bad is not None:
                bad.append(f"{line.rstrip()!r}: {error.found}")
    raise HeaderError("FITS header", "no END", "a complete header")


def _split(line: str, keyword: str) -> tuple[str, str]:
    """Return keyword and value of a card, both empty if it is a comment without a value.

    Raises
    ------
    HeaderError
        It is neither.
    """
    if keyword == "HIERARCH" and "=" in line:
        key, text = line[9:].split("=", 1)
        return " ".join(key.split()), text
    if not keyword.isascii():
        raise HeaderError("FITS header", "a keyword that is no ASCII", "A-Z, 0-9, - and _")
    if line[8:10] == "= ":
        return keyword, line[10:]
    if "=" in line[:10]:
        raise HeaderError(f"keyword {keyword}", "no equals sign and blank in columns 9 and 10", "'= '")
    return "", ""


def _value(text: str) -> Any:
    """Return what stands before a card's comment.

    Raises
    ------
    HeaderError
        It is no value that FITS knows.
    """
    text = text.strip()
    if text.startswith("'"):
        match = re.match(r"'((?:[^']|'')*)'", text)
        if match is None or not match[1].isascii():
            raise HeaderError(
                "value", "a text without an end" if match is None else "a text that is no ASCII", "'text'"
            )
        return match[1].replace("''", "'").rstrip()
    word = text.split("/", 1)[0].strip()
    if word in {"T", "F"}:
        return word == "T"
    if not word:
        return None
    if _INTEGER.fullmatch(word):
        return int(word)
    if _REAL.fullmatch(word):
        return float(word.upper().replace("D", "E"))
    if word.startswith("("):
        return word  # a complex number, which nobody here needs
    raise HeaderError("value", f"{word!r}", "text in quotes, a number, T or F")
