"""Whether our numbers support the paper's conclusions.

A difference of rows depends by chance on the seeds of the trainings and on the images that score
them. Its interval is of both: Student's for the mean over seeds and the normal one of a bootstrap
over images, the same ones for all rows, whose squared widths add up. That counts twice what both
share, and so errs on the side of caution: where the true difference is 0, at most one interval in
twenty does not contain it, however seeds and images share the variance, from two seeds on. A
difference is significant if its interval does not contain 0.

- A claim holds if all of its differences are significant and positive. A positive one is judged by
  its 95% interval, since a claim of several differences is harder to hold, not easier.
- It does not hold if one of them is significant and negative. Of m differences, a negative one is
  judged by its interval of 1 - 5% / m (Bonferroni), since each is one more occasion to refute the
  claim by chance.
- Otherwise it is inconclusive.

Claims are not corrected for one another, and several are about the same trainings.
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
RUN, FAILED, NOT_RUN = "run", "failed", "not run"  # What became of a row.
SIGNIFICANCE = 0.05
MAX_SEEDS_NEEDED, MAX_IMAGES_NEEDED = 100, 1_000_000  # More are not worth a number.


class Score(NamedTuple):
    """A row's evaluation for one seed."""

    result: dict[str, Any]  # The contents of eval.json.
    counts: Counts
    hours: float  # Spent in training steps.
    weights: str  # The name of the file with the weights that the training started from, or "".


def t_interval(values: Sequence[float]) -> list[float] | None:
    """One mIoU per seed -> the 95% Student t interval of their mean; None for a single seed.

    What is below 0 or above 1 of it is cut off: an mIoU cannot be there.
    """
    if len(values) < 2:
        return None
    half = scipy.stats.t.ppf(0.975, len(values) - 1) * scipy.stats.sem(values)
    return [float(max(0, np.mean(values) - half)), float(min(1, np.mean(values) + half))]


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
      with the interval that it is judged by; which of them is decisive; and if the claim is
      inconclusive, how many seeds or images that one needs.
    """
    measured = (measure_difference(terms, table, scores, draws) for terms in claim.differences)
    comparisons = len(claim.differences)
    parts = [part | judge(part, comparisons) for part in measured if part is not None]
    missing, signs = comparisons - len(parts), [significant_sign(part) for part in parts]
    decision = INCONCLUSIVE
    if -1 in signs:
        decision = DOES_NOT_HOLD
    elif not missing and set(signs) == {1}:
        decision = HOLDS
    entry = {"claim": claim.text, "verdict": decision, "parts": parts, "parts_not_run": missing}
    if parts:
        part = decisive_part(parts, decision)
        entry["decisive"] = parts.index(part)
        if decision == INCONCLUSIVE and not missing:
            entry |= {"seeds_needed": seeds_needed(part), "images_needed": images_needed(part)}
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
    return {
        "of": dict(terms),
        "paper": paper_difference(table, terms) / 100,
        "seeds": len(seeds),
        "images": images,
        "difference": float(np.mean(each)),
        "image_error": float(np.std(np.mean(drawn, axis=0))),
        "seed_error": float(scipy.stats.sem(each)) if len(seeds) > 1 else single,
    }


def paper_difference(table: str, terms: Mapping[str, int]) -> float:
    """A table and one of its claims' differences -> the same of the paper's numbers, in points."""
    rows = tables.TABLES[table].ROWS
    return sum(n * rows[row].paper_miou for row, n in terms.items())


def judge(part: Mapping[str, Any], comparisons: int) -> dict[str, Any]:
    """A measured difference, one of several -> the interval that it is judged by, and its level.

    None for the interval if the part's seed_error is unknown.
    """
    confidence = 1 - SIGNIFICANCE / (comparisons if part["difference"] < 0 else 1)
    half = half_width(part, confidence)
    bounds = None if half is None else [part["difference"] - half, part["difference"] + half]
    return {"confidence": confidence, "interval": bounds}


def half_width(
    part: Mapping[str, Any], confidence: float, *, seeds: int | None = None
) -> float | None:
    """A measured difference -> half of its interval's width; None if its seed_error is unknown.

    Args:
      part: as measure_difference returns it.
      confidence: the chance that the interval contains the true difference.
      seeds: how many there would be, in place of those that there are.
    """
    if part["seed_error"] is None:
        return None
    seeds, quantile = seeds or part["seeds"], (1 + confidence) / 2
    of_images = scipy.stats.norm.ppf(quantile) * part["image_error"]
    if not part["seed_error"]:
        return float(of_images)
    error = part["seed_error"] * math.sqrt(part["seeds"] / seeds)
    return math.hypot(scipy.stats.t.ppf(quantile, seeds - 1) * error, of_images)


def significant_sign(part: Mapping[str, Any]) -> int:
    """A judged difference -> 1 or -1 if its interval does not contain 0, else 0."""
    low, high = part["interval"] or (0, 0)
    return int(low > 0) - int(high < 0)


def decisive_part(parts: Sequence[Mapping[str, Any]], decision: str) -> Mapping[str, Any]:
    """All measured differences of a claim, and its verdict -> the one that the verdict rests on.

    The clearest one that refutes the claim, or the weakest of those that confirm it. Of an
    inconclusive claim, the one that would decide it first: a negative one that would refute it with
    the fewest seeds or images, else the positive one that needs the most.
    """
    if decision == HOLDS:
        return min(parts, key=lambda part: part["interval"][0])
    if decision == DOES_NOT_HOLD:
        refuting = [part for part in parts if significant_sign(part) == -1]
        return min(refuting, key=lambda part: part["interval"][1])

    def effort(part):
        return images_needed(part) or 0, seeds_needed(part) or math.inf

    negative = [part for part in parts if part["difference"] < 0]
    return min(negative, key=effort) if negative else max(parts, key=effort)


def seeds_needed(part: Mapping[str, Any]) -> int | None:
    """A judged difference -> about how many seeds would make it significant.

    If it and its errors stay as they were measured, and with any number of images if it needs more
    than there are. None if MAX_SEEDS_NEEDED would not be enough, or if a single seed does not say
    how much seeds differ.
    """
    if images_needed(part):
        part = {**part, "image_error": 0.0}
    for seeds in range(part["seeds"], MAX_SEEDS_NEEDED + 1):
        half = half_width(part, part["confidence"], seeds=seeds)
        if half is not None and half < abs(part["difference"]):
            return seeds
    return None


def images_needed(part: Mapping[str, Any]) -> int | None:
    """A judged difference -> the images without which no seeds make it significant.

    If it and its errors stay as they were measured. Rounded down to two digits, and
    MAX_IMAGES_NEEDED at most. None if there are as many, or if the difference is 0.
    """
    half = scipy.stats.norm.ppf((1 + part["confidence"]) / 2) * part["image_error"]
    if half <= abs(part["difference"]) or not part["difference"]:
        return None
    images = min(part["images"] * (half / part["difference"]) ** 2, MAX_IMAGES_NEEDED)
    unit = 10 ** max(0, math.floor(math.log10(images)) - 1)
    return int(images // unit) * unit
