"""Whether our numbers support the paper's conclusions.

A difference of rows depends by chance on the seeds of the trainings and on the images that score
them. Its interval is of both: Student's for the mean over seeds and the normal one of a bootstrap
over images, the same ones for all rows, whose squared widths add up. That counts twice what both
share, and so errs on the side of caution: where the true difference is 0, at most one interval in
twenty does not contain it, however seeds and images share the variance, from two seeds on. A
difference is significant if its interval does not contain 0.

- A claim holds if all of its differences are significant and positive. Each is tested at 5%, since
  a claim of several differences is harder to hold, not easier.
- It does not hold if one of them is significant and negative. With m differences, each is tested
  at 5% / m (Bonferroni), since each is one more occasion to refute it by chance.
- Otherwise it is inconclusive.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy.stats

from evaluation.counts import Counts
from experiments import tables
from experiments.claims import Claim

HOLDS, DOES_NOT_HOLD, INCONCLUSIVE = VERDICTS = ("holds", "does not hold", "inconclusive")
SIGNIFICANCE = 0.05
MAX_SEEDS_NEEDED = 100  # More are not worth a number.


class Score(NamedTuple):
    """A row's evaluation for one seed."""

    result: dict[str, Any]  # The contents of eval.json.
    counts: Counts
    hours: float  # Spent in training steps.
    weights: str  # The name of the file with the weights that the training started from, or "".


def t_interval(values: Sequence[float]) -> list[float] | None:
    """One value per seed -> the 95% Student t interval of their mean; None for a single seed."""
    if len(values) < 2:
        return None
    half = scipy.stats.t.ppf(0.975, len(values) - 1) * scipy.stats.sem(values)
    return [float(np.mean(values) - half), float(np.mean(values) + half)]


def verdict(
    claim: Claim,
    table: str,
    scores: Mapping[str, Mapping[int, Score]],
    draws: Mapping[str, Mapping[int, np.ndarray]],
) -> dict[str, Any]:
    """Decides a claim of the paper.

    Args:
      claim: the claim.
      table: its table, such as `table5`.
      scores: for each row with a number, `table5/mg111`, its scores by seed.
      draws: for each of them, by seed, [samples] mIoU of resampled images.

    Returns:
      The claim's entry in the table's JSON: its text, verdict and the differences behind it, each
      with the interval that it is judged by; and what would decide it, if it is inconclusive.
    """
    measured = (measure_difference(terms, table, scores, draws) for terms in claim.differences)
    parts = [part for part in measured if part is not None]
    missing, comparisons = len(claim.differences) - len(parts), len(claim.differences)
    decision = INCONCLUSIVE
    if any(significant_sign(part, comparisons) == -1 for part in parts):
        decision = DOES_NOT_HOLD
    elif not missing and all(significant_sign(part) == 1 for part in parts):
        decision = HOLDS
    entry = {"claim": claim.text, "verdict": decision, "parts": parts, "parts_not_run": missing}
    if decision == INCONCLUSIVE and not missing:
        entry["seeds_needed"] = seeds_needed(parts)
        entry["images_needed"] = images_needed(parts)
    return entry


def measure_difference(
    terms: Mapping[str, int],
    table: str,
    scores: Mapping[str, Mapping[int, Score]],
    draws: Mapping[str, Mapping[int, np.ndarray]],
) -> dict[str, Any] | None:
    """One of a claim's differences, as verdict gets them -> its mean over seeds, and its errors.

    Over the seeds that all of its rows have; None if there are none. paper: the paper's difference.
    seed_error is None for a single seed, and 0 then where only the evaluation differs: what is said
    of one training does not depend on others.
    """
    rows = {f"{table}/{row}": n for row, n in terms.items()}
    seeds = sorted(set.intersection(*(set(scores.get(name, {})) for name in rows)))
    if not seeds:
        return None
    each = [sum(n * scores[r][s].result["miou"] for r, n in rows.items()) for s in seeds]
    drawn = [sum(n * draws[r][s] for r, n in rows.items()) for s in seeds]
    images = len(scores[next(iter(rows))][seeds[0]].counts.ids)
    one_training = len({tables.row_of(name).shares or name for name in rows}) == 1
    single = 0.0 if one_training else None
    part = {
        "of": dict(terms),
        "paper": paper_difference(table, terms) / 100,
        "seeds": len(seeds),
        "images": images,
        "difference": float(np.mean(each)),
        "image_error": float(np.std(np.mean(drawn, axis=0))),
        "seed_error": float(scipy.stats.sem(each)) if len(seeds) > 1 else single,
    }
    half = half_width(part)
    bounds = None if half is None else [part["difference"] - half, part["difference"] + half]
    return part | {"interval": bounds}


