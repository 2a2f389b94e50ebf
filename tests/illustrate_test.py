"""README's picture is of Table 1's runs, and shows images that no prediction chose."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from data.build import open_dataset
from data.pipeline import eval_examples
from experiments import illustrate, tables
from experiments.base import as_data
from model.deeplabv3 import deeplabv3
from training.checkpoints import Checkpoints
from training.run_folder import open_run


@pytest.fixture
def runs(tmp_path):
    for row in illustrate.ROWS:
        config = tables.config_of(f"table1/{row}", "shapes")
        folder = tmp_path / "shapes" / "table1" / row
        open_run(folder, as_data(config))
        Checkpoints(folder, deeplabv3(**config.model)).save(1)
        (folder / "eval.json").write_text(json.dumps({"miou": 0.25}))
    return tmp_path


def test_a_row_of_it_is_image_label_and_three_predictions(runs, shapes_dir, monkeypatch):
    monkeypatch.setattr(illustrate, "MIN_CLASSES", 1)
    monkeypatch.setattr(illustrate, "NUM_IMAGES", 2)
    picture = Image.open(io.BytesIO(illustrate.illustrate(runs, str(shapes_dir))))
    side, gap, top = illustrate.SIDE, illustrate.GAP, illustrate.TITLE_HEIGHT
    assert picture.size == (
        5 * (side + gap) - gap,
        illustrate.TITLE_HEIGHT + 2 * (side + gap) - gap,
    )
    first = next(eval_examples(open_dataset("shapes", str(shapes_dir)), "val").as_numpy_iterator())
    shown = np.asarray(picture.convert("RGB"))[top:][:side, :side]
    expected = Image.fromarray(first["image"]).resize((side, side), Image.Resampling.NEAREST)
    assert np.abs(shown.astype(int) - np.asarray(expected)).mean() < 20  # Of 256 colors.


def test_a_row_that_was_not_run_is_named_with_its_command(runs, tmp_path):
    (runs / "shapes" / "table1" / "os16" / "eval.json").unlink()
    with pytest.raises(FileNotFoundError, match="os16 has not been run: python -m experiments.run"):
        illustrate.illustrate(runs, None)


def test_a_split_of_plain_images_is_refused(shapes_dir, monkeypatch):
    monkeypatch.setattr(illustrate, "MIN_CLASSES", 20)
    with pytest.raises(ValueError, match="val of shapes has too few images with 20 classes"):
        illustrate.choose_examples("shapes", "val", str(shapes_dir))
