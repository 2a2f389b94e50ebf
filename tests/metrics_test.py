"""One confusion matrix, and mIoU from it as a definition over sets of pixels."""

import numpy as np
import pytest

from evaluation.metrics import (
    confusion_matrix,
    frequency_weighted_iou,
    interval,
    iou_per_class,
    mean_accuracy,
    mean_iou,
    mean_over_classes,
    pixel_accuracy,
    resampled_ious,
)

FACTS = dict(num_classes=4, ignore_label=255)


def random_pair(seed, shape=(20, 30)):
    rng = np.random.default_rng(seed)
    label = rng.choice([0, 1, 2, 3, 255], shape)
    return label, rng.integers(0, 4, shape)


@pytest.mark.parametrize("seed", range(5))
def test_iou_is_that_of_sets_of_pixels(seed):
    label, prediction = random_pair(seed)
    iou = iou_per_class(confusion_matrix(label, prediction, **FACTS))
    valid = label != 255
    for k in range(4):
        ours, theirs = (label == k) & valid, (prediction == k) & valid
        assert iou[k] == pytest.approx((ours & theirs).sum() / (ours | theirs).sum(), abs=1e-12)


def test_rows_are_labels():
    confusion = confusion_matrix(np.array([2, 2, 1]), np.array([0, 2, 1]), **FACTS)
    assert confusion[2, 0] == confusion[2, 2] == confusion[1, 1] == 1
    assert confusion.sum() == 3


def test_matrices_of_parts_add_up():
    label, prediction = random_pair(0)
    parts = sum(
        confusion_matrix(label[i : i + 7], prediction[i : i + 7], **FACTS) for i in range(0, 20, 7)
    )
    np.testing.assert_array_equal(parts, confusion_matrix(label, prediction, **FACTS))


def test_predictions_on_255_change_nothing():
    label, prediction = random_pair(0)
    other = np.where(label == 255, (prediction + 1) % 4, prediction)
    np.testing.assert_array_equal(
        confusion_matrix(label, prediction, **FACTS), confusion_matrix(label, other, **FACTS)
    )


def test_a_class_that_nobody_saw_has_no_part_in_the_mean():
    confusion = np.diag([5, 5, 0, 0])
    assert mean_iou(confusion) == 1
    assert np.isnan(iou_per_class(confusion)[2:]).all()
    confusion[0, 2] = 5  # Seen where it is not: counted against what is there.
    assert mean_iou(confusion) == pytest.approx((0.5 + 1) / 2)


def test_labels_full_of_255_count_nothing():
    confusion = confusion_matrix(np.full((3, 3), 255), np.zeros((3, 3), int), **FACTS)
    assert confusion.sum() == 0
    assert np.isnan(mean_iou(confusion))


@pytest.mark.parametrize(
    "label, prediction, said",
    [
        (np.array([4]), np.array([0]), "label holds ids from 4 to 4"),
        (np.array([-1]), np.array([0]), "label holds ids from -1"),
        (np.array([0]), np.array([9]), "prediction holds ids from 9"),
        (np.zeros((2, 3)), np.zeros((3, 2)), r"shape \(2, 3\)"),
    ],
)
def test_what_cannot_be_counted_is_refused(label, prediction, said):
    with pytest.raises(ValueError, match=said):
        confusion_matrix(label, prediction, **FACTS)


@pytest.mark.parametrize("seed", range(3))
def test_other_scores_are_those_of_their_definitions(seed):
    label, prediction = random_pair(seed)
    confusion = confusion_matrix(label, prediction, **FACTS)
    label, prediction = label[label != 255], prediction[label != 255]
    assert pixel_accuracy(confusion) == pytest.approx((label == prediction).mean(), abs=1e-12)
    right = [(prediction[label == k] == k).mean() for k in range(4)]
    assert mean_accuracy(confusion) == pytest.approx(np.mean(right), abs=1e-12)
    weighted = sum(iou * (label == k).mean() for k, iou in enumerate(iou_per_class(confusion)))
    assert frequency_weighted_iou(confusion) == pytest.approx(weighted, abs=1e-12)


def test_scores_of_nothing_are_nan():
    for score in (pixel_accuracy, mean_accuracy, frequency_weighted_iou, mean_iou):
        assert np.isnan(score(np.zeros((4, 4), np.int64)))


def test_iou_is_scikit_learns():
    """An independent implementation, where it is installed."""
    sklearn_metrics = pytest.importorskip("sklearn.metrics")
    label, prediction = random_pair(0)
    valid = label != 255
    expected = sklearn_metrics.jaccard_score(label[valid], prediction[valid], average=None)
    ours = iou_per_class(confusion_matrix(label, prediction, **FACTS))
    np.testing.assert_allclose(ours, expected, atol=1e-12)


def matrices(number, seed=0):
    """One for each of some images."""
    return np.stack([confusion_matrix(*random_pair(seed + i), **FACTS) for i in range(number)])


def test_a_resampled_miou_is_that_of_images_drawn_with_replacement():
    confusions = matrices(7)
    values = mean_over_classes(resampled_ious(confusions, samples=50, seed=3))
    times = np.random.default_rng(3).multinomial(7, np.full(7, 1 / 7), size=50)
    for value, drawn in zip(values, times, strict=True):
        images = np.repeat(np.arange(7), drawn)
        assert value == pytest.approx(mean_iou(confusions[images].sum(0)), abs=1e-12)


def test_a_class_that_a_sample_lacks_counts_as_in_the_whole():
    """Two images, of which one alone has class 2: half of the samples lack it."""
    confusions = np.zeros((2, 4, 4), np.int64)
    confusions[:, 0, 0], confusions[0, 2, 2], confusions[0, 2, 0] = 10, 6, 2
    whole = iou_per_class(confusions.sum(0))
    times = np.random.default_rng(0).multinomial(2, [0.5, 0.5], size=40)
    values = mean_over_classes(resampled_ious(confusions, samples=40))
    for value, drawn in zip(values, times, strict=True):
        iou = iou_per_class((drawn[:, None, None] * confusions).sum(0))
        expected = np.where(np.isnan(iou), whole, iou)[[0, 2]].mean()
        assert value == pytest.approx(expected)


def test_an_interval_holds_the_truth_as_often_as_it_says():
    """400 splits of 30 images: mIoU of all of them lies in 95 % of the intervals, or nearly."""
    population = matrices(400)
    rng, truth, held = np.random.default_rng(0), mean_iou(population.sum(0)), 0
    for _ in range(200):
        split = population[rng.choice(400, 30, replace=False)]
        low, high = interval(mean_over_classes(resampled_ious(split, samples=200)))
        held += low <= truth <= high
    assert 0.85 < held / 200 <= 1
