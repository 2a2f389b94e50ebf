"""A model is one of Keras: saved, read back, cloned, cut, fitted; and begun from any weights."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from evaluation.metrics import confusion_matrix, mean_iou
from evaluation.prediction import make_predictor
from experiments.base import as_data
from model.backbones import BACKBONES
from model.deeplabv3 import (
    HEADS,
    deeplabv3,
    mean_pixel_of,
    output_stride_of,
    with_new_classifier,
)
from model.inference import class_ids, class_probabilities
from model.losses import pixel_cross_entropy
from model.rematerialize import rematerialize_backbone
from pretrained import keras_applications, torchvision_models
from pretrained.load_model import load_model
from pretrained.open_weights import open_weights
from pretrained.tf1_checkpoints import rename_tf1
from pretrained.torchvision_models import rename_torchvision
from tests.fold_batch_norm_test import with_random_statistics
from tests.foreign_networks import random_values, tf1_shapes, torchvision_shapes
from tests.open_weights_test import keras_network, write_tf1
from tests.train_test import small_config
from training.checkpoints import Checkpoints
from training.load_run import load_run
from training.run_folder import open_run

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (2, 65, 49, 3)).astype("uint8")
LABELS = np.where(RNG.uniform(size=(2, 65, 49)) < 0.2, 255, IMAGES[..., 0] // 64).astype("int32")
MODELS = {
    "ASPP in bfloat16": ("resnet_tiny", {"precision": "mixed_bfloat16"}),
    "a cascade": ("resnet_tiny_beta", {"num_blocks": 5, "atrous_rates": None}),
    "keras.applications' pixels": ("resnet_tiny_keras", {"image_pooling": False}),
    "depthwise convolutions": (
        "mobilenet_v2_050",
        {"multi_grid": (1, 1, 1), "atrous_rates": (), "output_stride": 8},
    ),
    "torchvision's head": (
        "resnet_tiny_torchvision",
        {"head": "torchvision", "output_stride": 8},
    ),
}


def weights_of(model):
    return {weight.path: weight.numpy() for weight in model.weights}


def check_same_weights(model, expected, but=()):
    for name, value in weights_of(model).items():
        if name not in but:
            np.testing.assert_array_equal(value, expected[name], err_msg=name)
    assert weights_of(model).keys() == expected.keys()


@pytest.mark.parametrize("kind", MODELS)
def test_what_is_saved_read_back_or_cloned_has_the_same_logits(kind, tmp_path):
    backbone, arguments = MODELS[kind]
    model = with_random_statistics(backbone, **arguments)
    model.save(tmp_path / "model.keras")
    model.save_weights(tmp_path / "model.weights.h5")
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    filled = deeplabv3(backbone, **{"num_classes": 5, **arguments, "output_stride": 32})
    filled.load_weights(tmp_path / "model.weights.h5")
    check_same_weights(filled, weights_of(model))
    read = keras.models.load_model(tmp_path / "model.keras")
    expected = model(IMAGES).numpy()
    assert expected.std() > 0
    for other in (read, clone):
        np.testing.assert_array_equal(other(IMAGES), expected)
    # It trains as before: the same layers, not Keras's own of the same names, and the same decay.
    assert [type(layer) for layer in read.layers] == [type(layer) for layer in model.layers]
    np.testing.assert_array_equal(tf.add_n(read.losses), tf.add_n(model.losses))
    assert output_stride_of(read) == output_stride_of(model)


@pytest.mark.parametrize(
    "backbone, multi_grid", [("resnet_tiny", (1, 2, 4)), ("mobilenet_v2_050", (1, 1, 1))]
)
def test_a_model_that_was_read_back_is_rematerialized_as_before(backbone, multi_grid, tmp_path):
    """In training, where batch norm's statistics change; without dropout."""
    model = with_random_statistics(backbone, atrous_rates=None, multi_grid=multi_grid)
    model.save(tmp_path / "model.keras")
    read = keras.models.load_model(tmp_path / "model.keras")
    images = tf.constant(IMAGES)
    logits = [rematerialize_backbone(network)(images) for network in (model, read)]
    np.testing.assert_array_equal(*logits)
    check_same_weights(read, weights_of(model))


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_fit_minimizes_the_loss_of_our_own_training(policy):
    """With Keras's own loss, and under Keras's own policy too."""
    keras.config.set_dtype_policy(policy)
    try:
        keras.utils.set_random_seed(0)
        model = deeplabv3("resnet_tiny", num_classes=4, atrous_rates=None, batch_norm_decay=0.9)
    finally:
        keras.config.set_dtype_policy("float32")
    assert model.get_layer("block4_out").compute_dtype == policy.removeprefix("mixed_")
    assert {weight.dtype for weight in model.weights} == {"float32"}
    total, valid = pixel_cross_entropy(LABELS, model(IMAGES, training=True), ignore_label=255)
    expected = float(total / valid + tf.add_n(model.losses))
    model.compile(
        keras.optimizers.SGD(0.01),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=255),
    )
    batches = tf.data.Dataset.from_tensor_slices((IMAGES, LABELS)).batch(2)
    losses = model.fit(batches, epochs=4, verbose=0).history["loss"]
    tolerance = 1e-5 if policy == "float32" else 1e-2
    np.testing.assert_allclose(losses[0], expected, rtol=tolerance)
    assert losses[-1] < losses[0]


