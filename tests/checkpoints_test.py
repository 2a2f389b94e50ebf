"""Checkpoints are found, read, and refused by name."""

import json
import pathlib

import numpy as np
import pytest
import tensorflow as tf

from model.deeplabv3 import deeplabv3
from training.checkpoints import Checkpoints, load_weights, read_weights


def test_weights_are_read_from_a_run_a_folder_or_a_checkpoint(tmp_path):
    model = deeplabv3("resnet_tiny")
    run = tmp_path / "run"
    for step in (1, 2):
        model.get_layer("logits").bias.assign(np.full(21, step))
        Checkpoints(run, model).save(step)
    expected = {weight.path: weight.numpy() for weight in model.weights}
    for path in (run, run / "checkpoints", run / "checkpoints" / "ckpt-2"):
        weights = read_weights(path)
        assert weights.keys() == expected.keys()
        for name, value in weights.items():
            np.testing.assert_array_equal(value, expected[name], err_msg=name)
    older = read_weights(run / "checkpoints" / "ckpt-1")
    np.testing.assert_array_equal(older["logits/bias"], np.ones(21))


def test_what_holds_no_weights_of_ours_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match="no checkpoint in .*train that run first"):
        read_weights(tmp_path)
    other = tf.train.Checkpoint(x=tf.Variable(1.0)).write(str(tmp_path / "other"))
    with pytest.raises(ValueError, match="other does not hold a model of this project"):
        read_weights(pathlib.Path(other))
    index = tmp_path / "other.index"
    index.write_bytes(index.read_bytes()[:20])
    with pytest.raises(ValueError, match="other is damaged"):
        read_weights(tmp_path / "other")


def test_the_last_ones_are_kept_and_the_newest_undamaged_one_is_restored(tmp_path, capsys):
    model = deeplabv3("resnet_tiny")
    checkpoints = Checkpoints(tmp_path, model)
    assert not checkpoints.exist() and checkpoints.restore() is None
    for step in (800, 900, 1000, 1100):
        model.get_layer("logits").bias.assign(np.full(21, step))
        checkpoints.save(step)
    steps = sorted(int(p.stem.partition("-")[2]) for p in tmp_path.glob("checkpoints/*.index"))
    assert steps == [900, 1000, 1100] and checkpoints.exist()
    assert Checkpoints(tmp_path, model).restore() == 1100  # As a number, not as text.
    index = tmp_path / "checkpoints" / "ckpt-1100.index"
    index.write_bytes(index.read_bytes()[:20])
    assert load_weights(model, tmp_path) == 1000
    assert "ckpt-1100 is damaged" in capsys.readouterr().out
    np.testing.assert_array_equal(model.get_layer("logits").bias.numpy(), np.full(21, 1000))


def test_the_best_weights_are_kept_apart(tmp_path):
    model = deeplabv3("resnet_tiny")
    checkpoints = Checkpoints(tmp_path, model)
    for step, miou in ((1, 0.3), (2, 0.5), (3, 0.4), (4, 0.5)):
        model.get_layer("logits").bias.assign(np.full(21, step))
        checkpoints.save_best(step, miou, "shapes, val")
    assert json.loads((tmp_path / "best.json").read_text()) == {
        "step": 2,
        "miou": 0.5,
        "chosen_on": "shapes, val",
    }
    np.testing.assert_array_equal(read_weights(tmp_path / "best")["logits/bias"], np.full(21, 2))
    assert not checkpoints.exist()


def test_the_last_the_best_and_any_kept_step_are_loaded_by_name(tmp_path):
    model = deeplabv3("resnet_tiny")
    with pytest.raises(FileNotFoundError, match="has no checkpoint"):
        load_weights(model, tmp_path)
    checkpoints = Checkpoints(tmp_path, model)
    for step, miou in ((800, 0.3), (900, 0.5), (1000, 0.4), (1100, 0.4), (1200, 0.4)):
        model.get_layer("logits").bias.assign(np.full(21, step))
        checkpoints.save(step)
        checkpoints.save_best(step, miou, "shapes, val")
    steps = {"last": 1200, "best": 900, "900": 900, "1000": 1000, 1100: 1100, "1200": 1200}
    for name, step in steps.items():
        assert load_weights(model, tmp_path, name) == step
        np.testing.assert_array_equal(model.get_layer("logits").bias.numpy(), np.full(21, step))
    there = r"there are last \(step 1200\), best \(step 900\), 900, 1000, 1100, 1200\."
    for name in ("17", 800, "newest"):
        with pytest.raises(ValueError, match=f"does not keep the checkpoint {name}; {there}"):
            load_weights(model, tmp_path, name)
