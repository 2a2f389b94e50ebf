"""The server's files: names, palette, sizes, and all of the images."""

import io
import tarfile

import numpy as np
import pytest
from PIL import Image

from evaluation import voc_submission
from evaluation.submission import write_submission
from evaluation.voc_submission import FOLDER, check_archive

SIZES = {"2008_000001": (5, 7), "2008_000002": (9, 3)}


def predictions(sizes=SIZES):
    rng = np.random.default_rng(0)
    return {name: rng.integers(0, 21, size).astype(np.uint8) for name, size in sizes.items()}


def read(file):
    with tarfile.open(file) as tar:
        return {m.name: np.array(Image.open(tar.extractfile(m))) for m in tar}


def test_it_holds_the_class_ids_where_the_server_looks_for_them(tmp_path):
    write_submission(tmp_path / "results.tgz", voc_submission, predictions().items(), SIZES)
    assert [path.name for path in tmp_path.iterdir()] == ["results.tgz"]
    written = read(tmp_path / "results.tgz")
    assert FOLDER == "results/VOC2012/Segmentation/comp6_test_cls"
    assert written.keys() == {f"{FOLDER}/{name}.png" for name in SIZES}
    for name, ids in predictions().items():
        np.testing.assert_array_equal(written[f"{FOLDER}/{name}.png"], ids)


WRONG = {
    "an image is not there": (lambda p: p.popitem(), "1 images are missing: 2008_000002"),
    "another image": (lambda p: p.update(other=p["2008_000001"]), "other.png does not belong"),
    "another size": (
        lambda p: p.update({"2008_000002": np.zeros((3, 9), np.uint8)}),
        "of size .9, 3., not .3, 9",
    ),
    "no class": (lambda p: p["2008_000001"].fill(255), "holds 255, which is not a class"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_the_server_would_refuse_is_not_written(tmp_path, what):
    spoil, said = WRONG[what]
    wrong = predictions()
    spoil(wrong)
    with pytest.raises(ValueError, match=said):
        write_submission(tmp_path / "results.tgz", voc_submission, wrong.items(), SIZES)
    assert not list(tmp_path.iterdir())


def test_a_picture_without_the_palette_is_refused(tmp_path):
    with tarfile.open(tmp_path / "x.tgz", "w:gz") as tar:
        png = io.BytesIO()
        Image.fromarray(np.zeros((5, 7), np.uint8)).save(png, "PNG")
        member = tarfile.TarInfo(f"{FOLDER}/2008_000001.png")
        member.size = png.tell()
        png.seek(0)
        tar.addfile(member, png)
    with pytest.raises(ValueError, match="does not have VOC's palette"):
        check_archive(tmp_path / "x.tgz", SIZES)
