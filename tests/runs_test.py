"""A run's folder: made once, refused to another config, never half-written."""

import json
import pathlib

import numpy as np
import pytest
import tensorflow as tf

from data.files import write_json
from experiments import base
from experiments.runs import (
    checkpoint_manager,
    load_weights,
    open_run,
    read_config,
    read_weights,
    weights_by_name,
    write_data,
)
from model.deeplabv3 import deeplabv3


def test_a_config_is_read_back_as_it_was_written(tmp_path):
    config = base.get_config("shapes")
    open_run(tmp_path / "run", config)
    assert json.loads(read_config(tmp_path / "run").to_json()) == json.loads(config.to_json())
    open_run(tmp_path / "run", config)  # The same again goes on.


def test_a_run_of_another_config_is_refused_with_what_differs(tmp_path):
    open_run(tmp_path, base.get_config("shapes"))
    before = (tmp_path / "config.json").read_bytes()
    other = base.make_config("base", {"model.multi_grid": (1, 1, 1), "steps": 7}, "shapes")
    with pytest.raises(FileExistsError, match="another --workdir") as error:
        open_run(tmp_path, other)
    assert "model.multi_grid: [1, 2, 4] there, [1, 1, 1] here" in str(error.value)
    assert "steps" in str(error.value) and "learning_rate" not in str(error.value)
    assert (tmp_path / "config.json").read_bytes() == before


def test_what_is_no_run_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match="is no run: it has no config.json"):
        read_config(tmp_path)
    (tmp_path / "config.json").write_text('{"model": ')
    with pytest.raises(ValueError, match="config.json is damaged"):
        read_config(tmp_path)
    with pytest.raises(FileNotFoundError, match="no checkpoint yet"):
        load_weights(deeplabv3("resnet_tiny"), tmp_path)


def test_a_file_is_whole_or_not_there(tmp_path):
    write_json(tmp_path / "eval.json", {"miou": 0.5})
    with pytest.raises(TypeError):
        write_json(tmp_path / "eval.json", {"miou": object()})
    assert json.loads((tmp_path / "eval.json").read_text()) == {"miou": 0.5}
    assert [path.name for path in tmp_path.iterdir()] == ["eval.json"]


def test_a_run_goes_on_with_the_data_it_began_with(shapes_builder, tmp_path):
    write_data(tmp_path, shapes_builder, "train")
    data = json.loads((tmp_path / "data.json").read_text())
    assert data["num_images"] == 24 and len(data["class_names"]) == len(data["palette"]) == 21
    write_data(tmp_path, shapes_builder, "train")
    (tmp_path / "data.json").write_text(json.dumps({**data, "num_images": 25}))
    with pytest.raises(FileExistsError, match="began on other data: num_images in .*data.json"):
        write_data(tmp_path, shapes_builder, "train")


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
