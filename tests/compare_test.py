"""Two evaluations side by side: paired, under one protocol, or refused."""

import json

import numpy as np
import pytest

from evaluation.counts import Counts
from evaluation.metrics import confusion_matrix, iou_per_class, mean_iou
from evaluation.protocol import protocol_hash
from evaluation.results import read_evaluation, write_counts
from evaluation.scores import compute_scores
from experiments.compare import check_protocols, compare, differences


def counts_of(right, seed=0, number=40):
    """Images of which about that share of the pixels is right, each harder or easier."""
    rng, confusions = np.random.default_rng(seed), []
    for _ in range(number):
        label = rng.integers(0, 3, (20, 20))
        wrong = rng.random(label.shape) > np.clip(right + rng.normal(0, 0.1), 0, 1)
        prediction = np.where(wrong, (label + 1) % 3, label)
        confusions.append(confusion_matrix(label, prediction, num_classes=3, ignore_label=255))
    ids = [f"image{i}" for i in range(number)]
    return Counts(ids, np.stack(confusions), np.zeros((10, 3, 3)), np.ones((3, 2)), "x")


def test_a_difference_is_that_of_the_whole_split_and_its_interval_paired():
    ours, theirs = counts_of(0.7), counts_of(0.75)
    change, bounds = differences(ours, theirs)
    confusions = [counts.confusions.sum(0) for counts in (ours, theirs)]
    assert change[-1] == pytest.approx(mean_iou(confusions[1]) - mean_iou(confusions[0]))
    np.testing.assert_allclose(change[:-1], np.subtract(*map(iou_per_class, confusions[::-1])))
    assert (bounds[:, 0] < change).all() and (change < bounds[:, 1]).all()
    assert (
        bounds[-1, 0] > 0
    )  # Paired: the same images are as hard for both. Unpaired it would be inconclusive.
    assert ": significant" in compare(ours, theirs, ["a", "b", "c"])


def test_a_class_that_no_label_has_is_in_neither_mean():
    """One pixel is predicted as it, in one of two evaluations that are else the same."""
    ours = counts_of(0.7)
    confusions = np.pad(ours.confusions, [(0, 0), (0, 1), (0, 1)])
    ours, other = ours._replace(confusions=confusions), confusions.copy()
    other[0, 0, 3], other[0, 0, 0] = 1, other[0, 0, 0] - 1
    change, bounds = differences(ours, ours._replace(confusions=other))
    assert np.isnan(change[3]) and -1e-3 < change[-1] < 0 and bounds[-1, 1] == 0


def test_a_class_that_no_label_has_has_no_difference():
    ours = counts_of(0.7)
    confusions = np.pad(ours.confusions, [(0, 0), (0, 1), (0, 1)])
    both = [ours._replace(confusions=confusions) for _ in range(2)]
    change, bounds = differences(*both)
    assert np.isnan(change[3]) and np.isnan(bounds[3]).all() and change[-1] == 0
    (row,) = [line for line in compare(*both, list("abcd")).splitlines() if line.startswith("d ")]
    assert row.split() == ["d", "-", "-", "-", "-"]


def test_a_run_beside_itself_has_no_difference():
    ours = counts_of(0.7)
    assert not any(values.any() for values in differences(ours, ours))
    assert ": inconclusive" in compare(ours, ours, ["a", "b", "c"])


def test_the_images_that_moved_most_are_named_first():
    ours = counts_of(0.7)
    confusions = ours.confusions.copy()
    confusions[17] = np.diag([400, 0, 0])
    said = compare(ours, ours._replace(confusions=confusions), ["a", "b", "c"])
    moved = said.split("images that changed most")[1].splitlines()
    assert moved[1].startswith("image17 ")


def test_other_images_or_protocols_or_classes_are_refused():
    ours = counts_of(0.7)
    with pytest.raises(ValueError, match="not of the same images"):
        differences(ours, ours._replace(ids=ours.ids[::-1]))
    with pytest.raises(ValueError, match="not of the same images and labels"):
        differences(ours, ours._replace(labels_sha256="y"))
    first = {"iou_per_class": {"a": 1}, "protocol": {"output_stride": 16, "hash": "x"}}
    second = {"iou_per_class": {"a": 1}, "protocol": {"output_stride": 8, "hash": "y"}}
    with pytest.raises(ValueError, match="different protocols:\n  output_stride: 16, 8\n"):
        check_protocols(first, second)
    assert "output_stride: 16, 8" in check_protocols(first, second, mix=True)
    assert not check_protocols(first, first)
    with pytest.raises(ValueError, match="different classes"):
        check_protocols(first, {**first, "iou_per_class": {"b": 1}}, mix=True)


def test_an_evaluation_is_read_with_its_counts(tmp_path):
    with pytest.raises(FileNotFoundError, match="eval.json is missing; create it with"):
        read_evaluation(tmp_path)
    counts = counts_of(0.7)
    protocol = {"split": "val"}
    result = {
        **compute_scores(counts, ["a", "b", "c"]),
        "protocol": {**protocol, "hash": protocol_hash(protocol)},
    }
    file = tmp_path / "eval.json"
    file.write_text(json.dumps(result))
    with pytest.raises(FileNotFoundError, match="eval.npz is missing"):
        read_evaluation(tmp_path)
    write_counts(tmp_path / "eval.npz", counts)
    for path in (tmp_path, file, tmp_path / "eval.npz"):
        read, counts = read_evaluation(path)
        assert read == json.loads(file.read_text()) and len(counts.ids) == 40
    file.write_text(json.dumps({**result, "protocol": {**result["protocol"], "split": "test"}}))
    with pytest.raises(ValueError, match="was changed: its protocol has not the hash"):
        read_evaluation(tmp_path)
    file.write_text(json.dumps({**result, "iou_per_class": {"a": 1, "b": 1, "c": 1}}))
    with pytest.raises(ValueError, match="of different evaluations"):
        read_evaluation(tmp_path)
    for damaged in ("[]", "{}", json.dumps({**result, "protocol": None})):
        file.write_text(damaged)
        with pytest.raises(ValueError, match="not of eval.py"):
            read_evaluation(tmp_path)
