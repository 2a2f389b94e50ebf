"""The training loop: what a step does, and that a run that was stopped ends as one that was not."""

import csv
import json
import pathlib

import numpy as np
import pytest
import tensorflow as tf

import train
from data import shapes
from data.build import build
from deployment.exporter import Exporter
from evaluation.evaluator import Evaluator
from experiments import base
from model.deeplabv3 import deeplabv3
from tests.folder_test import make_pets, save_colors
from training import recorder
from training.checkpoints import load_weights, read_weights

SMALL = {
    "steps": 8,
    "eval_every": 5,
    "model.backbone": "resnet_tiny",
    "train_data.batch_size": 4,
    "train_data.crop_size": 33,
}


def small_config(**overrides):
    config = base.get_config("shapes")
    config.update_from_flattened_dict({**SMALL, **overrides})
    return config


def checkpoint_of(run):
    reader = tf.train.load_checkpoint(tf.train.latest_checkpoint(run / "checkpoints"))
    return {
        name: reader.get_tensor(name)
        for name in reader.get_variable_to_shape_map()
        if name.endswith("VARIABLE_VALUE") and not name.startswith("save_counter")
    }


def log_of(run):
    with (run / "log.csv").open() as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def interrupted_after(monkeypatch, steps):
    """Ctrl-C as soon as that many steps were taken."""
    make_train_step = train.make_train_step

    def make(*arguments, **options):
        train_step, taken = make_train_step(*arguments, **options), []

        def step(*batch):
            taken.append(train_step(*batch))
            if len(taken) == steps:
                raise KeyboardInterrupt
            return taken[-1]

        return step

    monkeypatch.setattr(train, "make_train_step", make)


