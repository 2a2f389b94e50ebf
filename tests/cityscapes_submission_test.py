"""Cityscapes' file for the server: labelIds, one picture for each photo."""

import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from data.cityscapes import to_train_ids
from evaluation import cityscapes_submission
from evaluation.submission import write_submission

SIZES = {"berlin_000000_000019": (5, 7), "bonn_000001_000019": (9, 3)}


def predictions(sizes=SIZES):
    rng = np.random.default_rng(0)
    return {name: rng.integers(0, 19, size).astype(np.uint8) for name, size in sizes.items()}


def test_it_holds_the_label_ids_of_the_classes(tmp_path):
    write_submission(tmp_path / "results.zip", cityscapes_submission, predictions().items(), SIZES)
    assert [path.name for path in tmp_path.iterdir()] == ["results.zip"]
    with zipfile.ZipFile(tmp_path / "results.zip") as archive:
        assert set(archive.namelist()) == {f"{name}.png" for name in SIZES}
        for name, ids in predictions().items():
            label_ids = np.array(Image.open(io.BytesIO(archive.read(f"{name}.png"))))
            assert label_ids.min() >= 7  # Below that nothing is scored.
            np.testing.assert_array_equal(to_train_ids(label_ids, name), ids)


WRONG = {
    "an image is not there": (lambda p: p.popitem(), "1 PNGs are not one for each of 2"),
    "another image": (lambda p: p.update(other=p["bonn_000001_000019"]), "3 PNGs"),
    "another size": (
        lambda p: p.update({"bonn_000001_000019": np.zeros((3, 9), np.uint8)}),
        "is of size .9, 3., unlike its image",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_the_server_would_refuse_is_not_written(tmp_path, what):
    spoil, said = WRONG[what]
    wrong = predictions()
    spoil(wrong)
    with pytest.raises(ValueError, match=said):
        write_submission(tmp_path / "results.zip", cityscapes_submission, wrong.items(), SIZES)
    assert not list(tmp_path.iterdir())
