"""eval.json and eval.npz are read back as they were written, or refused."""

import numpy as np
import pytest

from evaluation.counts import Counts
from evaluation.results import read_counts, write_counts


def test_counts_are_read_back_as_they_were_written(tmp_path):
    rng = np.random.default_rng(0)
    counts = Counts(
        ["2007_1", "b"],
        rng.integers(0, 99, (2, 3, 3)),
        rng.integers(0, 99, (10, 3, 3)),
        rng.integers(0, 99, (3, 2)),
        "1f",
    )
    write_counts(tmp_path / "eval.npz", counts)
    read = read_counts(tmp_path / "eval.npz")
    assert (read.ids, read.labels_sha256) == (counts.ids, counts.labels_sha256)
    for ours, theirs in zip(counts[1:4], read[1:4], strict=True):
        np.testing.assert_array_equal(ours, theirs)
    (tmp_path / "eval.npz").write_bytes((tmp_path / "eval.npz").read_bytes()[:200])
    with pytest.raises(ValueError, match="eval.npz is damaged.*Evaluate the run again"):
        read_counts(tmp_path / "eval.npz")
