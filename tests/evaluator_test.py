"""An evaluation builds the network that it is asked for, and scores a perfect one as perfect."""

import numpy as np
import pytest
from PIL import Image

from data.classes import VOC_CLASS_NAMES
from data.drawing import ERROR_COLOR
from data.pipeline import eval_examples
from evaluation.evaluator import NUM_SAMPLES, Evaluator
from evaluation.scores import image_count_text, report
from experiments import base
from model.deeplabv3 import deeplabv3


def evaluation_at(output_stride, shapes_dir, *, head="paper", **inference):
    arguments = {**base.get_config("shapes").model, "output_stride": output_stride, "head": head}
    return Evaluator(
        deeplabv3(**arguments),
        dataset="shapes",
        split="val",
        output_stride=output_stride,
        data_dir=str(shapes_dir),
        **inference,
    )


@pytest.mark.parametrize("output_stride", [8, 16, 32])
def test_rates_of_backbone_and_aspp_follow_the_output_stride(shapes_dir, output_stride):
    """Evaluating at 8 must change both; forgetting ASPP's would be silent."""
    model = evaluation_at(output_stride, shapes_dir).model
    rates = {
        name: model.get_layer(f"{name}_conv").dilation_rate[0]
        for name in ("block4_unit1_2", "block4_unit3_2", "aspp_atrous1", "aspp_atrous3")
    }
    dense = 16 / output_stride
    assert list(rates.values()) == [2 * dense, 8 * dense, 2 * dense, 6 * dense]


def test_a_perfect_prediction_scores_1_and_background_alone_little(shapes_dir):
    evaluation = evaluation_at(16, shapes_dir)

    def score(answer):
        labels = {
            example["image"].tobytes(): example["label"]
            for example in eval_examples(evaluation.builder, "val").as_numpy_iterator()
        }
        evaluation.predict = lambda images: [answer(labels[i.tobytes()]) for i in images]
        return evaluation.score(7, {})[0]

    perfect = score(lambda label: np.where(label == 255, 0, label))
    assert perfect["miou"] == 1 and perfect["num_images"] == 5 and perfect["step"] == 7
    assert report(perfect).splitlines()[-2].split() == ["mIoU", "100.00"]
    assert perfect["miou_interval"] == (1, 1) and perfect["boundary_iou"] == 1
    assert set(perfect["trimap_miou"].values()) == {1}
    wrong = score(np.zeros_like)
    assert wrong["miou"] < 0.2 and wrong["mean_accuracy"] < 0.2
    low, high = wrong["miou_interval"]
    assert low <= wrong["miou"] <= high


def test_an_evaluation_without_boundaries_has_all_other_scores(shapes_dir):
    evaluation = evaluation_at(16, shapes_dir)
    whole, counts = evaluation.score(7, {})
    less, fewer = evaluation.score(7, {}, boundaries=False)
    near = {"trimap_miou", "boundary_iou", "boundary_iou_per_class"}
    assert whole.keys() - less.keys() == near
    assert all(less[name] == whole[name] for name in less)
    np.testing.assert_array_equal(fewer.confusions, counts.confusions)
    assert fewer.ids == counts.ids and fewer.trimap is None and fewer.boundary is None
    # A class that no label has takes no part in the mean of boundary IoU.
    there = counts.confusions.sum((0, 2)) > 0
    ious = counts.boundary[there, 0] / np.maximum(counts.boundary[there, 1], 1)
    assert not there.all() and whole["boundary_iou"] == pytest.approx(ious.mean())


def test_the_protocol_is_all_that_numbers_must_share(shapes_dir):
    ids = ["b", "a"]
    ours = evaluation_at(16, shapes_dir).protocol(ids, "x")
    assert ours == evaluation_at(16, shapes_dir).protocol(ids[::-1], "x")
    others = [
        evaluation_at(8, shapes_dir).protocol(ids, "x"),
        evaluation_at(16, shapes_dir, scales=(1, 1.5)).protocol(ids, "x"),
        evaluation_at(16, shapes_dir, flip=True).protocol(ids, "x"),
        evaluation_at(16, shapes_dir).protocol(["a"], "x"),
        evaluation_at(16, shapes_dir).protocol(ids, "y"),
    ]
    assert len({protocol["hash"] for protocol in (ours, *others)}) == 6


