"""From facts to figures: what was lost, how fast it was, what was found. Pure functions."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.spatial import cKDTree

from workloads.broker.groups import GROUPS
from workloads.report.batches import Array, batches, numbers, prefixes
from workloads.report.facts import Facts, Row

STEPS = ("expected", "arrived", "verified", "ingested", "processed", "alerted", "archived")
VARIABLE = 3
MINIMUM_SNR = 8.0
LIMIT_SECONDS = 60.0
_MISSED = 200
"""How many of the transients that were missed are named."""
_TREE = 1 << 15
"""Pairs from which on a tree finds the nearest sooner than all distances do."""
_RECEIPT = pa.schema([("group", pa.string()), ("sha256", pa.string())])


def exposures(facts: Facts) -> dict[str, Any]:
    """Count exposures (one detector of one visit) by what became of them.

    Lost is whatever the camera read out and any store lacks, or holds with other pixels or another digest than the rest.
    """
    stamps, losses, read = facts.stamps, list[str](), set[tuple[str, str]]()
    for row in facts.stores:
        read.add((row["obsId"], row["detector"]))
        if reason := _loss(row):
            losses.append(f"{row['obsId']}_{row['detector']}: {reason}")
    expected, unanswered = 0, 0
    for row in facts.exposures:
        image = row["obsId"], row["detector"]
        expected, unanswered = expected + 1, unanswered + int(not stamps.answered(image))
        if image not in read:
            losses.append(f"{row['obsId']}_{row['detector']}: not looked for")
    counts = {step: stamps.count(step) for step in ("arrived", "verified", "ingested", "processed", "archived")}
    return {
        "expected": expected, **counts, "unanswered": unanswered, "given_up": stamps.count("failed"),
        "lost": len(losses), "losses": losses, "off": _off(facts), "failures": stamps.failures,
    }  # fmt: skip


def _off(facts: Facts) -> list[str]:
    """Return the camera's detectors that it did not read out, each once, with the reason that the ledger has."""
    read, reasons = set(facts.night.get("detectors", [])), facts.stamps.off
    names = [name for name in facts.detectors if name not in read]
    return [f"{name}: {reasons.get(name, 'not read out by the camera')}" for name in dict.fromkeys([*names, *reasons])]


def alerts(facts: Facts) -> dict[str, Any]:
    """Compare alerts made (by the ledger's stamps) with those that the independent consumer and each broker received."""
    found = facts.found
    made = int(facts.stamps.processed.known("alerts")[1].astype(np.int64).sum())
    decoded, distinct = len(found.image), len(np.unique(found.columns["source"]))
    return {
        "made": made, "received": found.received, "decoded": decoded, "undecodable": found.undecodable,
        "duplicates": decoded - distinct, "missing": max(0, made - distinct),
        "not_at_brokers": _not_at_brokers(facts), "bytes": found.size,
    }  # fmt: skip


def _not_at_brokers(facts: Facts) -> int:
    """Return how many alerts the brokers lack, of each what was sent and is not among its receipts."""
    sent = np.unique(facts.found.columns["digest"])
    if not len(sent):
        return 0
    kept = np.zeros((len(GROUPS), len(sent)), np.bool_)
    groups = pa.array(GROUPS)
    for batch in batches(facts.receipts, _RECEIPT):
        digests, group = prefixes(batch["sha256"]), numbers(pc.index_in(batch["group"], groups), np.int64, -1)
        places = np.searchsorted(sent, digests).clip(max=len(sent) - 1)
        own = (sent[places] == digests) & (group >= 0)
        kept[group[own], places[own]] = True
    return int((~kept).sum())


def latency(facts: Facts) -> dict[str, Any]:
    """Return seconds from the end of readout to the consumer over all alerts, and their growth over the visits.

    The first visit finds everything cold and does not count for the growth, which is the median of the growths between any two
    others: no single visit decides it. It takes three of them.
    """
    found = facts.found
    if not len(found.image):
        return {"count": 0}
    ends = np.array([facts.ends[facts.obs_ids[int(visit)]] for visit in found.visits])
    visit = found.visit
    seconds = found.columns["received"] - ends[visit]
    bounds = np.searchsorted(visit, np.arange(len(ends) + 1))
    worst = [
        (number, float(np.quantile(seconds[bounds[place] : bounds[place + 1]], 0.98)))
        for number, place in enumerate(np.argsort(ends, kind="stable"))
        if bounds[place + 1] > bounds[place]
    ]
    growths = [
        (later - sooner) / (after - before) for (before, sooner), (after, later) in itertools.combinations(worst[1:], 2)
    ]
    slope = float(np.median(growths)) if len(growths) > 1 else 0.0
    counts, edges = np.histogram(seconds, bins=np.arange(0.0, max(62.0, float(seconds.max()) + 2.0), 2.0))
    p50, p90, p98 = (float(value) for value in np.quantile(seconds, (0.5, 0.9, 0.98)))
    return {
        "count": len(seconds), "p50_s": p50, "p90_s": p90, "p98_s": p98,
        "max_s": float(seconds.max()), "within_60_s": float((seconds <= LIMIT_SECONDS).mean()), "slope_s_per_visit": slope,
        "per_visit_p98_s": [value for _, value in worst], "histogram": {"edges_s": edges.tolist(), "counts": counts.tolist()},
    }  # fmt: skip


