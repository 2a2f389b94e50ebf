"""Whether our numbers support the paper's conclusions."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy.stats

from evaluation.counts import Counts
from evaluation.metrics import interval
from experiments import tables
from experiments.claims import Claim

HOLDS, DOES_NOT_HOLD, INCONCLUSIVE = VERDICTS = ("holds", "does not hold", "inconclusive")


class Score(NamedTuple):
    """A row's evaluation for one seed."""

    result: dict[str, Any]  # The contents of eval.json.
    counts: Counts
    hours: float  # Spent in training steps.


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
      claim: The claim.
      table: Its table, such as `table5`.
      scores: For each row with a number, `table5/mg111`, its scores by seed.
      draws: For each of them, by seed, [samples] mIoU of resampled images.

    Returns:
      The claim's entry in the table's JSON: its text, verdict and the differences behind it.
    """
    parts = []
    for terms in claim.differences:
        part = measure_difference(terms, table, scores, draws)
        if part is not None:
            parts.append(part)
    signs = [significant_sign(part) for part in parts]
    missing = len(claim.differences) - len(parts)
    decision = INCONCLUSIVE
    if -1 in signs:
        decision = DOES_NOT_HOLD
    elif not missing and all(sign == 1 for sign in signs):
        decision = HOLDS
    return {"claim": claim.text, "verdict": decision, "parts": parts, "parts_not_run": missing}


def measure_difference(
    terms: Mapping[str, int],
    table: str,
    scores: Mapping[str, Mapping[int, Score]],
    draws: Mapping[str, Mapping[int, np.ndarray]],
) -> dict[str, Any] | None:
    """One of a claim's differences, as verdict gets them -> its mean over seeds, and intervals.

    Over the seeds that all of its rows have; None if there are none.
    """
    rows = {f"{table}/{row}": n for row, n in terms.items()}
    seeds = sorted(set.intersection(*(set(scores.get(name, {})) for name in rows)))
    if not seeds:
        return None
    each = [sum(n * scores[r][s].result["miou"] for r, n in rows.items()) for s in seeds]
    drawn = [sum(n * draws[r][s] for r, n in rows.items()) for s in seeds]
    return {
        "of": dict(terms),
        "seeds": len(seeds),
        "one_training": len({tables.row_of(name).shares or name for name in rows}) == 1,
        "difference": float(np.mean(each)),
        "interval": list(interval(np.mean(drawn, axis=0))),
        "seed_interval": t_interval(each),
    }


def significant_sign(part: Mapping[str, Any]) -> int:
    """A measured difference -> 1 or -1 if 0 is outside its intervals, else 0.

    The interval over images always counts; the one over seeds if several training runs were
    compared.
    """
    intervals = [part["interval"]]
    if part["seed_interval"] and not part["one_training"]:
        intervals.append(part["seed_interval"])
    if all(low > 0 for low, _ in intervals):
        return 1
    return -1 if all(high < 0 for _, high in intervals) else 0
