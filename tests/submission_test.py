"""A test split's predictions become the file that its server takes, or nothing is written."""

import tarfile

import pytest

from data.classes import ids_sha256
from evaluation.submission import submit
from evaluation.voc_submission import FOLDER
from tests.evaluator_test import evaluation_at


def test_the_servers_file_is_of_all_of_the_test_split(shapes_dir, tmp_path):
    evaluator = evaluation_at(16, shapes_dir)
    with pytest.raises(ValueError, match="test of voc2012 and cityscapes, not for val of shapes"):
        submit(evaluator, tmp_path / "x.tgz")
    evaluator.builder.name, evaluator.split = "voc2012", "test"
    evaluator.official_images = 6
    with pytest.raises(ValueError, match="takes all 6 images of test; found 5"):
        submit(evaluator, tmp_path / "x.tgz")
    evaluator.official_images = 5
    with pytest.raises(ValueError, match="takes a .tgz, not x.zip"):
        submit(evaluator, tmp_path / "x.zip")
    evaluator.predictions = lambda: evaluated
    evaluated = list(evaluation_at(16, shapes_dir).predictions())
    evaluator.builder.SPLIT_IDS_SHA256 = {"test": "another"}
    with pytest.raises(ValueError, match="The 5 images .* are not the official ones of test"):
        submit(evaluator, tmp_path / "x.tgz")
    assert not list(tmp_path.iterdir())
    ids = [example["id"].decode() for example, _ in evaluated]
    evaluator.builder.SPLIT_IDS_SHA256 = {"test": ids_sha256(ids)}
    submit(evaluator, tmp_path / "x.tgz")
    with tarfile.open(tmp_path / "x.tgz") as tar:
        assert sorted(tar.getnames()) == [f"{FOLDER}/{name}.png" for name in sorted(ids)]
    evaluated.pop()
    with pytest.raises(ValueError, match="The 4 images"):
        submit(evaluator, tmp_path / "y.tgz")