def waterfall(facts: Facts) -> list[dict[str, Any]]:
    """Return when, after the end of readout, each step was done: median and 98 % over all detectors, seconds."""
    stamps, ends = facts.stamps, facts.ends
    moments = {step: list(stamps.after(step, ends)) for step in STEPS}
    latest = facts.found.latest().items()
    moments["received"] = [moment - ends[facts.obs_ids[visit]] for (visit, _), moment in latest]
    steps = [
        {"step": step, "kind": "moment", **_spread(moments[step])}
        for step in (*STEPS[1:-1], "received", "archived")
        if moments[step]
    ]
    parts = [name for name in stamps.processed.columns if name.endswith("_s") and name != "latency_s"]
    return steps + [
        {"step": name.removesuffix("_s"), "kind": "duration", **_spread(stamps.processed.known(name)[1])}
        for name in parts
    ]


def transients(facts: Facts) -> dict[str, Any]:
    """Match alerts with the truth: recovered within one pixel; false where nothing is injected or variable within three.

    False alerts of an object that alerts over more than one exposure of the sky are counted as repeating as well: a
    replayed sky has changing things of its own, and stars that subtract badly do so again.
    """
    found, truth, numbers_of = facts.found, facts.injected, {name: number for number, name in facts.obs_ids.items()}
    wanted, got, masked, images, missed = 0, 0, 0, 0, list[str]()
    false: list[Array] = []
    skies: list[Array] = []
    for fact in facts.exposures:
        obs_id, detector = fact["obsId"], fact["detector"]
        images += 1
        own = found.of(numbers_of.get(obs_id, -1), facts.detectors.get(detector, -1))
        rows = truth.of(obs_id, detector)
        hits, places = found.places(own), truth.places(rows)
        kind, snr, hidden = (truth.columns[name][rows] for name in ("kind", "snr", "masked"))
        bright = (kind != VARIABLE) & (snr >= MINIMUM_SNR)
        counted = np.flatnonzero(bright & ~hidden)
        near = _nearest(places[counted], hits)
        wanted, got, masked = (
            wanted + len(counted),
            got + int((near <= 1.0).sum()),
            masked + int((bright & hidden).sum()),
        )
        for number in counted[near > 1.0][: max(0, _MISSED - len(missed))]:
            x, y = places[number]
            missed.append(f"{obs_id}_{detector} ({x:.1f}, {y:.1f}) {snr[number]:.1f} sigma")
        false.append(own.start + np.flatnonzero(_nearest(hits, places) > 3.0))
        skies.append(np.full(len(false[-1]), _exposure_of_sky(facts, fact)))
    which, sky = (np.concatenate([np.empty(0, np.int64), *parts]) for parts in (false, skies))
    repeating = _repeating(found.columns["object"][which], sky)
    return {
        "injected": wanted, "recovered": got, "completeness": got / wanted if wanted else 1.0, "masked": masked, "missed": missed,
        "false": len(which), "false_per_image": len(which) / max(1, images),
        "false_repeating": repeating, "false_once_per_image": (len(which) - repeating) / max(1, images),
    }  # fmt: skip


def _exposure_of_sky(facts: Facts, fact: Row) -> int:
    """Return a number that is the same for visits that replay the same real exposure."""
    replayed = facts.night.get("skyFacts", {}).get("science", [])
    return int(fact["visit"]) % len(replayed) if replayed else int(fact["visit"])


def _repeating(objects: Array, skies: Array) -> int:
    """Return how many of these alerts are of objects that alert over more than one exposure of the sky."""
    names, place = np.unique(objects, return_inverse=True)
    pairs = np.unique(np.stack([place, skies]), axis=1)
    seen = np.bincount(pairs[0], minlength=len(names))
    return int((seen[place] > 1).sum())


def _nearest(points: Array, others: Array) -> Array:
    """Return the distance of each point to the nearest of others, all as pairs."""
    if len(points) == 0 or len(others) == 0:
        return np.full(len(points), np.inf)
    if len(points) * len(others) > _TREE:
        return np.asarray(cKDTree(others).query(points)[0])
    gaps = points[:, None, :] - others[None, :, :]
    return np.asarray(np.sqrt(np.einsum("ijk,ijk->ij", gaps, gaps).min(axis=1)))


def _loss(row: Row) -> str:
    if row["errors"]:
        return "; ".join(f"{site}: {error}" for site, error in row["errors"].items())
    if len(set(row["sites"].values())) != 1:
        return f"digests differ: {row['sites']}"
    wrong = [site for site, right in row["pixels"].items() if not right]
    return f"other pixels than the camera read out at {', '.join(wrong)}" if wrong else ""


def _spread(values: Any) -> dict[str, float]:
    return {"median_s": float(np.median(values)), "p98_s": float(np.quantile(values, 0.98))}