def test_keras_mean_iou_of_logits_is_ours():
    logits = RNG.normal(size=(2, 65, 49, 4)) + 2 * np.eye(4)[np.where(LABELS == 255, 0, LABELS)]
    metric = keras.metrics.MeanIoU(4, ignore_class=255, sparse_y_pred=False)
    metric.update_state(LABELS, logits)
    matrix = confusion_matrix(LABELS, logits.argmax(-1), num_classes=4, ignore_label=255)
    np.testing.assert_allclose(float(metric.result()), mean_iou(matrix), rtol=1e-5)


@pytest.mark.parametrize("backbone", ["resnet_tiny", "resnet_tiny_torchvision"])
def test_features_of_any_block_have_one_name(backbone):
    strides = {"resnet_tiny": (8, 16, 32, 64, 64), "resnet_tiny_torchvision": (4, 8, 16, 32, 64)}
    model = deeplabv3(backbone, num_blocks=5, output_stride=64, atrous_rates=None)
    for block, stride in enumerate(strides[backbone], start=1):
        features = keras.Model(model.input, model.get_layer(f"block{block}_out").output)
        sides = [1 + 64 // stride, 1 + 128 // stride]
        channels = 64 * 2 ** min(block - 1, 3)
        assert features(np.zeros((1, 65, 129, 3))).shape == (1, *sides, channels)


@pytest.mark.parametrize(
    "backbone, num_blocks, output_stride",
    [
        ("resnet_tiny", 4, 8),
        ("resnet_tiny_beta", 4, 16),
        ("resnet_tiny_keras", 4, 32),
        ("resnet_tiny_torchvision", 5, 64),
        ("resnet_tiny", 7, 256),
        ("mobilenet_v2", 4, 8),
    ],
)
def test_a_model_knows_its_output_stride_and_its_mean_pixel(backbone, num_blocks, output_stride):
    how = {"num_blocks": num_blocks, "output_stride": output_stride, "atrous_rates": None}
    model = deeplabv3(backbone, multi_grid=(1, 1, 1), **how)
    assert output_stride_of(model) == output_stride
    mean_pixel = BACKBONES[backbone].mean_pixel
    np.testing.assert_array_equal(np.float32(mean_pixel_of(model)), np.float32(mean_pixel))


def test_a_new_classifier_leaves_the_features():
    model = with_random_statistics("resnet_tiny_torchvision", head="torchvision")
    assert with_new_classifier(model, 3).output.shape[3] == 3
    # With the same classifier it is the same function: the resize is the head's too.
    again = with_new_classifier(model, 5)
    check_same_weights(again, weights_of(model), but={"logits/kernel", "logits/bias"})
    assert again.get_layer("logits").bias is not model.get_layer("logits").bias
    again.get_layer("logits").set_weights(model.get_layer("logits").get_weights())
    np.testing.assert_array_equal(again(IMAGES), model(IMAGES))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run's folder: trained at output_stride 16, steps 4 and 5 kept, step 4 the best."""
    run = tmp_path_factory.mktemp("run")
    config = small_config()
    open_run(run, as_data(config))
    model = deeplabv3(**config.model)
    checkpoints = Checkpoints(run, model)
    for step, miou in ((4, 0.5), (5, 0.4)):
        model.get_layer("logits").bias.assign(np.full(21, step))
        checkpoints.save(step)
        checkpoints.save_best(step, miou, "shapes, val")
    return run


def test_a_run_is_loaded_with_the_weights_of_any_checkpoint(run):
    for checkpoint, step in (("last", 5), ("best", 4), (4, 4)):
        model = load_run(str(run), checkpoint)
        np.testing.assert_array_equal(model.get_layer("logits").bias, np.full(21, step))


def test_a_run_is_loaded_at_another_stride_and_for_other_classes(run):
    expected = weights_of(load_run(run))
    assert output_stride_of(load_run(run)) == 16
    denser = load_run(run, output_stride=8)
    assert output_stride_of(denser) == 8
    check_same_weights(denser, expected)
    new = load_run(run, num_classes=3)
    assert new.output.shape[3] == 3
    check_same_weights(new, expected, but={"logits/kernel", "logits/bias"})
    np.testing.assert_array_equal(new.get_layer("logits").bias, np.zeros(3))


def test_what_is_not_a_run_or_not_kept_is_refused(run, tmp_path):
    with pytest.raises(ValueError, match=r"does not keep the checkpoint 3; there are .*\b5\b"):
        load_run(run, 3)
    with pytest.raises(FileNotFoundError, match="config.json is missing"):
        load_run(tmp_path)
    with pytest.raises(ValueError, match="is a file.*load_model"):
        load_run(run / "config.json")


TF1 = random_values(tf1_shapes("tiny", num_classes=4))
TORCHVISION = random_values(torchvision_shapes("tiny", num_classes=4))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with small third-party files; torchvision's is read without PyTorch."""
    folder, network = tmp_path_factory.mktemp("files"), keras_network()
    write_tf1(folder / "model.ckpt", TF1)
    (folder / "torchvision.pth").write_bytes(b"PK")
    network.save_weights(folder / "backbone.weights.h5")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torchvision_models, "_read", lambda file: TORCHVISION)
        patch.setattr(keras_applications, "IMAGENET", {"resnet_tiny_keras": "ResNet50"})
        patch.setattr(keras.applications, "ResNet50", lambda **_: network)
        yield folder


