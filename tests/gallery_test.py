"""A page per evaluation: the images it shows, what it says of them, and nothing from elsewhere."""

import re

import numpy as np

from data.pictures import full_palette
from evaluation.boundary import TRIMAP_WIDTHS
from evaluation.counts import Counts
from evaluation.gallery import NUM_SHOWN, select_examples, write_gallery
from evaluation.metrics import confusion_matrix, mean_iou
from evaluation.scores import compute_scores

NAMES = ["background", "cat & dog", "$never^$"]


def counts_of(number):
    """Images of which the k-th has k pixels wrong; their order is mixed."""
    confusions = []
    for k in np.random.default_rng(0).permutation(number):
        label = np.repeat([0, 1], 50).reshape(10, 10)
        prediction = label.copy()
        prediction.flat[:k] = 1
        confusions.append(confusion_matrix(label, prediction, num_classes=3, ignore_label=255))
    confusions = np.stack(confusions)
    trimap = np.stack([confusions.sum(0)] * len(TRIMAP_WIDTHS))
    ids = [f"image{i}" for i in range(number)]
    return Counts(ids, confusions, trimap, np.array([[1, 2], [3, 4], [0, 0]]), "")


def test_worst_median_and_best_are_those_by_miou():
    counts = counts_of(31)
    score = dict(zip(counts.ids, map(mean_iou, counts.confusions), strict=True))
    order = sorted(score, key=score.get)
    kinds = select_examples(counts)
    assert kinds["Worst"] == order[:NUM_SHOWN] and kinds["Best"] == order[::-1][:NUM_SHOWN]
    assert order[15] in kinds["Median"] and len(kinds["Median"]) == NUM_SHOWN


def test_an_image_without_a_valid_pixel_is_not_shown():
    counts = counts_of(3)
    counts.confusions[1] = 0
    assert all("image1" not in ids for ids in select_examples(counts).values())


def test_the_page_needs_no_other_file(tmp_path):
    counts = counts_of(20)
    result = {
        **compute_scores(counts, NAMES),
        "protocol": {"split": "val", "output_stride": 16},
        "step": 7,
        "num_images": 20,
        "official_images": 20,
        "versions": {"keras": "3"},
        "config": {"name": "runs/<x>"},
    }
    label = np.repeat([0, 1], 50).reshape(10, 10)
    images = {name for ids in select_examples(counts).values() for name in ids}
    photo = np.zeros((10, 10, 3), np.uint8)
    shown = [
        ({"id": name.encode(), "image": photo, "label": label}, label.astype(np.uint8))
        for name in images
    ]
    palette = full_palette([[0, 0, 0], [9, 0, 0], [0, 9, 0]])
    write_gallery(tmp_path / "eval.html", result, counts, shown, palette)
    page = (tmp_path / "eval.html").read_text()
    assert "runs/&lt;x&gt;: mIoU" in page and "output_stride 16" in page
    assert page.count("<figure ") == 3 * NUM_SHOWN
    assert 'data-classes="background|cat &amp; dog"' in page
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert sources and all(re.match("data:image/(png|jpeg);base64,", source) for source in sources)
    assert [path.name for path in tmp_path.iterdir()] == ["eval.html"]
