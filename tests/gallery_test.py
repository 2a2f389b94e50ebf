"""A page per evaluation: the images it shows, what it says of them, and nothing from elsewhere."""

import re

import numpy as np
import pytest

from data.pictures import full_palette
from data.terminal import interval_text, percent
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


def test_worst_typical_and_best_are_those_by_miou():
    counts = counts_of(31)
    score = dict(zip(counts.ids, map(mean_iou, counts.confusions), strict=True))
    order = sorted(score, key=score.get)
    kinds = select_examples(counts)
    assert list(kinds) == ["Worst", "Typical", "Best"]
    assert kinds["Worst"] == order[:NUM_SHOWN] and kinds["Best"] == order[::-1][:NUM_SHOWN]
    assert order[15] in kinds["Typical"] and len(kinds["Typical"]) == NUM_SHOWN


@pytest.mark.parametrize("number", [1, 5, 3 * NUM_SHOWN, 3 * NUM_SHOWN + 1])
def test_no_image_is_shown_twice_and_all_of_a_small_split_are(number):
    counts = counts_of(number)
    shown = [name for names in select_examples(counts).values() for name in names]
    assert len(shown) == len(set(shown)) == min(number, 3 * NUM_SHOWN)


def test_an_image_without_a_valid_pixel_is_not_shown():
    counts = counts_of(3)
    counts.confusions[1] = 0
    assert all("image1" not in ids for ids in select_examples(counts).values())


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The text of a page, which is all that is written, and the content of its eval.json."""
    counts = counts_of(20)
    result = {
        **compute_scores(counts, NAMES),
        "protocol": {
            "dataset": "pets/1.0.0",
            "split": "val",
            "ids_sha256": "0123abc",
            "output_stride": 16,
            "scales": [0.5, 1.0],
            "flip": True,
        },
        "step": 7,
        "checkpoint": "best",
        "num_images": 20,
        "official_images": 20,
        "versions": {"keras": "3"},
        "config": {"name": "base"},
        "commit": "c0ffee",
    }
    label = np.repeat([0, 1], 50).reshape(10, 10)
    images = {name for ids in select_examples(counts).values() for name in ids}
    photo = np.zeros((10, 10, 3), np.uint8)
    shown = [
        ({"id": name.encode(), "image": photo, "label": label}, label.astype(np.uint8))
        for name in images
    ]
    palette = full_palette([[0, 0, 0], [9, 0, 0], [0, 9, 0]])
    folder = tmp_path_factory.mktemp("runs") / "a<b"
    folder.mkdir()
    write_gallery(folder / "eval.html", result, counts, shown, palette)
    assert [path.name for path in folder.iterdir()] == ["eval.html"]
    return (folder / "eval.html").read_text(), result


def test_the_page_begins_with_the_folder_and_the_score(page):
    text, result = page
    miou = percent(result["miou"])
    assert re.search(f"<title>[^<]*/a&lt;b: mIoU {miou} %</title>", text)
    order = [
        f"a&lt;b: mIoU {miou} %</h1>",
        f"95% interval {interval_text(result['miou_interval'])}, 20 images of pets/1.0.0, val.",
        "Checkpoint best, step 7, output stride 16, scales 0.5, 1, flip.",
        "<h2>Worst",
        "<h2>Typical",
        "<h2>Best",
        "<h2>Classes",
        "<h2>Confusion",
        "<h2>Near boundaries",
        "<details>",
        "0123abc",
        "c0ffee",
    ]
    places = [text.index(part) for part in order]
    assert places == sorted(places) and text.count("0123abc") == 1


def test_the_page_names_what_each_image_has(page):
    text, _ = page
    assert text.count("<figure ") == 3 * NUM_SHOWN
    assert 'data-classes="0 1"' in text
    for title in ("image", "label", "prediction", "errors"):
        assert text.count(f"<span>{title}</span>") == 3 * NUM_SHOWN
    # Nineteen of fifty pixels of the background are wrong in the worst image.
    assert f"mIoU {percent((31 / 50 + 50 / 69) / 2)} %" in text
    assert f"cat &amp; dog {percent(50 / 69)}" in text


def test_the_confusion_is_in_percent_of_the_label(page):
    """Image k of 0 to 19 has k pixels of the background wrong, of 50."""
    text, _ = page
    rows = re.findall("<tr>.*?</tr>", text[text.index('<table class="matrix">') :])
    cells = [re.findall("<td[^>]*>(.*?)</td>", row) for row in rows[1:4]]
    assert cells == [["81", "19", ""], ["", "100", ""], ["", "", ""]]


def test_the_page_needs_no_other_file(page):
    sources = re.findall(r'(?:src|href)="([^"]*)"', page[0])
    assert sources and all(re.match("data:image/(png|jpeg);base64,", source) for source in sources)
