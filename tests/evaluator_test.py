"""An evaluation builds the network that it is asked for, and scores a perfect one as perfect."""

import tarfile

import numpy as np
import pytest
from PIL import Image

from data.classes import VOC_CLASS_NAMES, ids_sha256
from data.pipeline import eval_examples
from evaluation.counts import Counts
from evaluation.evaluator import Evaluation
from evaluation.protocol import as_scales
from evaluation.results import read_counts, write_counts
from evaluation.scores import images_said, report
from evaluation.voc_submission import FOLDER
from experiments import base


def evaluation_at(output_stride, shapes_dir, **inference):
    return Evaluation(
        base.get_config("shapes"),
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
        return evaluation.score(step=7)

    perfect = score(lambda label: np.where(label == 255, 0, label))
    assert perfect["miou"] == 1 and perfect["num_images"] == 5 and perfect["step"] == 7
    assert report(perfect).splitlines()[-2].split() == ["mIoU", "100.00"]
    assert perfect["miou_interval"] == (1, 1) and perfect["boundary_iou"] == 1
    assert set(perfect["trimap_miou"].values()) == {1}
    wrong = score(np.zeros_like)
    assert wrong["miou"] < 0.2 and wrong["mean_accuracy"] < 0.2
    low, high = wrong["miou_interval"]
    assert low <= wrong["miou"] <= high


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
    config = base.get_config("shapes")
    config.model.head = "torchvision"
    evaluation = Evaluation(config, split="val", output_stride=16, data_dir=str(shapes_dir))
    assert evaluation.protocol(["a"], "x")["padding"] == "none"


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


def test_a_split_without_labels_is_not_scored(shapes_dir):
    evaluation = evaluation_at(16, shapes_dir)
    pairs = [
        ({**example, "label": np.full_like(example["label"], 255)}, prediction)
        for example, prediction in evaluation.predictions()
    ]
    evaluation.predictions = lambda: pairs
    with pytest.raises(ValueError, match="val of shapes/1.1.0 has no labels.*not scored"):
        evaluation.score(step=7)


def test_some_ids_are_predicted_alone(shapes_dir):
    evaluation = evaluation_at(16, shapes_dir)
    every = {example["id"].decode(): prediction for example, prediction in evaluation.predictions()}
    assert len(every) == 5
    ids = sorted(every)[1::2]
    some = {example["id"].decode(): p for example, p in evaluation.predictions(ids)}
    assert sorted(some) == ids
    for name in ids:
        np.testing.assert_array_equal(some[name], every[name])


def test_a_run_of_other_classes_is_not_scored(shapes_dir):
    evaluation = evaluation_at(16, shapes_dir)
    evaluation.check_class_names(evaluation.class_names)
    with pytest.raises(ValueError, match="aeroplane is plain_disc there, bicycle is"):
        evaluation.check_class_names(VOC_CLASS_NAMES)
    with pytest.raises(ValueError, match="None is fish there"):
        evaluation.check_class_names(evaluation.class_names[:-1])


def test_the_servers_file_is_of_all_of_the_test_split(shapes_dir, tmp_path):
    evaluation = evaluation_at(16, shapes_dir)
    with pytest.raises(ValueError, match="test of voc2012 and cityscapes, not for val of shapes"):
        evaluation.submit(tmp_path / "x.tgz")
    evaluation.builder.name, evaluation.split = "voc2012", "test"
    evaluation.official_images = 6
    with pytest.raises(ValueError, match="takes all 6 images of test; here are 5"):
        evaluation.submit(tmp_path / "x.tgz")
    evaluation.official_images = 5
    with pytest.raises(ValueError, match="takes a .tgz, not x.zip"):
        evaluation.submit(tmp_path / "x.zip")
    evaluation.predictions = lambda: evaluated
    evaluated = list(evaluation_at(16, shapes_dir).predictions())
    evaluation.builder.SPLIT_IDS_SHA256 = {"test": "another"}
    with pytest.raises(ValueError, match="The 5 images .* are not the official ones of test"):
        evaluation.submit(tmp_path / "x.tgz")
    assert not list(tmp_path.iterdir())
    ids = [example["id"].decode() for example, _ in evaluated]
    evaluation.builder.SPLIT_IDS_SHA256 = {"test": ids_sha256(ids)}
    evaluation.submit(tmp_path / "x.tgz")
    with tarfile.open(tmp_path / "x.tgz") as tar:
        assert sorted(tar.getnames()) == [f"{FOLDER}/{name}.png" for name in sorted(ids)]
    evaluated.pop()
    with pytest.raises(ValueError, match="The 4 images"):
        evaluation.submit(tmp_path / "y.tgz")


def test_masks_are_where_the_ids_say_and_nowhere_else(shapes_dir, tmp_path):
    """One's own ids may name folders."""
    evaluation = evaluation_at(16, shapes_dir)
    pairs = list(evaluation.predictions())
    for name in (b"images/a", b"../a"):
        pairs[0][0]["id"] = name
        evaluation.predictions = lambda: pairs
        if name == b"images/a":
            evaluation.score(step=7, masks=tmp_path / "masks")
            written = np.array(Image.open(tmp_path / "masks" / "images" / "a.png"))
            np.testing.assert_array_equal(written, pairs[0][1])
        else:
            with pytest.raises(ValueError, match="would lie outside"):
                evaluation.score(step=7, masks=tmp_path / "masks")


def test_a_part_of_a_split_is_called_one(shapes_dir):
    evaluation = evaluation_at(16, shapes_dir)
    result = evaluation.score(step=7)
    assert images_said(result) == "5 images" and "\n5 images; 95 %" in report(result)
    result["official_images"] = 200
    assert images_said(result) == "5 images (a part: the official split has 200)"


def test_what_is_no_scale_is_refused_where_it_is_read():
    assert as_scales(["1.5", "0.5"]) == (0.5, 1.5)
    for texts in (["0"], ["1", "-1"], ["0.3"], ["nan"], ["inf"]):
        with pytest.raises(ValueError, match="Scales must be multiples of 1/8"):
            as_scales(texts)
    with pytest.raises(ValueError, match="names none"):
        as_scales([])
    with pytest.raises(ValueError, match="--scales=half: could not convert"):
        as_scales(["half"])
