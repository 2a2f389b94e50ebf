"""Weights from any file: what is in it is known for what it is, or refused, and nothing half."""

import os
import pathlib
import pickle
import re
import sys

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf

from experiments import base
from model.deeplabv3 import deeplabv3
from pretrained import keras_applications
from pretrained.initialize import check_convention, initialize
from pretrained.open_weights import open_weights
from pretrained.torchvision_models import STATE_KEYS, rename_torchvision
from pretrained.weights import Weights
from tests.foreign_networks import random_values, tf1_shapes, torchvision_shapes
from training.checkpoints import weights_by_name
from training.run_folder import open_run


def keras_network():
    """Layers of a small ResNet with keras.applications' names, beside each other, at random."""
    ours = {weight.path: weight.shape for weight in deeplabv3("resnet_tiny_keras").weights}
    inputs, outputs = [], []
    for name, shape in ours.items():
        if not name.endswith("_conv/kernel") or name.startswith("aspp"):
            continue
        layer = name.removesuffix("_conv/kernel")
        if layer.startswith("block"):
            block, unit, conv = layer.removeprefix("block").replace("unit", "").split("_")
            layer = f"conv{int(block) + 1}_block{unit}_{conv}"
        inputs.append(keras.Input((None, None, shape[2])))
        conv = keras.layers.Conv2D(shape[3], shape[0], name=f"{layer}_conv")(inputs[-1])
        outputs.append(keras.layers.BatchNormalization(name=f"{layer}_bn")(conv))
    model = keras.Model(inputs, outputs)
    values = random_values({weight.path: weight.shape for weight in model.weights})
    for weight in model.weights:
        weight.assign(values[weight.path])
    return model


