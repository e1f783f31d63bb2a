"""Property paths: ``name``, ``outer.inner``, ``list[0]``; what differs under them, and what is to be ignored."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable
from typing import Any

from dpp.engine.values import Properties, is_secret

_PART = re.compile(r'\["([^"]*)"\]|\[(\d+)\]|\.?([^.\[\]]+)')
_MISSING = object()


def parse(path: str) -> list[str | int]:
    """Return the keys and indices of a path."""
    return [
        int(match[2]) if match[2] is not None else match[1] if match[1] is not None else match[3]
        for match in _PART.finditer(path)
    ]


def get(value: Any, path: Iterable[str | int]) -> Any:
    """Return what stands at a path, or `_MISSING`."""
    for part in path:
        value = value["value"] if is_secret(value) else value
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            return _MISSING
    return value


def keep_ignored(news: Properties, olds: Properties, ignore: list[str]) -> Properties:
    """Return `news` with the old values at the paths that are to be ignored."""
    if not ignore:
        return news
    news = copy.deepcopy(news)
    for path in ignore:
        *outer, last = parse(path)
        place, old = get(news, outer), get(olds, [*outer, last])
        if isinstance(place, dict) and isinstance(last, str):
            if old is _MISSING:
                place.pop(last, None)
            else:
                place[last] = old
        elif isinstance(place, list) and isinstance(last, int) and last < len(place) and old is not _MISSING:
            place[last] = old
    return news


def changed_paths(
    olds: Properties, news: Properties, fields: Iterable[str] = (), reality: Properties | None = None
) -> dict[str, Any]:
    """Return old and new value by path: of the `fields` that a provider named, otherwise of all that differ.

    Parameters
    ----------
    reality
        Where the old values of `fields` are looked up, if not in `olds`: what really is may not be what was asked for.
    """
    before = olds if reality is None else reality
    named = {path: _pair(get(before, parse(path)), get(news, parse(path))) for path in fields}
    named = {path: pair for path, pair in named.items() if pair}
    return named or dict(_walk(olds, news, ""))


def _pair(old: Any, new: Any) -> dict[str, Any]:
    return {key: value for key, value in (("old", old), ("new", new)) if value is not _MISSING}


def _walk(old: Any, new: Any, path: str) -> Iterable[tuple[str, Any]]:
    if old == new:
        return
    if isinstance(old, dict) and isinstance(new, dict) and not is_secret(old) and not is_secret(new):
        for key in sorted(old.keys() | new.keys()):
            inner = f"{path}.{key}" if path else key
            yield from _walk(old.get(key, _MISSING), new.get(key, _MISSING), inner)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (left, right) in enumerate(zip(old, new, strict=True)):
            yield from _walk(left, right, f"{path}[{index}]")
    else:
        yield path, _pair(old, new)