def paper_difference(table: str, terms: Mapping[str, int]) -> float:
    """A table and one of its claims' differences -> the same of the paper's numbers, in points."""
    rows = tables.TABLES[table].ROWS
    return sum(n * rows[row].paper_miou for row, n in terms.items())


def half_width(
    part: Mapping[str, Any], *, significance: float = SIGNIFICANCE, seeds: int | None = None
) -> float | None:
    """A measured difference -> half of its interval's width; None if its seed_error is unknown.

    Args:
      part: as measure_difference returns it.
      significance: the chance that the interval does not contain the true difference.
      seeds: how many there would be, in place of those that there are.
    """
    if part["seed_error"] is None:
        return None
    seeds = seeds or part["seeds"]
    of_images = scipy.stats.norm.ppf(1 - significance / 2) * part["image_error"]
    if not part["seed_error"]:
        return float(of_images)
    error = part["seed_error"] * math.sqrt(part["seeds"] / seeds)
    return math.hypot(scipy.stats.t.ppf(1 - significance / 2, seeds - 1) * error, of_images)


def significant_sign(part: Mapping[str, Any], comparisons: int = 1) -> int:
    """A measured difference -> 1 or -1 if it is significant, else 0.

    comparisons: among how many differences it is looked for.
    """
    half = half_width(part, significance=SIGNIFICANCE / comparisons)
    if half is None or abs(part["difference"]) <= half:
        return 0
    return 1 if part["difference"] > 0 else -1


def seeds_needed(parts: Sequence[Mapping[str, Any]]) -> int | None:
    """All differences of an inconclusive claim -> about how many seeds would decide it.

    If the differences and their errors stay as they were measured: to refute it where one of them
    is negative, else to confirm it. None if MAX_SEEDS_NEEDED would not be enough with these images,
    or if a single seed does not say how much seeds differ.
    """

    def needed(part, significance):
        for seeds in range(part["seeds"], MAX_SEEDS_NEEDED + 1):
            half = half_width(part, significance=significance, seeds=seeds)
            if half is None:
                return math.inf
            if half < abs(part["difference"]):
                return seeds
        return math.inf

    seeds = _until_decided(parts, needed)
    return None if math.isinf(seeds) else seeds


def images_needed(parts: Sequence[Mapping[str, Any]]) -> int | None:
    """All differences of an inconclusive claim -> the images without which no seeds decide it.

    On the assumptions of seeds_needed; rounded to two digits. None if there are as many, or if a
    difference is 0.
    """

    def needed(part, significance):
        half = scipy.stats.norm.ppf(1 - significance / 2) * part["image_error"]
        if not part["difference"]:
            return math.inf
        return part["images"] * (half / part["difference"]) ** 2

    images = _until_decided(parts, needed)
    if math.isinf(images) or images <= parts[0]["images"]:
        return None
    return int(float(f"{images:.1e}"))


def _until_decided(parts, needed):
    """Differences of a claim, and what each needs at a significance -> what the claim needs."""
    negative = [needed(part, SIGNIFICANCE / len(parts)) for part in parts if part["difference"] < 0]
    return min(negative) if negative else max(needed(part, SIGNIFICANCE) for part in parts)
