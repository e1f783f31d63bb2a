"""From facts to figures: what was lost, how fast it was, what was found. Pure functions."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from workloads.broker.groups import GROUPS
from workloads.common.ledger import ANSWERED, Step
from workloads.common.names import ExposureName
from workloads.report.facts import Facts, Row

STEPS = ("expected", "arrived", "verified", "ingested", "processed", "alerted", "archived")
VARIABLE = 3
MINIMUM_SNR = 8.0
LIMIT_SECONDS = 60.0


def exposures(facts: Facts) -> dict[str, Any]:
    """Count exposures (one detector of one visit) by what became of them.

    Lost is whatever the camera read out and any store lacks, or holds with other pixels or another digest than the rest.
    """
    by_step = Counter(row["step"] for row in _firsts(facts))
    lost = [f"{row['obsId']}_{row['detector']}: {reason}" for row in facts.stores if (reason := _loss(row))]
    answered = {(row["obsId"], row["detector"]) for row in facts.ledger if row["step"] in ANSWERED}
    unanswered = [row for row in facts.exposures if (row["obsId"], row["detector"]) not in answered]
    read = {(row["obsId"], row["detector"]) for row in facts.stores}
    lost += [
        f"{row['obsId']}_{row['detector']}: not looked for"
        for row in facts.exposures
        if (row["obsId"], row["detector"]) not in read
    ]
    return {
        "expected": len(facts.exposures), "arrived": by_step["arrived"], "verified": by_step["verified"], "ingested": by_step["ingested"],
        "processed": by_step["processed"], "archived": by_step["archived"], "unanswered": len(unanswered), "given_up": by_step["failed"],
        "lost": len(lost), "losses": lost, "off": _off(facts),
        "failures": [_sentence(row) for row in facts.ledger if row["step"] in ("quarantined", "failed", "lost", "late", "cancelled")],
    }  # fmt: skip


def _off(facts: Facts) -> list[str]:
    """Return the camera's detectors that it did not read out, each once, with the reason that the ledger has."""
    read = set(facts.night.get("detectors", []))
    reasons = {row["detector"]: row["reason"] for row in facts.ledger if row["step"] == Step.OFF}
    names = [name for name in facts.night.get("detectorNumbers", {}) if name not in read]
    return [f"{name}: {reasons.get(name, 'not read out by the camera')}" for name in dict.fromkeys([*names, *reasons])]


def alerts(facts: Facts) -> dict[str, Any]:
    """Compare alerts made (by the ledger's stamps) with those that the independent consumer and each broker received."""
    made = sum(int(row["figures"].get("alerts", 0)) for row in _firsts(facts) if row["step"] == "processed")
    decoded = [row for row in facts.alerts if "error" not in row]
    distinct = {row["diaSourceId"] for row in decoded}
    sent = {row["sha256"] for row in decoded}
    kept = {group: {row["sha256"] for row in facts.receipts if row["group"] == group} for group in GROUPS}
    return {
        "made": made, "received": len(facts.alerts), "decoded": len(decoded), "undecodable": len(facts.alerts) - len(decoded),
        "duplicates": len(decoded) - len(distinct), "missing": max(0, made - len(distinct)),
        "not_at_brokers": sum(len(sent - digests) for digests in kept.values()), "bytes": sum(row["bytes"] for row in facts.alerts),
    }  # fmt: skip


def latency(facts: Facts) -> dict[str, Any]:
    """Return seconds from the end of readout to the consumer over all alerts, and their growth over the visits.

    The first visit finds everything cold and does not count for the growth, which is the median of the growths between any two
    others: no single visit decides it. It takes three of them.
    """
    ends = facts.end_of_readout()
    visits = {
        ExposureName.from_obs_id(obs_id).exposure_id: (number, end)
        for number, (obs_id, end) in enumerate(sorted(ends.items(), key=lambda item: item[1]))
    }
    pairs = [
        (visits[row["visit"]][0], row["received"] - visits[row["visit"]][1])
        for row in facts.alerts
        if "error" not in row
    ]
    if not pairs:
        return {"count": 0}
    seconds = np.array([pair[1] for pair in pairs])
    per_visit = defaultdict(list)
    for number, value in pairs:
        per_visit[number].append(value)
    worst = [(number, float(np.quantile(values, 0.98))) for number, values in sorted(per_visit.items())]
    growths = [
        (later - sooner) / (after - before) for (before, sooner), (after, later) in itertools.combinations(worst[1:], 2)
    ]
    slope = float(np.median(growths)) if len(growths) > 1 else 0.0
    counts, edges = np.histogram(seconds, bins=np.arange(0.0, max(62.0, float(seconds.max()) + 2.0), 2.0))
    return {
        "count": len(pairs), "p50_s": float(np.quantile(seconds, 0.5)), "p90_s": float(np.quantile(seconds, 0.9)), "p98_s": float(np.quantile(seconds, 0.98)),
        "max_s": float(seconds.max()), "within_60_s": float((seconds <= LIMIT_SECONDS).mean()), "slope_s_per_visit": slope,
        "per_visit_p98_s": [value for _, value in worst], "histogram": {"edges_s": edges.tolist(), "counts": counts.tolist()},
    }  # fmt: skip


