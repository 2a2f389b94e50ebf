"""TFLite files of the authors' MobileNetV2: the same function, and other files are named."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from experiments import base
from model.deeplabv3 import deeplabv3
from model.mobilenet import MOBILENETS
from pretrained.import_run import import_run
from pretrained.initialize import check_convention, describe
from pretrained.open_weights import open_weights
from pretrained.tflite_models import from_tflite
from pretrained.weights import Weights, load
from tests.conftest import ROOT
from tests.mobilenet_test import RATES, STRIDES, WIDTHS

SIDE = 65
PUBLISHED = ROOT.parent / "shared" / "weights"  # Not part of the project.
VOC = PUBLISHED.parent / "data" / "VOCdevkit" / "VOC2012"
SEGMENTS = {"deeplabv3_mnv2_pascal_quant": 0.985, "deeplabv3_mnv2_dm05_pascal_quant": 0.975}
PLAIN_KERNELS = tf.lite.experimental.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES


def authors_network(output_stride=16, *, depth_multiplier=0.5, kind="pooling first"):
    """The authors' network in Keras's own layers: [1, SIDE, SIDE, 3] in -1..1 -> its output.

    kind: which branch of ASPP is concatenated first; or "classifier", "no pooling", or "decoder".
    """
    keras.utils.set_random_seed(0)

    def conv(x, filters, size=1, **how):
        how = {
            "padding": "same",
            "bias_initializer": keras.initializers.RandomNormal(0, 0.2),
            **how,
        }
        layer = keras.layers.Conv2D(filters, size, kernel_initializer="he_normal", **how)
        return layer(x)

    images = keras.Input((SIDE, SIDE, 3), batch_size=1)
    x = conv(images, WIDTHS[depth_multiplier][0] * 2, 3, strides=2, activation="relu6")
    plan = zip(WIDTHS[depth_multiplier], STRIDES[output_stride], RATES[output_stride], strict=True)
    for unit, (width, stride, rate) in enumerate(plan):
        before = x
        if unit:
            x = conv(x, 6 * x.shape[3], activation="relu6")
        x = keras.layers.DepthwiseConv2D(
            3,
            strides=stride,
            dilation_rate=rate,
            padding="same",
            activation="relu6",
            depthwise_initializer=keras.initializers.RandomNormal(0, 0.5),
        )(x)
        x = conv(x, width)
        x = x + before if stride == 1 and before.shape[3] == width else x
    if kind == "classifier":
        x = keras.layers.GlobalAveragePooling2D(keepdims=True)(conv(x, 1280, activation="relu6"))
        return keras.Model(images, conv(x, 11))
    pooled = conv(keras.ops.mean(x, axis=(1, 2), keepdims=True), 256, activation="relu")
    pixels = conv(x, 256, activation="relu")
    pooled = keras.ops.tile(pooled, (1, *x.shape[1:3], 1))
    branches = {"pooling first": [pooled, pixels], "pooling last": [pixels, pooled]}.get(kind)
    y = keras.layers.Concatenate()(branches or [pixels, conv(x, 256, 3, dilation_rate=6)])
    y = conv(y, 256, activation="relu")
    if kind == "decoder":
        y = keras.layers.Concatenate()([y, conv(x, 48)])
    logits = conv(y, 21)
    return keras.Model(images, logits)


def normalize(images):
    return images / 127.5 - 1


def convert(network, file, precision="float32", *, normalize=normalize):
    """A network -> the file that TensorFlow's converter makes of it.

    normalize: how the images are that int8's ranges are measured on.
    """
    values = [(weight, weight.numpy()) for weight in network.weights]

    @tf.function(input_signature=[tf.TensorSpec((1, SIDE, SIDE, 3))])
    def constant(images):
        constants = [(weight, tf.constant(value)) for weight, value in values]
        with keras.StatelessScope(state_mapping=constants):
            return network(images)

    function = constant.get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], tf.Module())
    if precision != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if precision == "int8":
        converter.representative_dataset = lambda: ([normalize(IMAGE)] for _ in range(2))
    file.write_bytes(converter.convert())
    return file


IMAGE = np.random.default_rng(0).integers(0, 256, (1, SIDE, SIDE, 3)).astype("float32")


def run_interpreter(file, images, **options):
    return interpret(file, **options)(images)


def interpret(file, **options):
    """A file -> the function that its interpreter makes of it."""
    interpreter = tf.lite.Interpreter(str(file), **options)
    interpreter.allocate_tensors()

    def run(images):
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], images)
        interpreter.invoke()
        return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])

    return run


def loaded(file):
    """A file of a whole model -> our model with its weights."""
    weights = open_weights(str(file), "")
    model = deeplabv3(**weights.model)
    report = load(model, weights)
    assert not report.unknown and not report.missing and not report.skipped
    return model


@pytest.fixture(scope="module")
def network():
    return authors_network()


@pytest.fixture(scope="module")
def file(network, tmp_path_factory):
    return convert(network, tmp_path_factory.mktemp("tflite") / "float.tflite")


@pytest.mark.parametrize("output_stride, kind", [(16, "pooling first"), (8, "pooling last")])
def test_a_float_file_has_the_same_logits(output_stride, kind, tmp_path):
    network = authors_network(output_stride, kind=kind)
    file = convert(network, tmp_path / "x.tflite")
    model = loaded(file)
    assert open_weights(str(file), "").model["output_stride"] == output_stride
    logits = keras.Model(model.input, model.get_layer("logits").output)(IMAGE).numpy()
    expected = run_interpreter(file, normalize(IMAGE))
    assert len(np.unique(expected.argmax(-1))) > 2
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4 * expected.std())
    resized = tf.compat.v1.image.resize_bilinear(expected, (SIDE, SIDE), align_corners=True)
    np.testing.assert_array_equal(model(IMAGE).numpy().argmax(-1), resized.numpy().argmax(-1))


def test_a_quantized_file_has_the_weights_to_half_a_step(network, tmp_path):
    """int8 with a scale per channel: 127 steps for the largest of its weights."""
    weights = from_tflite(convert(network, tmp_path / "x.tflite", "int8"))
    kernels = [array for array in network.get_weights() if array.ndim == 4]
    ours = [value for name, value in weights.values.items() if name.endswith("/kernel")]
    order = [value.shape for value in ours[:52]]
    assert order == [kernel.shape for kernel in kernels[:52]]
    for value, kernel in zip(ours[:52], kernels[:52], strict=True):
        channels = 2 if kernel.shape[3] == 1 else 3
        axes = tuple(axis for axis in range(4) if axis != channels)
        step = np.abs(kernel).max(axes, keepdims=True) / 127
        assert (np.abs(value - kernel) <= 0.51 * step).all()
        assert np.abs(value - kernel).max() > 0
    assert weights.model["num_classes"] == 21


def test_what_became_of_each_weight_is_reported(file):
    weights = open_weights(str(file), "")
    report = load(deeplabv3(**weights.model), weights)
    counts = {
        line.split()[0]: line.split()[1:4]
        for line in describe("x", weights, report).split("\n")[2:]
    }
    # Kernel and bias are of the file; gamma, beta and statistics are made of the bias.
    assert counts["backbone"] == [str(51 * 5), str(51 * 2), str(51 * 4)]
    assert counts["aspp"] == [str(3 * 5), str(3 * 2), str(3 * 4 + 1)]
    assert counts["logits"] == ["2", "2", "0"]


def test_a_classifier_fills_the_backbone_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    network = authors_network(32, kind="classifier")
    convert(network, tmp_path / "x.tflite")
    weights = open_weights("x.tflite", "")
    assert len(weights.skipped) == 4 and "num_classes" not in weights.model
    model = deeplabv3(**weights.model, output_stride=32)
    load(model, weights, part="backbone")
    ours = keras.Model(model.input, model.get_layer("unit17_out").output)(IMAGE)
    features = next(layer for layer in network.layers[::-1] if layer.output.shape[3] == 160)
    expected = keras.Model(network.input, features.output)(normalize(IMAGE))
    np.testing.assert_allclose(ours, expected, atol=1e-4 * np.std(expected))
    command = "base.py:voc_mobile --config.model.backbone=mobilenet_v2_050 --config.init_from"
    with pytest.raises(ValueError, match=f"holds a backbone only.*{command}.path=x.tflite$"):
        import_run("x.tflite", base.as_data(base.get_config()))
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "precision, said", [("float16", "weights in float16"), ("dynamic", "dynamic range")]
)
def test_other_precisions_are_named(precision, said, network, tmp_path):
    file = convert(network, tmp_path / "x.tflite", precision)
    with pytest.raises(ValueError, match=f"x.tflite: .*{said}.*Convert the network to float32"):
        open_weights(str(file), "")


def test_other_networks_are_named(tmp_path):
    kerass = keras.applications.MobileNetV2((SIDE, SIDE, 3), 0.5, weights=None, include_top=False)
    small = keras.Sequential([keras.Input((SIDE, SIDE, 3)), keras.layers.Conv2D(8, 3)])
    for network, said in (
        (kerass, r"number 6 is of shape .*; mobilenet_v2_050 has .* there \(unit2_project\)"),
        (small, r"of its 1 convolutions, number 1 is of shape \(3, 3, 3, 8\)"),
        (authors_network(kind="no pooling"), "head is not.* has 1 conc.* of 1 x 1, 3 x 3, 1 x 1"),
        (authors_network(kind="decoder"), "head is not the authors'.* has 2 concatenations"),
    ):
        with pytest.raises(ValueError, match=said):
            from_tflite(convert(network, tmp_path / "x.tflite"))


@pytest.mark.parametrize(
    "precision, pixels, said",
    [
        ("float32", lambda x: x / 57 - 2, "-2.00..2.47"),
        ("int8", lambda x: x / 57 - 2, "-2.00..2.47"),
        ("int8", lambda x: x / 255, "0.00..1.00"),
    ],
)
def test_pixels_of_another_convention_are_named(precision, pixels, said, network, tmp_path):
    """A float graph normalizes them itself; a quantized one has their range."""
    inside = keras.Input((SIDE, SIDE, 3), batch_size=1)
    whole = keras.Model(inside, network(pixels(inside))) if precision == "float32" else network
    file = convert(whole, tmp_path / "x.tflite", precision, normalize=pixels)
    with pytest.raises(ValueError, match=f"pixels are normalized to {said}.* to -1..1"):
        from_tflite(file)


def test_a_graph_may_normalize_pixels_as_the_authors_do(network, tmp_path):
    images = keras.Input((SIDE, SIDE, 3), batch_size=1)
    file = convert(keras.Model(images, network(normalize(images))), tmp_path / "x.tflite")
    assert from_tflite(file).model["num_classes"] == 21


def test_a_damaged_file_is_said_to_be(file, tmp_path):
    data = file.read_bytes()
    damaged = tmp_path / "x.tflite"
    rng = np.random.default_rng(0)
    for size in (0, 6, 20, *rng.integers(100, len(data), 5)):
        damaged.write_bytes(data[:size])
        with pytest.raises(ValueError, match="it is damaged.* Fetch it again"):
            from_tflite(damaged)
    with pytest.raises(FileNotFoundError, match="There is no file .*other.tflite"):
        open_weights(str(tmp_path / "other.tflite"), "")


@pytest.mark.parametrize("theirs, ours", [tuple(MOBILENETS), ("mobilenet_v2", "resnet50_beta")])
def test_another_width_or_family_is_refused(theirs, ours, tmp_path):
    weights = Weights({}, {"backbone": theirs})
    said = f"is a {theirs}, of another width than {ours}" if "mobilenet" in ours else "whose pixels"
    with pytest.raises(ValueError, match=f"{said}.*--config.model.backbone={theirs}"):
        check_convention(weights, {"backbone": ours}, path="x.tflite", part="backbone")


@pytest.mark.skipif(not PUBLISHED.exists(), reason="the published files are not here")
@pytest.mark.parametrize("name", SEGMENTS)
def test_the_published_files_segment_as_their_own_interpreter(name):
    """On noise in patches, which is harder than photos: most pixels are of the same class."""
    file = PUBLISHED / f"{name}.tflite"
    model = loaded(file)
    images = np.random.default_rng(0).integers(0, 256, (1, 27, 27, 3)).astype(np.uint8)
    images = images.repeat(19, axis=1).repeat(19, axis=2)
    ours = model(images).numpy().argmax(-1)
    assert (ours == run_interpreter(file, images)).mean() > SEGMENTS[name]


@pytest.mark.slow
@pytest.mark.skipif(not (PUBLISHED.exists() and VOC.exists()), reason="VOC's photos are not here")
@pytest.mark.parametrize("name", SEGMENTS)
def test_photos_are_segmented_as_by_the_published_files_own_interpreter(name):
    """As nearly as two of its own sets of kernels agree, which round 8 bits in different ways."""
    file = PUBLISHED / f"{name}.tflite"
    ours = tf.function(loaded(file))
    theirs, plain = interpret(file), interpret(file, experimental_op_resolver_type=PLAIN_KERNELS)
    ids = (VOC / "ImageSets" / "Segmentation" / "val.txt").read_text().split()[:20]
    differ, kernels_differ = [], []
    for each in ids:
        with Image.open(VOC / "JPEGImages" / f"{each}.jpg") as photo:
            images = np.asarray(photo.resize((513, 513), Image.Resampling.BILINEAR))[None]
        expected = theirs(images)
        differ.append((ours(images).numpy().argmax(-1) != expected).mean())
        kernels_differ.append((plain(images) != expected).mean())
    assert np.mean(differ) < 0.01
    assert np.mean(differ) < 1.5 * np.mean(kernels_differ)
