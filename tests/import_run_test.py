"""Other people's weights through all programs: fine-tuned as a backbone, used as a whole model."""

import ast
import json
import shlex
import subprocess

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import pretrained.import_run
import train
from deployment.exporter import Exporter
from evaluation.prediction import make_predictor
from experiments import base
from model.deeplabv3 import deeplabv3
from model.inference import class_probabilities
from pretrained.import_run import import_run
from pretrained.initialize import check_convention
from pretrained.open_weights import open_weights
from pretrained.torchvision_models import rename_torchvision
from pretrained.weights import load
from tests.conftest import ROOT
from tests.foreign_networks import random_values, tf1_shapes, torchvision_shapes
from tests.open_weights_test import keras_network, write_tf1
from tests.preloaded_python import preloaded_python
from tests.train_test import small_config
from training.checkpoints import load_weights, read_weights
from training.run_folder import read_config, read_data

PAPER = base.as_data(base.get_config())


@pytest.fixture
def checkpoint(tmp_path, monkeypatch):
    """A small deeplab checkpoint, in the working folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "deeplab").mkdir()
    write_tf1(
        tmp_path / "deeplab" / "model.ckpt", random_values(tf1_shapes("tiny", num_classes=21))
    )
    return "deeplab/model.ckpt"


def test_a_backbone_is_fine_tuned_evaluated_and_exported(shapes_dir, tmp_path, capsys):
    """From keras.applications' file: at step 0 the run has its weights, then it trains."""
    keras_network().save_weights(tmp_path / "theirs.weights.h5")
    theirs = open_weights(str(tmp_path / "theirs.weights.h5"), "").values
    config = small_config(
        **{
            "steps": 2,
            "learning_rate": 1e-9,
            "model.backbone": "resnet_tiny_keras",
            "init_from.path": str(tmp_path / "theirs.weights.h5"),
            "init_from.part": "backbone",
        }
    )
    run = tmp_path / "run"
    train.train(config, run, str(shapes_dir))
    assert "folded" in capsys.readouterr().out
    ours = read_weights(run)
    for name, value in theirs.items():
        if "moving" not in name:
            np.testing.assert_allclose(ours[name], value, atol=1e-6, err_msg=name)
    config = read_config(run)
    assert json.loads((run / "eval.json").read_text())["num_images"] == 5
    model = deeplabv3(**config.model)
    assert load_weights(model, run) == 2
    how = {"output_stride": 16, "scales": (1.0,), "flip": False}
    exporter = Exporter(run, inference=how, gate_images=1, data_dir=str(shapes_dir))
    exporter.write("saved_model", tmp_path / "exported")  # Which compares the two.


def program(folder, name, *arguments):
    """Runs a program in a folder -> what it printed, or says that it failed."""
    command = [preloaded_python(), ROOT / name, *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def test_a_whole_model_becomes_a_run(checkpoint, tmp_path):
    done = program(tmp_path, "export.py", f"--run={checkpoint}", "--gate_images=0")
    assert done.returncode == 0, done.stderr
    assert "multi_grid (1, 2, 4), atrous_rates (6, 12, 18)" in done.stdout
    assert f"Weights from {checkpoint}:\n" in done.stdout and "Momentum (3)" in done.stdout
    run = tmp_path / "runs" / "imported" / "deeplab_model.ckpt"
    data = read_data(run)
    assert data["class_names"][1] == "aeroplane" and data["palette"][1] == [128, 0, 0]
    model = deeplabv3(**read_config(run).model)
    assert load_weights(model, run) == 0
    expected = open_weights(checkpoint, "").values
    for weight in model.weights:
        np.testing.assert_array_equal(weight.numpy(), expected[weight.path], err_msg=weight.path)
    exported = json.loads((run / "saved_model" / "assets" / "data.json").read_text())
    assert exported["corners"] == "aligned" and exported["margin"] > 0
    segment = tf.saved_model.load(str(run / "saved_model"))
    image = np.random.default_rng(0).integers(0, 256, (1, 50, 41, 3)).astype(np.uint8)
    predict = make_predictor(model)
    np.testing.assert_array_equal(segment(image), predict(image))


@pytest.mark.slow
def test_a_whole_model_is_taken_by_the_other_programs(checkpoint, tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3)).astype(np.uint8)
    Image.fromarray(image).save(tmp_path / "photo.png")
    done = program(tmp_path, "predict.py", f"--run={checkpoint}", "photo.png")
    assert done.returncode == 0, done.stderr
    model = deeplabv3(**read_config(tmp_path / "runs" / "imported" / "deeplab_model.ckpt").model)
    load(model, open_weights(checkpoint, ""))
    predict = make_predictor(model)
    mask = np.array(Image.open(tmp_path / "predictions" / "photo_mask.png"))
    np.testing.assert_array_equal(mask, predict(image[None])[0])
    # It would be scored on VOC, which is not here.
    done = program(tmp_path, "eval.py", f"--run={checkpoint}", f"--data_dir={tmp_path}")
    assert done.returncode == 1 and "python -m data.build voc2012" in done.stderr