@pytest.mark.parametrize(
    "name, weights",
    [("model.ckpt", rename_tf1(TF1)), ("torchvision.pth", rename_torchvision(TORCHVISION))],
)
def test_a_whole_third_party_model_is_loaded_and_predicts(files, name, weights):
    model = load_model(str(files / name))
    check_same_weights(model, weights.values)
    image = IMAGES[0]
    predicted = make_predictor(model)(image[None])[0].numpy()
    assert predicted.shape == (65, 49) and len(np.unique(predicted)) > 1
    how = {
        "output_stride": weights.model["output_stride"],
        "mean_pixel": BACKBONES[weights.model["backbone"]].mean_pixel,
        "corners": HEADS[weights.model.get("head", "paper")],
    }
    expected = class_ids(class_probabilities(model, image[None], **how))[0]
    assert (predicted == expected.numpy()).mean() > 0.999  # Graphs round differently.
    new = load_model(str(files / name), num_classes=3, output_stride=32)
    assert new.output.shape[3] == 3 and output_stride_of(new) == 32
    check_same_weights(new, weights.values, but={"logits/kernel", "logits/bias"})


def test_a_backbone_gets_a_new_head(files):
    """From keras.applications' file, or as downloaded."""
    file = str(files / "backbone.weights.h5")
    theirs = open_weights(file, "").values
    downloaded = load_model("imagenet", backbone="resnet_tiny_keras", atrous_rates=(2, 4, 6))
    for model in (load_model(file, num_classes=3), downloaded):
        ours = weights_of(model)
        for name, value in theirs.items():
            np.testing.assert_array_equal(ours[name], value, err_msg=name)
        assert "aspp_atrous3_conv/kernel" in ours
    assert downloaded.output.shape[3] == 21
    assert load_model(file, num_classes=3).output.shape[3] == 3


def test_what_cannot_be_loaded_is_refused(files, run):
    whole = str(files / "model.ckpt")
    checkpoint = str(run / "checkpoints" / "ckpt-5")
    for arguments, error, said in (
        ({"path": str(files / "no.pth")}, FileNotFoundError, "no file .*no.pth"),
        ({"path": str(run)}, FileNotFoundError, "load_run"),
        ({"path": checkpoint}, ValueError, "is a checkpoint of a run.*load_run"),
        ({"path": "m.keras"}, ValueError, r"keras.models.load_model\('m.keras'\)"),
        ({"path": "imagenet"}, ValueError, "resnet_tiny_keras, not resnet101_keras"),
        ({"path": whole, "backbone": "resnet101"}, ValueError, "of resnet_tiny, not resnet101"),
        ({"path": whole, "head": "torchvision"}, ValueError, "model.ckpt: .*(.|\n)*aspp_extra"),
    ):
        with pytest.raises(error, match=said):
            load_model(**arguments)
