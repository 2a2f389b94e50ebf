"""Whether our numbers bear out what the paper concludes."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy.stats

from evaluation.counts import Counts
from evaluation.metrics import interval
from experiments import tables
from experiments.claims import Claim


class Scored(NamedTuple):
    """A row's number for one seed."""

    result: dict[str, Any]  # What eval.json holds.
    counts: Counts
    hours: float  # That the steps of its training took.


def students(values: Sequence[float]) -> list[float] | None:
    """What seeds gave -> Student's 95 % interval of their mean; None for a single one."""
    if len(values) < 2:
        return None
    half = scipy.stats.t.ppf(0.975, len(values) - 1) * scipy.stats.sem(values)
    return [float(np.mean(values) - half), float(np.mean(values) + half)]


def judge(
    claim: Claim,
    table: str,
    found: Mapping[str, Mapping[int, Scored]],
    draws: Mapping[str, Mapping[int, np.ndarray]],
) -> dict[str, Any]:
    """A claim, and numbers of rows by seed with their drawn mIoU -> whether it holds of them."""
    parts = []
    for terms in claim.sums:
        rows = {f"{table}/{row}": n for row, n in terms.items()}
        seeds = set.intersection(*(set(found.get(name, {})) for name in rows))
        if not seeds:
            continue
        each = [sum(n * found[r][s].result["miou"] for r, n in rows.items()) for s in sorted(seeds)]
        drawn = [sum(n * draws[r][s] for r, n in rows.items()) for s in sorted(seeds)]
        one_training = len({tables.row_of(name).run or name for name in rows}) == 1
        part = {"of": dict(terms), "seeds": len(seeds), "one_training": one_training}
        part["difference"] = float(np.mean(each))
        part["interval"] = list(interval(np.mean(drawn, axis=0)))
        part["seed_interval"] = students(each)
        parts.append(part)
    signs = [sign_of(part) for part in parts]
    verdict = "cannot be told"
    if -1 in signs:
        verdict = "does not hold"
    elif len(parts) == len(claim.sums) and all(sign == 1 for sign in signs):
        verdict = "holds"
    missing = len(claim.sums) - len(parts)
    return {"claim": claim.text, "verdict": verdict, "parts": parts, "parts_not_run": missing}


def sign_of(part: Mapping[str, Any]) -> int:
    """A difference -> 1 or -1 where its intervals say so, else 0.

    That over images always; that over seeds where there are several, and different trainings.
    """
    bounds = [part["interval"]]
    if part["seed_interval"] and not part["one_training"]:
        bounds.append(part["seed_interval"])
    if all(low > 0 for low, _ in bounds):
        return 1
    return -1 if all(high < 0 for _, high in bounds) else 0
