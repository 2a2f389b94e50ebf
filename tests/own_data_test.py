"""train.py --data: the facts of a data set, and a scale, make the config."""

import json
import os
import subprocess

import pytest
from absl import flags
from absl.testing import flagsaver
from PIL import Image

import train
from data.build import build
from experiments import base, own_data
from experiments.own_data import (
    MOBILE_SCALE,
    RANDOM_SCALE,
    default_scale,
    describe_start,
    own_data_config,
)
from tests.conftest import ROOT
from tests.folder_test import make_pets, save_colors
from tests.preloaded_python import preloaded_python


def make_config(splits=("train", "val"), images=27, dataset="folder/pets", **arguments):
    arguments = {"scale": RANDOM_SCALE, "overrides": {}, **arguments}
    return own_data_config(dataset, dict.fromkeys(splits, images), 3, **arguments)


@pytest.mark.parametrize("scale", base.SCALES)
def test_splits_and_classes_follow_from_the_data_at_every_scale(scale):
    config = make_config(scale=scale)
    assert config.name == "pets" and config.model.num_classes == 3
    assert config.train_data.dataset == config.eval_data.dataset == "folder/pets"
    assert (config.train_data.split, config.eval_data.split) == ("train", "val")
    assert config.train_data.hard_classes == ()
    assert config.train_data.crop_size == base.get_config(scale).train_data.crop_size


@pytest.mark.parametrize(
    "dataset, splits, chosen",
    [
        ("voc2012", ("val", "train", "trainval", "trainaug", "test"), ("trainaug", "val")),
        (
            "cityscapes",
            ("test", "train_coarse", "train_fine", "val_fine"),
            ("train_fine", "val_fine"),
        ),
    ],
)
def test_the_splits_of_published_data_sets_are_chosen(dataset, splits, chosen):
    config = make_config(splits, dataset=dataset)
    assert (config.train_data.split, config.eval_data.split) == chosen
    assert config.name == dataset


def test_other_splits_are_named_by_the_user():
    with pytest.raises(ValueError, match="has the splits good, bad: .*--config.train_data.split="):
        make_config(("good", "bad"))
    overrides = {"train_data.split": "good", "eval_data.split": "bad"}
    config = make_config(("good", "bad"), overrides=overrides)
    assert (config.train_data.split, config.eval_data.split) == ("good", "bad")


def test_few_images_take_few_steps_unless_the_user_says_how_many():
    assert make_config(images=27).steps == own_data.MAX_EPOCHS * 27 // 8
    assert make_config(images=1).steps == own_data.MIN_STEPS
    assert make_config(images=10_000).steps == base.get_config("voc_small").steps
    assert make_config(overrides={"steps": 60}).steps == 60
    assert make_config(scale="paper").steps == 30_000


def test_the_learning_rate_is_that_for_the_weights_it_starts_from(tmp_path):
    random, paper_rate = make_config(), base.paper_config().learning_rate
    assert not random.init_from.path and random.learning_rate > paper_rate
    assert "random weights" in (said := describe_start(random, 27)) and "are 27." in said
    assert said.endswith(f"--scale={MOBILE_SCALE}")
    config = make_config(scale=MOBILE_SCALE)
    assert (config.model.backbone, config.init_from.path) == ("mobilenet_v2", "imagenet")
    assert config.init_from.part == "backbone" and config.backbone_learning_rate_factor < 1
    assert config.learning_rate == base.get_config(MOBILE_SCALE).learning_rate
    assert "ImageNet's weights" in describe_start(config, 27)
    config = make_config(overrides={"init_from.path": str(tmp_path)})
    assert (config.model, config.learning_rate) == (random.model, paper_rate)
    assert config.init_from.part == "without_logits"  # Of a run, whose classes are others.


def test_a_run_is_continued_with_its_own_network(tmp_path):
    first = make_config(scale=MOBILE_SCALE)
    (tmp_path / "config.json").write_text(first.to_json())
    overrides = {"init_from.path": str(tmp_path), "init_from.part": "whole"}
    for scale in (MOBILE_SCALE, RANDOM_SCALE):
        config = make_config(overrides=overrides, scale=scale)
        assert config.model == first.model and config.init_from.part == "whole"


@pytest.mark.parametrize(
    "dataset, name",
    [
        ("folder/pets", "pets"),
        ("voc2012", "voc2012"),
        ("folder/base", "own_base"),
        ("shapes", "own_shapes"),
        ("folder/table5", "own_table5"),
    ],
)
def test_a_run_of_own_data_takes_no_folder_of_the_papers_runs(dataset, name):
    assert own_data.default_run_name(dataset) == name


def test_imagenets_weights_are_found_and_a_run_keeps_its_start(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    run = tmp_path / "run"
    assert default_scale(run, {}) == RANDOM_SCALE
    assert default_scale(run, {"init_from.path": "deeplabv3.tflite"}) == MOBILE_SCALE
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / own_data.IMAGENET_FILE).touch()
    assert default_scale(run, {}) == MOBILE_SCALE
    for own in ({"init_from.path": ""}, {"model.backbone": "resnet_tiny"}):
        assert default_scale(run, own) == RANDOM_SCALE
    run.mkdir()
    narrow = make_config(scale=MOBILE_SCALE, overrides={"model.backbone": "mobilenet_v2_050"})
    (run / "config.json").write_text(narrow.to_json())
    assert default_scale(run, {"model.backbone": "mobilenet_v2_050"}) == MOBILE_SCALE
    (run / "config.json").write_text(make_config().to_json())
    assert default_scale(run, {}) == RANDOM_SCALE  # It began before they were downloaded.


def run_program(name, *arguments, folder):
    return subprocess.run(
        [preloaded_python(), ROOT / name, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "TFDS_DATA_DIR": str(folder), "KERAS_HOME": str(folder / "keras")},
    )


def test_own_photos_go_from_shards_to_a_mask_without_a_number(tmp_path):
    make_pets(tmp_path / "pets", save_colors)
    build("folder/pets", str(tmp_path), str(tmp_path / "pets"), accept=True)
    few = ("--config.steps=1", "--config.train_data.crop_size=33", f"--workdir={tmp_path / 'run'}")
    done = run_program("train.py", "--data=folder/pets", *few, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Starting from random weights" in done.stdout and "there are 11" in done.stdout
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["model"]["num_classes"] == 3 and config["train_data"]["crop_size"] == 33
    photo = tmp_path / "pets" / "images" / "pet00.jpg"
    where = (f"--run={tmp_path / 'run'}", f"--output={tmp_path / 'masks'}")
    done = run_program("predict.py", *where, str(photo), folder=tmp_path)
    assert done.returncode == 0, done.stderr
    mask = Image.open(tmp_path / "masks" / "pet00_mask.png")
    assert mask.getpalette()[:9] == [0, 0, 0, 0, 0, 255, 255, 0, 0]


@pytest.mark.parametrize(
    "given, said",
    [
        (["--data=folder/pest"], "python -m data.build folder/pest"),
        (["--data=shapes", "--scale=tiny"], "<paper|shapes|voc_small|voc_mobile|voc_mobile_aspp>"),
        (["--data=shapes", "--config=experiments/base.py"], "leave --config=FILE out"),
        (["--scale=shapes"], "--scale goes with --data"),
    ],
)
def test_wrong_flags_name_what_there_is(given, said, tmp_path):
    errors = (ValueError, OSError, flags.IllegalFlagValueError)
    with flagsaver.flagsaver(), pytest.raises(errors) as told:
        flags.FLAGS(["train.py", f"--data_dir={tmp_path}", *given])
        train.config_from_flags()
    assert said in str(told.value)