def write_as_downloaded(path, model):
    """As keras.applications' files are: a group for each layer, weights named `layer/weight:0`."""
    with h5py.File(path, "w") as file:
        for layer in model.layers:
            group = file.create_group(layer.name)
            names = [f"{weight.path}:0" for weight in layer.weights]
            group.attrs["weight_names"] = [name.encode() for name in names]
            for name, weight in zip(names, layer.weights, strict=True):
                group.create_dataset(name, data=weight.numpy())


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with the same small keras.applications network in three layouts, and TF1's."""
    folder, model = tmp_path_factory.mktemp("files"), keras_network()
    write_as_downloaded(folder / "downloaded.h5", model)
    model.save(folder / "saved.h5")
    model.save_weights(folder / "saved.weights.h5")
    model.compile(keras.optimizers.SGD(momentum=0.9))
    model.optimizer.build(model.trainable_variables)
    model.save_weights(folder / "trained.weights.h5")
    values = random_values(tf1_shapes("tiny", num_classes=21))
    write_tf1(folder / "model.ckpt", values)
    (folder / "page.pth").write_text("\n<!DOCTYPE html><html>Sign in</html>")
    (folder / "page.h5").write_text("<html>404</html>")
    (folder / "page.ckpt.index").write_text("<html>404</html>")
    (folder / "tf1").mkdir()
    write_tf1(folder / "tf1" / "model.ckpt-3", {"x": np.ones(3)})
    (folder / "slim").mkdir()
    (folder / "slim" / "resnet_v1_50.ckpt").write_bytes(b"x")
    (folder / "noise.h5").write_bytes(bytes(range(256)) * 40)
    (folder / "noise.ckpt").write_bytes(bytes(range(256)) * 40)
    whole = (folder / "downloaded.h5").read_bytes()
    (folder / "cut.h5").write_bytes(whole[: len(whole) // 2])
    write_tf1(folder / "cut.ckpt", values)
    data = folder / "cut.ckpt.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:1000])
    write_tf1(folder / "cut_index.ckpt", {"x": np.ones(3)})
    (folder / "cut_index.ckpt.index").write_bytes(b"\0" * 20)
    write_tf1(folder / "other.ckpt", {"MobilenetV1/Conv2d_0/weights": np.ones((3, 3, 3, 32))})
    return folder


def write_tf1(path, values):
    names = list(values)
    tensors = [values[name] for name in names]
    tf.raw_ops.SaveV2(
        prefix=str(path), tensor_names=names, shape_and_slices=[""] * len(names), tensors=tensors
    )


def config_for(backbone, **init_from):
    config = base.get_config("shapes")
    config.model.backbone = backbone
    config.init_from.update(init_from)
    return config


def fill(model, config):
    text, _ = initialize(model, config.model, **config.init_from)
    return text


def check(weights, config):
    how = {"path": config.init_from.path, "part": config.init_from.part}
    check_convention(weights, config.model, **how)


def values_of(model):
    return {weight.path: weight.numpy() for weight in model.weights}


def test_every_layout_of_keras_is_read_alike(files):
    read = [
        open_weights(str(files / name), "")
        for name in ("downloaded.h5", "saved.h5", "saved.weights.h5", "trained.weights.h5")
    ]
    for other in read:
        assert other.model == {"backbone": "resnet_tiny_keras"} and not other.unknown
        assert all(name.startswith("optimizer/") for name in other.skipped)
        assert other.values.keys() == read[0].values.keys()
        for name, value in other.values.items():
            np.testing.assert_array_equal(value, read[0].values[name], err_msg=name)


def test_imagenets_are_downloaded_by_keras(files, monkeypatch):
    monkeypatch.setattr(keras_applications, "IMAGENET", {"resnet_tiny_keras": "ResNet50"})

    def download(weights, include_top, input_shape):
        assert weights == "imagenet" and not include_top
        return keras_network()

    monkeypatch.setattr(keras.applications, "ResNet50", download)
    ours = open_weights("imagenet", "resnet_tiny_keras").values
    theirs = open_weights(str(files / "saved.h5"), "").values
    np.testing.assert_array_equal(ours["conv1_conv/kernel"], theirs["conv1_conv/kernel"])


def test_without_a_network_it_is_said_what_to_do(monkeypatch):
    def download(**_):
        raise Exception("URL fetch failure on https://storage.googleapis.com")

    monkeypatch.setattr(keras.applications, "ResNet101", download)
    config = config_for("resnet101_keras", path="imagenet", part="backbone")
    with pytest.raises(OSError, match="URL fetch failure.*init_from.path=FILE.h5.*random weights"):
        fill(None, config)  # No model is touched.
    with pytest.raises(ValueError, match="resnet101_keras, mobilenet_v2, not resnet50"):
        open_weights("imagenet", "resnet50")


def test_the_report_says_what_became_of_every_weight(files):
    config = config_for("resnet_tiny_keras", path=str(files / "saved.h5"), part="backbone")
    report = fill(deeplabv3("resnet_tiny_keras"), config).splitlines()
    assert report[0] == f"Weights from {files / 'saved.h5'}:"
    fields = ["loaded", "renamed", "folded", "skipped", "unknown", "missing", "mismatched"]
    assert report[1].split() == fields
    counts = {line.split()[0]: list(map(int, line.split()[1:])) for line in report[2:]}
    # Seven units of three convs, four shortcuts, and the stem; each with four of batch norm.
    assert counts == {"backbone": [26 * 5, 25 * 5, 26 * 2, 0, 0, 0, 0]}
    config = config_for("resnet_tiny", path=str(files / "model.ckpt"), part="without_logits")
    report = fill(deeplabv3("resnet_tiny"), config).splitlines()
    counts = {line.split()[0]: list(map(int, line.split()[1:])) for line in report[2:-1]}
    assert counts["aspp"] == [30, 30, 1, 0, 0, 0, 0]
    assert counts["logits"] == [0, 0, 0, 2, 0, 0, 0]
    momentum = [name for name in tf1_shapes("tiny", num_classes=21) if name.endswith("Momentum")]
    assert counts["other"] == [0, 0, 0, len(momentum) + 1, 0, 0, 0]  # And global_step.
    assert report[-1].startswith("skipped: logits...bias (1), logits...kernel (1), ")
    assert "aspp0...Momentum (3)" in report[-1] and "global_step (1)" in report[-1]


MISTAKES = {
    "page.pth": "page.pth is a web page, not weights: the download went wrong",
    "page.h5": "page.h5 is a web page, not weights",
    "noise.h5": "noise.h5: it is damaged, or not an HDF5 file",
    "noise.ckpt": "noise.ckpt: it is damaged, or not a checkpoint",
    "cut.h5": "cut.h5: it is damaged, or not an HDF5 file: .*truncated",
    "cut.ckpt": "cut.ckpt: it is damaged",
    "cut_index.ckpt": "cut_index.ckpt: it is damaged, or not a checkpoint",
    "other.ckpt": "other.ckpt: It is not a ResNet-50 or 101 of the authors",
    "tf1": "tf1 is a folder of third-party checkpoints: name one, such as tf1/model.ckpt-3$",
    "slim": "slim is a folder of third-party checkpoints: name one, such as slim/resnet_v1_50.ckpt",
    "page.ckpt": "page.ckpt.index is a web page, not weights",
    "page.ckpt.index": "page.ckpt.index is a web page, not weights",
    "model.ckpt.data-00000-of-00001": "is a part of a checkpoint: name model.ckpt$",
    "model.ckpt.meta": "is a part of a checkpoint: name model.ckpt$",
    "nowhere.ckpt": "There is no file nowhere.ckpt",
    "nowhere.h5": "There is no file .*nowhere.h5",
    "nowhere.pth": "There is no file .*nowhere.pth",
    "nowhere": "There is no checkpoint in .*nowhere to start from",
}


@pytest.mark.parametrize("name", MISTAKES)
def test_what_cannot_be_read_is_named_in_a_line(files, name, monkeypatch):
    monkeypatch.chdir(files)
    with pytest.raises((ValueError, OSError), match=MISTAKES[name]) as error:
        open_weights(name, "")
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("path", [".", "..", "empty", "empty.h5", "empty.pth", "empty.tflite"])
def test_a_folder_without_checkpoints_is_named(path, tmp_path, monkeypatch):
    (tmp_path / "inner" / path).mkdir(parents=True, exist_ok=True)
    monkeypatch.chdir(tmp_path / "inner")
    with pytest.raises(FileNotFoundError, match=f"^There is no checkpoint in {re.escape(path)} to"):
        open_weights(path, "")


@pytest.mark.parametrize("strict", [True, False])
def test_a_missing_variable_is_named_and_nothing_is_loaded(files, strict, tmp_path):
    values = random_values(tf1_shapes("tiny", num_classes=21))
    del values["resnet_v1_tiny/block3/unit_2/bottleneck_v1/conv2/BatchNorm/beta"]
    values["aspp2/weights"] = values["aspp2/weights"][:1, :1]
    write_tf1(tmp_path / "model.ckpt", values)
    model = deeplabv3("resnet_tiny")
    before, faults = values_of(model), {"block3_unit2_2_bn/beta", "aspp_atrous2_conv/kernel"}
    config = config_for("resnet_tiny", path=str(tmp_path / "model.ckpt"), strict=strict)
    missing = "block3_unit2_2_bn/beta (resnet_v1_tiny/block3/unit_2/bottleneck_v1/conv2/BatchNorm"
    if strict:
        said = f"nothing was loaded:\n(.*\n)*.*{re.escape(missing)}/beta\\): missing"
        with pytest.raises(ValueError, match=said):
            fill(model, config)
        faults = before
    else:
        report = fill(model, config)
        assert "(1, 1, 512, 64) there, (3, 3, 512, 64) here" in report
        assert f"missing: {missing}/beta)" in report
    after = values_of(model)
    unchanged = {name for name in before if np.array_equal(before[name], after[name])}
    assert unchanged == set(faults)


def test_weights_of_another_depth_are_called_so():
    theirs = Weights({}, {"backbone": "resnet50_torchvision"})
    with pytest.raises(ValueError, match="resnet50_torchvision, of another depth than"):
        check(theirs, config_for("resnet101_torchvision", path="x.pth"))
    with pytest.raises(
        ValueError, match="trained with backbone resnet50_torchvision, whose pixels"
    ):
        check(theirs, config_for("resnet101_keras", path="x.pth"))


def test_weights_of_another_convention_are_refused_with_the_one_to_configure(files, capsys):
    """Shapes fit; the pixels, the stride place or the corners do not."""
    for path, theirs in (("saved.h5", "resnet_tiny_keras"), ("model.ckpt", "resnet_tiny")):
        model = deeplabv3("resnet_tiny_torchvision")
        before = values_of(model)
        config = config_for("resnet_tiny_torchvision", path=str(files / path), part="backbone")
        with pytest.raises(ValueError, match=f"--config.model.backbone={theirs}"):
            fill(model, config)
        for name, value in values_of(model).items():
            np.testing.assert_array_equal(value, before[name], err_msg=name)
    theirs = rename_torchvision(random_values(torchvision_shapes("tiny", 21)))
    config = config_for("resnet_tiny_torchvision", path="x.pth")
    with pytest.raises(ValueError, match="--config.model.head=torchvision"):
        check(theirs, config)
    config.init_from.part = "backbone"
    check(theirs, config)
    assert not capsys.readouterr().out
    config.init_from.part, config.model.head = "without_logits", "torchvision"
    check(theirs, config)
    said = capsys.readouterr().out
    assert "trained with multi_grid (1, 1, 1); here it is (1, 2, 4)" in said
    assert "trained with atrous_rates (6, 12, 18); here it is (2, 4, 6)" in said


def test_a_run_of_ours_says_its_convention_and_a_bare_checkpoint_cannot(tmp_path, capsys):
    run = tmp_path / "run"
    open_run(run, base.as_data(config_for("resnet_tiny_keras")))
    checkpoint = tf.train.Checkpoint(model=weights_by_name(deeplabv3("resnet_tiny_keras")))
    for folder in (run / "checkpoints", run / "best", tmp_path / "bare"):
        tf.train.CheckpointManager(checkpoint, folder, max_to_keep=1).save(1)
    for path in (run, run / "best", run / "checkpoints" / "ckpt-1"):
        with pytest.raises(ValueError, match="--config.model.backbone=resnet_tiny_keras"):
            fill(deeplabv3("resnet_tiny"), config_for("resnet_tiny", path=str(path)))
        fill(deeplabv3("resnet_tiny_keras"), config_for("resnet_tiny_keras", path=str(path)))
    assert "warning" not in capsys.readouterr().out
    fill(
        deeplabv3("resnet_tiny"), config_for("resnet_tiny", path=str(tmp_path / "bare" / "ckpt-1"))
    )
    assert "no config.json beside" in capsys.readouterr().out


def test_without_pytorch_it_is_said_how_to_get_it(tmp_path, monkeypatch):
    (tmp_path / "x.pth").write_bytes(b"PK")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ValueError, match="x.pth: reading it needs PyTorch: pip install torch"):
        open_weights(str(tmp_path / "x.pth"), "")


def test_a_state_dict_is_read_and_all_else_of_pytorch_refused(tmp_path):
    torch = pytest.importorskip("torch")
    values = random_values(torchvision_shapes("tiny", 21))
    state = {name: torch.from_numpy(np.array(value)) for name, value in values.items()}
    torch.save(state, tmp_path / "whole.pth")
    read, expected = open_weights(str(tmp_path / "whole.pth"), ""), rename_torchvision(values)
    assert read.model == expected.model and read.skipped == expected.skipped
    for name, value in expected.values.items():
        np.testing.assert_array_equal(read.values[name], value, err_msg=name)

    torch.save([1, 2], tmp_path / "list.pth")
    torch.save({0: torch.ones(3)}, tmp_path / "numbered.pth")
    torch.save({**state, "conv1.weight": torch.eye(3).to_sparse()}, tmp_path / "sparse.pth")
    torch.save({**state, "classifier.4.bias": torch.tensor(1.0)}, tmp_path / "scalar.pth")
    whole = (tmp_path / "whole.pth").read_bytes()
    (tmp_path / "cut.pth").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "noise.pth").write_bytes(bytes(range(256)) * 40)
    for name, said in {
        "list": "not a state_dict",
        "numbered": "not a state_dict",
        "sparse": "conv1.weight is not a dense tensor",
        "scalar": r"classifier.4.bias has the shape \(\), which such a weight never has",
        "cut": "is damaged, or not a file of PyTorch",
        "noise": "is damaged, or not a file of PyTorch",
    }.items():
        with pytest.raises(ValueError, match=f"{name}.pth: .*{said}") as error:
            open_weights(str(tmp_path / f"{name}.pth"), "")
        assert len(str(error.value).splitlines()) == 1
        assert "weights_only" not in str(error.value)