def waterfall(facts: Facts) -> list[dict[str, Any]]:
    """Return when, after the end of readout, each step was done: median and 98 % over all detectors, seconds."""
    ends, received = facts.end_of_readout(), _received(facts)
    moments: dict[str, list[float]] = defaultdict(list)
    for row in _firsts(facts):
        if row["step"] in STEPS and row["obsId"] in ends:
            moments[row["step"]].append(row["time"] - ends[row["obsId"]])
    for (obs_id, _), moment in received.items():
        if obs_id in ends:
            moments["received"].append(moment - ends[obs_id])
    parts: dict[str, list[float]] = defaultdict(list)
    for row in _firsts(facts):
        for name, value in row["figures"].items() if row["step"] == "processed" else ():
            if name.endswith("_s") and name != "latency_s":
                parts[name.removesuffix("_s")].append(value)
    steps = [
        {"step": step, "kind": "moment", **_spread(moments[step])}
        for step in (*STEPS[1:-1], "received", "archived")
        if moments[step]
    ]
    return steps + [{"step": name, "kind": "duration", **_spread(values)} for name, values in parts.items()]


def transients(facts: Facts) -> dict[str, Any]:
    """Match alerts with the truth: recovered within one pixel; false where nothing is injected or variable within three.

    False alerts of an object that alerts over more than one exposure of the sky are counted as repeating as well: a
    replayed sky has changing things of its own, and stars that subtract badly do so again.
    """
    found = _alerts_by_image(facts)
    truth: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in facts.truth:
        truth[row["obsId"], row["detector"]].append(row)
    wanted, got, masked, missed = 0, 0, 0, list[str]()
    false: list[tuple[int, Row]] = []
    for fact in facts.exposures:
        key = (fact["obsId"], fact["detector"])
        hits, rows = _places(found[key]), truth[key]
        bright = [row for row in rows if row["kind"] != VARIABLE and row["snr"] >= MINIMUM_SNR]
        counted = [row for row in bright if not row["masked"]]
        near = _nearest(_places(counted), hits)
        wanted, got, masked = wanted + len(counted), got + int((near <= 1.0).sum()), masked + len(bright) - len(counted)
        missed += [
            f"{key[0]}_{key[1]} ({row['x']:.1f}, {row['y']:.1f}) {row['snr']:.1f} sigma"
            for row, gap in zip(counted, near, strict=True)
            if gap > 1.0
        ]
        gaps = _nearest(hits, _places(rows))
        false += [(_exposure_of_sky(facts, fact), row) for row, gap in zip(found[key], gaps, strict=True) if gap > 3.0]
    images = max(1, len(facts.exposures))
    repeating = _repeating(false)
    return {
        "injected": wanted, "recovered": got, "completeness": got / wanted if wanted else 1.0, "masked": masked, "missed": missed[:200],
        "false": len(false), "false_per_image": len(false) / images,
        "false_repeating": repeating, "false_once_per_image": (len(false) - repeating) / images,
    }  # fmt: skip


def _alerts_by_image(facts: Facts) -> dict[tuple[str, str], list[Row]]:
    names = _detector_numbers(facts)
    found: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in facts.alerts:
        if "error" not in row:
            obs_id, number = _image(facts, row)
            found[obs_id, names.get(number, str(number))].append(row)
    return found


def _exposure_of_sky(facts: Facts, fact: Row) -> int:
    """Return a number that is the same for visits that replay the same real exposure."""
    replayed = facts.night.get("skyFacts", {}).get("science", [])
    return int(fact["visit"]) % len(replayed) if replayed else int(fact["visit"])


def _repeating(false: list[tuple[int, Row]]) -> int:
    exposures: dict[Any, set[int]] = defaultdict(set)
    for number, row in false:
        exposures[row.get("diaObjectId", row["diaSourceId"])].add(number)
    return sum(len(exposures[row.get("diaObjectId", row["diaSourceId"])]) > 1 for _, row in false)


def _places(rows: list[Row]) -> Any:
    return np.array([[row["x"], row["y"]] for row in rows]).reshape(-1, 2)


def _firsts(facts: Facts) -> list[Row]:
    """Return the first stamp of each step of each detector."""
    found: dict[tuple[str, str, str], Row] = {}
    for row in facts.ledger:
        if row["obsId"] and row["detector"]:
            found.setdefault((row["obsId"], row["detector"], row["step"]), row)
    return list(found.values())


def _received(facts: Facts) -> dict[tuple[str, int], float]:
    latest: dict[tuple[str, int], float] = {}
    for row in facts.alerts:
        if "error" not in row:
            image = _image(facts, row)
            latest[image] = max(latest.get(image, 0.0), row["received"])
    return latest


def _image(facts: Facts, alert: Row) -> tuple[str, int]:
    number = int(alert["visit"])
    return facts.obs_ids.get(number, str(number)), int(alert["detector"])


def _detector_numbers(facts: Facts) -> dict[int, str]:
    return {int(number): name for name, number in facts.night.get("detectorNumbers", {}).items()}


def _nearest(points: Any, others: Any) -> Any:
    if len(points) == 0 or len(others) == 0:
        return np.full(len(points), np.inf)
    return cKDTree(others).query(points)[0]


def _loss(row: Row) -> str:
    if row["errors"]:
        return "; ".join(f"{site}: {error}" for site, error in row["errors"].items())
    if len(set(row["sites"].values())) != 1:
        return f"digests differ: {row['sites']}"
    wrong = [site for site, right in row["pixels"].items() if not right]
    return f"other pixels than the camera read out at {', '.join(wrong)}" if wrong else ""


def _spread(values: list[float]) -> dict[str, float]:
    return {"median_s": float(np.median(values)), "p98_s": float(np.quantile(values, 0.98))}


def _sentence(row: Row) -> str:
    where = "_".join(part for part in (row["obsId"] or row["groupId"], row["detector"]) if part)
    return f"{row['step']}: {where}: {row['reason']}"