def test_a_stopped_run_ends_with_the_weights_of_one_that_was_not(shapes_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(recorder, "STEPS_BETWEEN_LOGS", 2)
    config = small_config()
    train.train(config, tmp_path / "whole", str(shapes_dir))
    for steps in (3, 4):  # Ctrl-C at step 3, and again at 7, after the evaluation at 5.
        with monkeypatch.context() as patch:
            interrupted_after(patch, steps)
            with pytest.raises(KeyboardInterrupt):
                train.train(config, tmp_path / "stopped", str(shapes_dir))
    train.train(config, tmp_path / "stopped", str(shapes_dir))
    whole, stopped = checkpoint_of(tmp_path / "whole"), checkpoint_of(tmp_path / "stopped")
    assert whole.keys() == stopped.keys()
    assert len([name for name in whole if name.startswith("optimizer")]) > 50
    assert any("dropout" in name for name in whole)
    for name in whole:
        np.testing.assert_array_equal(whole[name], stopped[name], err_msg=name)
    assert [row["step"] for row in log_of(tmp_path / "stopped")] == [2, 4, 6, 8]
    assert len(list((tmp_path / "stopped" / "checkpoints").glob("*.index"))) <= 3


def test_a_run_that_builds_its_data_set_equals_one_that_finds_it(tmp_path, monkeypatch):
    """Building draws from Python's random numbers, from which the initial weights come too."""
    monkeypatch.setattr(shapes, "NUM_IMAGES", {"train": 8, "val": 2})
    for name in ("builds", "finds"):
        train.train(small_config(steps=1), tmp_path / name, str(tmp_path / "data"))
    builds, finds = checkpoint_of(tmp_path / "builds"), checkpoint_of(tmp_path / "finds")
    for name in builds:
        np.testing.assert_array_equal(builds[name], finds[name], err_msg=name)


def test_a_finished_run_is_evaluated_again_not_trained_again(shapes_dir, tmp_path, capsys):
    config = small_config(steps=2)
    train.train(config, tmp_path, str(shapes_dir))
    before, result = checkpoint_of(tmp_path), (tmp_path / "eval.json").read_bytes()
    train.train(config, tmp_path, str(shapes_dir))
    assert "from step 2" in capsys.readouterr().out
    for name, value in checkpoint_of(tmp_path).items():
        np.testing.assert_array_equal(value, before[name])
    assert (tmp_path / "eval.json").read_bytes() == result


def test_nothing_is_left_of_a_config_that_cannot_be_run(shapes_dir, tmp_path):
    for overrides in (
        {"model.output_stride": 64},
        {"model.num_classes": 5},
        {"steps": 0},
        {"eval_every": 0},
        {"train_data.split": "trainaug"},
        {"eval_data.split": "test"},
        {"learning_rate": -1.0},
        {"precision": "half"},
        {"freeze_batch_norm": True},
        {"init_from.path": "x", "init_from.part": "head"},
        {"train_data.hard_class_factor": 0},
    ):
        with pytest.raises(ValueError):
            train.train(small_config(**overrides), tmp_path / "run", str(shapes_dir))
        assert not (tmp_path / "run").exists(), overrides


def damage_newest(run):
    newest = tf.train.latest_checkpoint(run / "checkpoints")
    (file,) = run.glob(f"checkpoints/{pathlib.Path(newest).name}.data-*")
    file.write_bytes(file.read_bytes()[:1000])


def test_a_damaged_checkpoint_is_passed_over_while_there_is_another(shapes_dir, tmp_path, capsys):
    config = small_config(steps=2, eval_every=1)
    train.train(config, tmp_path, str(shapes_dir))
    whole = checkpoint_of(tmp_path)
    damage_newest(tmp_path)
    assert load_weights(deeplabv3(**config.model), tmp_path) == 1
    assert "ckpt-2 is damaged" in capsys.readouterr().out
    train.train(config, tmp_path, str(shapes_dir))
    said = capsys.readouterr().out
    assert "warning: " in said and "ckpt-2 is damaged" in said and "from step 1." in said
    for name, value in checkpoint_of(tmp_path).items():
        np.testing.assert_array_equal(value, whole[name], err_msg=name)
    damage_newest(tmp_path)
    for file in (tmp_path / "checkpoints").glob("ckpt-1.*"):
        file.unlink()
    with pytest.raises(ValueError, match="is damaged or of another model"):
        train.train(config, tmp_path, str(shapes_dir))


@pytest.mark.parametrize("lost", ["removed", "emptied"])
def test_checkpoints_are_found_without_the_file_that_lists_them(shapes_dir, tmp_path, lost, capsys):
    train.train(small_config(steps=2), tmp_path, str(shapes_dir))
    whole, listed = checkpoint_of(tmp_path), tmp_path / "checkpoints" / "checkpoint"
    listed.unlink()
    if lost == "emptied":
        listed.touch()
    assert load_weights(deeplabv3(**small_config().model), tmp_path) == 2
    train.train(small_config(steps=2), tmp_path, str(shapes_dir))
    assert "from step 2" in capsys.readouterr().out
    for name, value in checkpoint_of(tmp_path).items():
        np.testing.assert_array_equal(value, whole[name], err_msg=name)


def test_an_evaluation_that_was_cut_off_is_made_up_for(shapes_dir, tmp_path, monkeypatch):
    """The steps before it are saved first, so that it would be left out."""
    config = small_config(steps=4, eval_every=2)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Evaluator, "score", interrupt)
        train.train(config, tmp_path, str(shapes_dir))
    for _ in range(2):
        train.train(config, tmp_path, str(shapes_dir))
    with (tmp_path / "evaluations.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["2", "4"]
    result = json.loads((tmp_path / "eval.json").read_text())
    assert float(rows[-1]["miou"]) == pytest.approx(result["miou"], rel=1e-5)
    assert float(rows[-1]["background"]) == pytest.approx(
        result["iou_per_class"]["background"], rel=1e-5
    )


def interrupt(*_, **__):
    raise KeyboardInterrupt


def test_the_best_of_all_evaluations_is_kept_and_says_what_it_was_chosen_on(shapes_dir, tmp_path):
    train.train(small_config(steps=2, eval_every=1), tmp_path, str(shapes_dir))
    best = json.loads((tmp_path / "best.json").read_text())
    last = json.loads((tmp_path / "eval.json").read_text())
    assert best["miou"] >= last["miou"] and best["chosen_on"] == "shapes, val"
    assert tf.train.latest_checkpoint(tmp_path / "best").endswith(f"ckpt-{best['step']}")


def test_a_loss_that_is_no_number_stops_and_leaves_what_it_takes_to_see_why(
    shapes_dir, shapes_builder, tmp_path, monkeypatch
):
    make_train_step, seen = train.make_train_step, []

    def make(*arguments, **options):
        train_step = make_train_step(*arguments, **options)

        def step(images, labels):
            seen.append(images.numpy())
            values = train_step(images, labels)
            return (np.nan, *values[1:]) if len(seen) == 3 else values

        return step

    monkeypatch.setattr(train, "make_train_step", make)
    with pytest.raises(ValueError, match=r"Non-finite loss, .* at step 3 \(loss nan, .*ckpt-2"):
        train.train(small_config(eval_every=1), tmp_path, str(shapes_dir))
    batch = np.load(tmp_path / "nonfinite_step3.npz")
    np.testing.assert_array_equal(batch["images"], seen[2])
    ids = {
        example["id"].decode()
        for example in shapes_builder.as_dataset(split="train").as_numpy_iterator()
    }
    assert len(batch["ids"]) == 4 and set(batch["ids"]) <= ids
    assert tf.train.latest_checkpoint(tmp_path / "checkpoints").endswith("ckpt-2")


def test_a_run_starts_from_another_one(shapes_dir, tmp_path, capsys):
    """From its newest weights, once: after that it resumes its own."""
    first, second = tmp_path / "first", tmp_path / "second"
    train.train(small_config(steps=1), first, str(shapes_dir))
    start = {"steps": 1, "learning_rate": 1e-9, "init_from.path": str(first)}
    capsys.readouterr()
    train.train(small_config(**start), second, str(shapes_dir))
    said = capsys.readouterr().out
    assert f"Weights from {first}" in said and "mismatched" in said
    before, after = read_weights(first), read_weights(second)
    for name in before:
        if "moving" not in name:
            np.testing.assert_allclose(after[name], before[name], atol=1e-6, err_msg=name)
    capsys.readouterr()
    train.train(small_config(**start), second, str(shapes_dir))
    assert "Weights from" not in capsys.readouterr().out  # It resumes.
    with pytest.raises(FileNotFoundError, match="no checkpoint in .*nowhere to start from"):
        start["init_from.path"] = str(tmp_path / "nowhere")
        train.train(small_config(**start), tmp_path / "third", str(shapes_dir))
    assert not (tmp_path / "third").exists()


@pytest.mark.parametrize("learning_rate, steps", [(1e30, 5), (1e30, 1)])
def test_weights_that_are_no_numbers_are_not_saved(shapes_dir, tmp_path, learning_rate, steps):
    """Nothing is patched: one update ruins them, be it the first of five or the last."""
    config = small_config(steps=steps, eval_every=1, learning_rate=learning_rate)
    said = r"Non-finite loss, .*or weights at step 1 \(regularization after it.*none yet"
    with pytest.raises(ValueError, match=said):
        train.train(config, tmp_path, str(shapes_dir))
    assert (tmp_path / "nonfinite_step1.npz").exists()


def test_a_data_set_of_ones_own_goes_through_training_and_export(tmp_path):
    """Its class file alone says what its classes are, everywhere."""
    make_pets(tmp_path / "pets", save_colors)
    build("folder/pets", str(tmp_path), str(tmp_path / "pets"), accept=True)
    own = {
        "train_data.dataset": "folder/pets",
        "eval_data.dataset": "folder/pets",
        "model.num_classes": 3,
        "steps": 1,
    }
    config, run = small_config(**own), tmp_path / "run"
    train.train(config, run, str(tmp_path))
    result = json.loads((run / "eval.json").read_text())
    assert list(result["iou_per_class"]) == ["background", "class_1", "class_2"]
    how = {"output_stride": 16, "scales": (1.0,), "flip": False}
    exporter = Exporter(run, inference=how, gate_images=1, data_dir=str(tmp_path))
    exporter.write("saved_model", tmp_path / "exported")
    loaded = tf.saved_model.load(str(tmp_path / "exported"))
    data = json.loads(pathlib.Path(loaded.data.asset_path.numpy().decode()).read_text())
    assert data["palette"] == [[0, 0, 0], [0, 0, 255], [255, 0, 0]]
    trained_on = data["provenance"]["trained_on"]
    assert trained_on["dataset"] == "folder/pets/1.0.0" and trained_on["audit"] is None
    assert data["class_names"] == ["background", "class_1", "class_2"]