class Runs:
    """Calls a function of Python where it is unpickled."""

    def __init__(self, function, argument):
        self.called = function, (argument,)

    def __reduce__(self):
        return self.called


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("function", [os.system, eval, pathlib.Path.touch])
def test_a_pickle_that_would_run_code_is_called_so_and_does_not_run(function, zipped, tmp_path):
    torch = pytest.importorskip("torch")
    ran = tmp_path / "it_ran"
    argument = {os.system: f"touch {ran}", eval: f"open({str(ran)!r}, 'w')"}.get(function, ran)
    state = {"conv1.weight": torch.ones(3), "x": Runs(function, argument)}
    torch.save(state, tmp_path / "x.pth", _use_new_zipfile_serialization=zipped)
    (tmp_path / "bare.pth").write_bytes(pickle.dumps(state["x"], protocol=2))
    for name in ("x.pth", "bare.pth"):
        with pytest.raises(ValueError, match=f"{name}: .* could run code: not read") as error:
            open_weights(str(tmp_path / name), "")
        assert len(str(error.value).splitlines()) == 1
        assert "weights_only" not in str(error.value)
    assert not ran.exists()


def test_what_pytorch_says_of_other_pickles_is_not_passed_on(tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")

    def load(*_, **__):
        raise pickle.UnpicklingError("Weights only load failed. Set `weights_only=False`.")

    (tmp_path / "x.pth").write_bytes(b"x")
    monkeypatch.setattr(torch, "load", load)
    with pytest.raises(ValueError, match="x.pth: it is damaged, or not a file of PyTorch$"):
        open_weights(str(tmp_path / "x.pth"), "")


@pytest.mark.parametrize("key", STATE_KEYS)
def test_a_state_dict_is_found_in_a_trainings_checkpoint(key, tmp_path):
    torch = pytest.importorskip("torch")
    values = random_values(torchvision_shapes("tiny", None))
    state = {f"module.{name}": torch.from_numpy(np.array(value)) for name, value in values.items()}
    torch.save({key: state, "epoch": 3, "optimizer": {"state": {}}}, tmp_path / "x.pth")
    read, expected = open_weights(str(tmp_path / "x.pth"), ""), rename_torchvision(values)
    assert read.values.keys() == expected.values.keys() and read.skipped == expected.skipped