def test_the_protocol_says_whether_images_are_padded(shapes_dir):
    padding = evaluation_at(16, shapes_dir).protocol(["a"], "x")["padding"]
    assert padding == "mean pixel, bottom and right, to a multiple of 16, plus 1"
    evaluation = evaluation_at(16, shapes_dir, head="torchvision")
    assert evaluation.protocol(["a"], "x")["padding"] == "none"


def test_a_split_without_labels_is_not_scored(shapes_dir):
    evaluation = evaluation_at(16, shapes_dir)
    pairs = [
        ({**example, "label": np.full_like(example["label"], 255)}, prediction)
        for example, prediction in evaluation.predictions()
    ]
    evaluation.predictions = lambda: pairs
    with pytest.raises(ValueError, match="val of shapes/2.0.0 has no labels.*not scored"):
        evaluation.score(7, {})


def test_some_ids_are_predicted_alone(shapes_dir):
    evaluation = evaluation_at(16, shapes_dir)
    every = {example["id"].decode(): prediction for example, prediction in evaluation.predictions()}
    assert len(every) == 5
    ids = sorted(every)[1::2]
    some = {example["id"].decode(): p for example, p in evaluation.predictions(ids)}
    assert sorted(some) == ids
    for name in ids:
        np.testing.assert_array_equal(some[name], every[name])


def test_samples_show_the_errors_of_a_few_images(shapes_dir):
    evaluation = evaluation_at(16, shapes_dir)
    pairs = list(evaluation.predictions())
    asked = []

    def answer(predict):
        def predictions(ids):
            asked.append(list(ids))
            return [(example, predict(example["label"])) for example, _ in pairs]

        evaluation.predictions = predictions
        images = evaluation.sample_images([example["id"].decode() for example, _ in pairs])
        assert len(images) == 5
        return [(image == ERROR_COLOR).all(-1).sum() for image in images.values()]

    perfect = answer(lambda label: np.where(label == 255, 0, label))
    wrong = answer(lambda label: np.full_like(label, 20))
    assert len(asked[0]) == 5
    assert 0 < max(perfect) < 300 < min(wrong)  # A square in the legend is always red.
    evaluation.predictions = lambda ids: asked.append(list(ids)) or []
    evaluation.sample_images([f"image{i}" for i in range(100)])
    assert len(asked[-1]) == NUM_SAMPLES and asked[-1][0] == "image0"


def test_a_run_of_other_classes_is_not_scored(shapes_dir):
    evaluation = evaluation_at(16, shapes_dir)
    evaluation.check_class_names(evaluation.class_names)
    with pytest.raises(ValueError, match="aeroplane is plain_disc there, bicycle is"):
        evaluation.check_class_names(VOC_CLASS_NAMES)
    with pytest.raises(ValueError, match="None is ladder there"):
        evaluation.check_class_names(evaluation.class_names[:-1])


def test_masks_are_where_the_ids_say_and_nowhere_else(shapes_dir, tmp_path):
    """One's own ids may name folders."""
    evaluation = evaluation_at(16, shapes_dir)
    pairs = list(evaluation.predictions())
    for name in (b"images/a", b"n" * 251, b"../a"):  # 251: NAME.png is as long as a name can be.
        pairs[0][0]["id"] = name
        evaluation.predictions = lambda: pairs
        if name != b"../a":
            evaluation.score(7, {}, masks=tmp_path / "masks")
            written = np.array(Image.open(tmp_path / "masks" / f"{name.decode()}.png"))
            np.testing.assert_array_equal(written, pairs[0][1])
        else:
            with pytest.raises(ValueError, match="would lie outside"):
                evaluation.score(7, {}, masks=tmp_path / "masks")


def test_a_part_of_a_split_is_called_one(shapes_dir):
    evaluation = evaluation_at(16, shapes_dir)
    result, _ = evaluation.score(7, {})
    assert image_count_text(result) == "5 images" and "\n5 images; 95%" in report(result)
    result["official_images"] = 200
    assert image_count_text(result) == "5 images (partial: the official split has 200)"
