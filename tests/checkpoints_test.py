"""Checkpoints are found, read, and refused by name."""

import pathlib

import numpy as np
import pytest
import tensorflow as tf

from model.deeplabv3 import deeplabv3
from training.checkpoints import checkpoint_manager, read_weights, weights_by_name


def test_weights_are_read_from_a_run_a_folder_or_a_checkpoint(tmp_path):
    model = deeplabv3("resnet_tiny")
    checkpoint, run = tf.train.Checkpoint(model=weights_by_name(model)), tmp_path / "run"
    for step in (1, 2):
        model.get_layer("logits").bias.assign(np.full(21, step))
        checkpoint_manager(checkpoint, run).save(step)
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
    with pytest.raises(ValueError, match="other holds no model of this project"):
        read_weights(pathlib.Path(other))
    index = tmp_path / "other.index"
    index.write_bytes(index.read_bytes()[:20])
    with pytest.raises(ValueError, match="other is damaged"):
        read_weights(tmp_path / "other")