def test_another_file_of_the_same_name_is_no_silent_match(checkpoint, tmp_path):
    run = import_run(checkpoint, PAPER)
    assert import_run(checkpoint, PAPER) == run
    values = random_values(tf1_shapes("tiny", num_classes=21))
    values["logits/semantic/biases"] += 1
    write_tf1(tmp_path / checkpoint, values)
    with pytest.raises(ValueError, match="was imported from another file than deeplab/model.ckpt"):
        import_run(checkpoint, PAPER)


@pytest.mark.parametrize("same", [True, False])
def test_two_programs_import_at_once(checkpoint, same, tmp_path, monkeypatch):
    """The slower one finds the run of the faster one, and takes it if it is of the same file."""
    calls = []

    def opened(*arguments, **how):
        weights = open_weights(*arguments, **how)
        calls.append(arguments)
        if len(calls) == 1:
            if not same:
                write_tf1(tmp_path / checkpoint, {**values, "logits/semantic/biases": np.ones(21)})
            import_run(checkpoint, PAPER)
        return weights

    values = random_values(tf1_shapes("tiny", num_classes=21))
    monkeypatch.setattr(pretrained.import_run, "open_weights", opened)
    if same:
        run = import_run(checkpoint, PAPER)
        assert load_weights(deeplabv3(**read_config(run).model), run) == 0
    else:
        with pytest.raises(ValueError, match="was imported from another file"):
            import_run(checkpoint, PAPER)
    assert len(calls) == 2
    assert [path.name for path in (tmp_path / "runs" / "imported").iterdir()] == [
        "deeplab_model.ckpt"
    ]


def test_a_model_of_other_classes_is_said_how_to_train_from(tmp_path, monkeypatch, capsys):
    """The command that is proposed takes all of it but its logits."""
    weights = rename_torchvision(random_values(torchvision_shapes("tiny", 5)))
    monkeypatch.setattr(pretrained.import_run, "open_weights", lambda path, backbone: weights)
    (tmp_path / "x.pth").write_bytes(b"x")
    with pytest.raises(ValueError, match="has 5 classes; names are known for VOC's 21") as error:
        import_run(str(tmp_path / "x.pth"), PAPER)
    command = shlex.split(str(error.value).partition("python train.py ")[2])
    fields = dict(flag.removeprefix("--config.").split("=") for flag in command[1:])
    fields["model.multi_grid"] = ast.literal_eval(fields["model.multi_grid"])
    assert fields["init_from.part"] == "without_logits"
    config = base.get_config()
    config.update_from_flattened_dict(fields)
    check_convention(weights, config.model, path=config.init_from.path, part=config.init_from.part)
    assert not capsys.readouterr().out
    assert not load(deeplabv3(**config.model), weights, part="without_logits").unknown


def test_a_file_that_is_not_there_is_no_missing_run():
    with pytest.raises(FileNotFoundError, match="There is no file nowhere.pth"):
        import_run("nowhere.pth", PAPER)


@pytest.mark.parametrize(
    "num_classes, said",
    [
        (None, "holds a backbone only.*train.py .*backbone=resnet_tiny .*init_from.path=x.ckpt"),
        (19, "has 19 classes; names are known for VOC's 21"),
    ],
)
def test_what_is_no_model_of_vocs_classes_is_refused(num_classes, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_tf1(tmp_path / "x.ckpt", random_values(tf1_shapes("tiny", num_classes=num_classes)))
    with pytest.raises(ValueError, match=said):
        import_run("x.ckpt", PAPER)
    assert not (tmp_path / "runs").exists()


def test_a_whole_model_that_lacks_a_weight_leaves_no_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    values = random_values(tf1_shapes("tiny", num_classes=21))
    del values["aspp0/BatchNorm/gamma"]
    write_tf1(tmp_path / "x.ckpt", values)
    with pytest.raises(
        ValueError, match=r"x.ckpt: .*\n  aspp_1x1_bn/gamma \(aspp0/BatchNorm/gamma\): missing"
    ):
        import_run("x.ckpt", PAPER)
    assert not list(tmp_path.glob("runs/**/*.json"))


@pytest.mark.parametrize("size", [(64, 96), (65, 91)])
def test_whole_images_have_the_output_of_torchvisions_network_itself(size):
    """At any size: nothing is padded."""
    weights = rename_torchvision(random_values(torchvision_shapes("tiny", 21)))
    config = small_config(**{"model.backbone": "resnet_tiny_torchvision"})
    config.model.update({**weights.model, "batch_norm_decay": 0.9})
    model = deeplabv3(**config.model)
    load(model, weights)
    predict = make_predictor(model)
    image = np.random.default_rng(0).integers(0, 256, (1, *size, 3)).astype(np.uint8)
    expected = tf.nn.softmax(model(image)).numpy()
    how = {"output_stride": 8, "mean_pixel": (0, 0, 0), "corners": "half_pixel"}
    np.testing.assert_allclose(class_probabilities(model, image, **how), expected, atol=1e-5)
    assert len(np.unique(expected.argmax(-1))) > 2
    assert (predict(image).numpy() == expected.argmax(-1)).mean() > 0.9999
