"""One confusion matrix, and mIoU from it as a definition over sets of pixels."""

import numpy as np
import pytest

from model.metrics import confusion_matrix, iou_per_class, mean_iou

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
    confusion[0, 2] = 5  # Seen where it is not: counted, with 0.
    assert mean_iou(confusion) == pytest.approx((0.5 + 1 + 0) / 3)


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
