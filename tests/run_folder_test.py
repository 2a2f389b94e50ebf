"""A run's folder: made once, refused to another config, never half-written."""

import json

import pytest

from data.files import write_json
from experiments import base
from model.deeplabv3 import deeplabv3
from training.checkpoints import load_weights
from training.run_folder import open_run, read_config, write_data


def test_a_config_is_read_back_as_it_was_written(tmp_path):
    config = base.get_config("shapes")
    open_run(tmp_path / "run", base.as_data(config))
    assert json.loads(read_config(tmp_path / "run").to_json()) == json.loads(config.to_json())
    open_run(tmp_path / "run", base.as_data(config))  # The same again resumes.


def test_a_run_of_another_config_is_refused_with_what_differs(tmp_path):
    open_run(tmp_path, base.as_data(base.get_config("shapes")))
    before = (tmp_path / "config.json").read_bytes()
    other = base.make_config("base", {"model.multi_grid": (1, 1, 1), "steps": 7}, "shapes")
    with pytest.raises(FileExistsError, match="another --workdir") as error:
        open_run(tmp_path, base.as_data(other))
    assert "model.multi_grid: [1, 2, 4] (saved), [1, 1, 1] (requested)" in str(error.value)
    assert "steps" in str(error.value) and "learning_rate" not in str(error.value)
    assert (tmp_path / "config.json").read_bytes() == before


def test_what_is_no_run_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match="is not a run folder: config.json is missing"):
        read_config(tmp_path)
    (tmp_path / "config.json").write_text('{"model": ')
    with pytest.raises(ValueError, match="config.json is damaged"):
        read_config(tmp_path)
    config = base.as_data(base.get_config("shapes"))
    del config["eval"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="config.json is damaged: .*eval missing"):
        read_config(tmp_path)
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
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
