"""The report as one HTML page without anything from elsewhere: tables, histogram, waterfall, cutouts."""

from __future__ import annotations

import base64
import html
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from astropy.io import fits

_STYLE = """
:root{color-scheme:light dark}body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem}
table{border-collapse:collapse;margin:1rem 0}td,th{padding:.25rem .7rem;border-bottom:1px solid #8884;text-align:left;font-variant-numeric:tabular-nums}
.met{color:#2a8a4a}.missed{color:#c03030;font-weight:600}svg{width:100%;height:auto}img{image-rendering:pixelated;width:93px;height:93px;margin:1px}
figure{display:inline-block;margin:.4rem;text-align:center;font-size:12px}h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2rem}
"""


_ROWS = 2000
"""Rows of a table or list that a page has at most."""


class Visits(Protocol):
    """The visits of a night, to be gone through, and how many images they have."""

    images: int

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield them."""


def render(report: dict[str, Any], folder: Path, visits: Visits) -> str:
    """Return the page."""
    verdict = "all requirements met" if report["passed"] else "not all requirements met"
    sections = [
        f"<h1>Night {_text(report['night'])}: {verdict}</h1>",
        _requirements(report["requirements"]),
        "<h2>Exposures and alerts</h2>",
        _table(
            ("", "count"),
            [
                (name, report[part][name])
                for part in ("exposures", "alerts")
                for name in report[part]
                if not isinstance(report[part][name], list)
            ],
        ),
        "<h2>Transients</h2>",
        _table(("", ""), [row for row in report["transients"].items() if not isinstance(row[1], list)]),
        _sky(report["plan"].get("skyFacts") or {}),
        "<h2>Latency from the end of readout to the consumer</h2>",
        _histogram(report["latency"]),
        "<h2>Where the time goes</h2>",
        _waterfall(report["waterfall"]),
        "<h2>Visits</h2>",
        _visits(visits),
        _list("Detectors that were off", report["exposures"]["off"]),
        _list("Losses", report["exposures"]["losses"]),
        _list("What went wrong", report["exposures"]["failures"]),
        _list("Transients missed", report["transients"]["missed"]),
        "<h2>Alerts: science, template, difference</h2>",
        _cutouts(folder / "cutouts"),
    ]
    return f"<!doctype html><html lang=en><meta charset=utf-8><title>Night {_text(report['night'])}</title><style>{_STYLE}</style>{''.join(sections)}</html>\n"


def _text(value: Any) -> str:
    return html.escape(f"{value:.3f}" if isinstance(value, float) else "" if value is None else str(value))


def _table(head: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    cells = "".join(f"<th>{_text(name)}</th>" for name in head)
    body = "".join("<tr>" + "".join(f"<td>{_text(value)}</td>" for value in row) + "</tr>" for row in rows)
    return f"<table><tr>{cells}</tr>{body}</table>"


def _sky(facts: dict[str, Any]) -> str:
    """Say what a replayed sky is; nothing for a simulated one."""
    if not facts:
        return ""
    rows = [
        (role, one["file"], one["fwhm_px"], one["noise_correlation"])
        for role in ("science", "template")
        for one in facts.get(role, [])
    ]
    note = (
        "Real exposures with transients injected. The noise of resampled pixels is correlated: the last column is the noise "
        "of a PSF fit over that of independent pixels, and the sigma of the injected transients includes it. Alerts on "
        "nothing injected are false here, although things on a real sky change by themselves: those that repeat in "
        "another exposure are counted, and not required to be absent."
    )
    if facts.get("cropped"):
        note += f" The {_text(facts['cropped'])}."
    return f"<p>{note}</p>{_table(('role', 'exposure', 'seeing, pixels', 'noise over independent'), rows)}"


def _requirements(requirements: list[dict[str, Any]]) -> str:
    rows = "".join(
        f"<tr><td>{_text(one['title'])}</td><td>{_text(one['value'])}</td><td>{_text(one['comparison'])} {one['limit']:g}</td><td>{one['judged_by']}</td>"
        f"<td class={'met' if one['met'] else 'missed'}>{'met' if one['met'] else 'not met'}</td></tr>"
        for one in requirements
    )
    return f"<table><tr><th>requirement</th><th>found</th><th>limit</th><th>judged by</th><th></th></tr>{rows}</table>"


def _histogram(latency: dict[str, Any]) -> str:
    if not latency["count"]:
        return "<p>No alerts.</p>"
    counts, edges = latency["histogram"]["counts"], latency["histogram"]["edges_s"]
    width, height = 900, 160
    step, top = width / len(counts), max(counts)
    bars = "".join(
        f'<rect x="{i * step:.1f}" y="{height - height * n / top:.1f}" width="{step - 1:.1f}" height="{height * n / top:.1f}" fill="#4a7ebb"><title>{edges[i]:g}-{edges[i + 1]:g} s: {n}</title></rect>'
        for i, n in enumerate(counts)
    )
    limit = 60.0 / edges[-1] * width
    marks = f'<line x1="{limit:.1f}" x2="{limit:.1f}" y1="0" y2="{height}" stroke="#c03030"/>'
    ticks = "".join(
        f'<text x="{second / edges[-1] * width:.1f}" y="{height + 16}" font-size="12" fill="currentColor">{second} s</text>'
        for second in range(0, int(edges[-1]), 10)
    )
    figures = ", ".join(
        f"{name.removesuffix('_s')} {latency[name]:.1f} s" for name in ("p50_s", "p90_s", "p98_s", "max_s")
    )
    return f'<p>{figures}; {100 * latency["within_60_s"]:.2f} % within 60 s; growth {latency["slope_s_per_visit"]:.2f} s per visit</p><svg viewBox="0 0 {width} {height + 20}">{bars}{marks}{ticks}</svg>'


def _waterfall(steps: list[dict[str, Any]]) -> str:
    if not steps:
        return "<p>No stamps.</p>"
    longest = max(step["p98_s"] for step in steps) or 1.0
    row, rows, before = 24, [], 0.0
    for number, step in enumerate(steps):
        start = before if step["kind"] == "moment" and step["median_s"] >= before else 0.0
        x, w, y = 200 + 640 * start / longest, 640 * max(step["median_s"] - start, 0.0) / longest, number * row
        tail = 200 + 640 * step["p98_s"] / longest
        rows.append(
            f'<text x="0" y="{y + 16}" font-size="13" fill="currentColor">{_text(step["step"])}</text><rect x="{x:.1f}" y="{y + 4}" width="{max(w, 1):.1f}" height="14" fill="#4a7ebb"/>'
            f'<line x1="{x + w:.1f}" x2="{tail:.1f}" y1="{y + 11}" y2="{y + 11}" stroke="#888"/><text x="{tail + 6:.1f}" y="{y + 16}" font-size="12" fill="currentColor">{step["median_s"]:.2f} / {step["p98_s"]:.2f} s</text>'
        )
        before = step["median_s"] if step["kind"] == "moment" and step["step"] != "archived" else 0.0
    return f'<p>Median and 98 %; first moments after the end of readout, then durations inside processing.</p><svg viewBox="0 0 960 {len(steps) * row + 6}">{"".join(rows)}</svg>'


def _visits(visits: Visits) -> str:
    """Return a table with a row for each image; in a night of very many, for each visit, with its slowest detector."""
    each = visits.images <= _ROWS
    rows: list[tuple[Any, ...]] = []
    for visit in visits:
        if visit["endOfReadout"] is None:
            rows.append((visit["group"], visit["field"], "cancelled", "", "", "", ""))
        images = [_times(visit, name) for name in visit["detectors"]]
        if each or not images:
            rows += images
            continue
        _, _, _, counts, *moments = zip(*images, strict=True)
        slowest = [max((moment for moment in column if moment is not None), default=None) for column in moments]
        rows.append((visit["obsId"], visit["field"], f"{len(images)} detectors", sum(counts), *slowest))
    return _table(
        ("exposure", "field", "detector", "alerts", "ingested s", "processed s", "alerted s", "archived s"), rows
    )


def _times(visit: dict[str, Any], name: str) -> tuple[Any, ...]:
    """Return the row of one image: the seconds from the end of its readout to each step."""
    detector = visit["detectors"][name]
    after = {step: moment - visit["endOfReadout"] for step, moment in detector["steps"].items()}
    times = [after.get(step) for step in ("ingested", "processed", "alerted", "archived")]
    return (visit["obsId"], visit["field"], name, int(detector["figures"].get("alerts", 0)), *times)


def _list(title: str, lines: list[str]) -> str:
    shown = [*lines[:_ROWS], *([f"and {len(lines) - _ROWS} more, see report.json"] if len(lines) > _ROWS else [])]
    return f"<h2>{title}</h2><ul>{''.join(f'<li>{_text(line)}</li>' for line in shown)}</ul>" if lines else ""


def _cutouts(folder: Path) -> str:
    figures = []
    for science in sorted(folder.glob("*-science.fits"))[:40]:
        number = science.name.removesuffix("-science.fits")
        images = [folder / f"{number}-{kind}.fits" for kind in ("science", "template", "difference")]
        if all(image.exists() for image in images):
            tags = "".join(
                f'<img alt="{image.stem}" src="data:image/png;base64,{base64.b64encode(_png(image)).decode()}">'
                for image in images
            )
            figures.append(f"<figure>{tags}<br>{number}</figure>")
    return "".join(figures) or "<p>None kept.</p>"


def _png(path: Path) -> bytes:
    """Return a FITS image as grey PNG, stretched between its 1st and 99.5th percentile."""
    pixels = np.nan_to_num(np.asarray(fits.getdata(path), np.float64))
    low, high = np.percentile(pixels, [1.0, 99.5])
    grey = (255 * np.clip((pixels[::-1] - low) / max(high - low, 1e-9), 0, 1)).astype(np.uint8)
    rows = b"".join(b"\0" + row.tobytes() for row in grey)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", grey.shape[1], grey.shape[0], 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
