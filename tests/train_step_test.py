"""One step of training: what it computes, in every precision and however it is compiled."""

import subprocess
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from model.backbones import BACKBONES
from model.deeplabv3 import deeplabv3
from model.layers import KernelDecay, ResizeBilinear, conv_bn, freeze_batch_norm
from tests.conftest import ROOT
from tests.preloaded_python import preloaded_python
from tests.train_test import small_config
from training.optimizer import make_optimizer
from training.train_step import TrainState, make_state, make_train_step


def trained_by(config, **options):
    """A config -> the state that is trained, and its step."""
    keras.utils.set_random_seed(0)
    model = deeplabv3(**config.model, precision=config.precision)
    if config.freeze_batch_norm:
        freeze_batch_norm(model)
    optimizer = make_optimizer(config.learning_rate, steps=config.steps, precision=config.precision)
    state = make_state(model, optimizer)
    return state, make_train_step(
        state,
        tf.distribute.get_strategy(),
        upsample_logits=config.upsample_logits,
        **options,
    )


@pytest.fixture
def trained():
    return trained_by(small_config())


def one_batch(valid=True):
    images = tf.random.stateless_uniform((2, 33, 33, 3), (0, 1), 0, 255)
    labels = tf.random.stateless_uniform((2, 33, 33), (0, 2), 0, 21, tf.int32)
    return images, labels if valid else tf.fill(labels.shape, 255)


def weights_of(state):
    return {weight.path: weight.numpy() for weight in state.model.weights}


@pytest.mark.parametrize("frozen", [True, False])
def test_frozen_batch_norm_stays_as_it_was(frozen):
    """Its statistics, gamma and beta; the rest is trained."""
    state, train_step = trained_by(small_config(freeze_batch_norm=frozen, steps=20))
    before = weights_of(state)
    for _ in range(20):
        train_step(*one_batch())
    after = weights_of(state)
    changed = {path for path in before if not np.array_equal(after[path], before[path])}
    norms = {path for path in before if "_bn/" in path}
    assert {path for path in before if path.endswith("/kernel")} <= changed
    assert not changed & norms if frozen else norms <= changed


def test_the_first_loss_is_that_of_a_guess(trained):
    """The logits' small initial weights make 21 classes alike: log 21 = 3.04."""
    loss, *_ = trained[1](*one_batch())
    assert float(loss) == pytest.approx(np.log(21), abs=0.3)


def test_the_backbones_learning_rate_is_a_multiple_of_the_heads():
    """Its first update is that much smaller; with 0 its weights stay, and its statistics move."""
    state, train_step = trained_by(small_config())
    before = weights_of(state)
    train_step(*one_batch())
    whole = weights_of(state)
    for factor in (0, 0.1):
        state, train_step = trained_by(small_config(), backbone_learning_rate_factor=factor)
        train_step(*one_batch())
        for path, value in weights_of(state).items():
            is_slower = not path.startswith(("aspp", "logits")) and "moving_" not in path
            expected = (whole[path] - before[path]) * (factor if is_slower else 1)
            np.testing.assert_allclose(value - before[path], expected, rtol=1e-3, atol=1e-6)


def test_labels_full_of_255_teach_nothing_but_weight_decay():
    state, train_step = trained_by(small_config(learning_rate=100.0))
    before = weights_of(state)
    loss, *_ = train_step(*one_batch(valid=False))
    assert float(loss) == 0
    for weight in state.model.trainable_variables:
        # One step of SGD on 1e-4 / 2 * sum(kernel^2).
        decay = 100 * 1e-4 if weight.path.endswith("/kernel") else 0
        np.testing.assert_allclose(weight.numpy(), (1 - decay) * before[weight.path], rtol=1e-5)


def test_a_model_learns_one_batch_by_heart(trained):
    images, labels = one_batch()
    labels = tf.where(images[..., 0] > 127, 3, 7)
    losses = [float(trained[1](images, labels)[0]) for _ in range(8)]
    assert losses[-1] < 0.8 * losses[0]


# A network small enough to be differentiated by finite differences, of all that a step is made of.


def tiny_model():
    images = keras.Input((9, 9, 3), name="images")
    x = layers.Rescaling(1 / 64, -2.0, name="pixels")(images)
    x = conv_bn(x, 4, 3, stride=2, batch_norm_decay=0.9, name="strided")
    x = conv_bn(x, 3, 3, rate=2, batch_norm_decay=0.9, name="atrous")
    x = layers.Conv2D(3, 1, kernel_regularizer=KernelDecay(), name="logits")(x)
    return keras.Model(images, ResizeBilinear(name="upsampled_logits")(x, images))


def conv_by_hand(x, kernel, stride=1, rate=1):
    padded = np.pad(x, ((0, 0), (rate, rate), (rate, rate), (0, 0)))
    out = [
        [
            np.einsum("bijc,ijcd->bd", padded[:, r : r + 2 * rate + 1 : rate,
                                              c : c + 2 * rate + 1 : rate], kernel)
            for c in range(0, x.shape[2], stride)
        ]
        for r in range(0, x.shape[1], stride)
    ]  # fmt: skip
    return np.transpose(np.array(out), (2, 0, 1, 3))


def bn_relu_by_hand(x, gamma, beta):
    mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
    return np.maximum(0, gamma * (x - mean) / np.sqrt(variance + 1e-5) + beta)


def loss_by_hand(weights, images, labels):
    """Cross entropy, mean over the pixels that are not 255."""
    x = images / 64 - 2
    x = conv_by_hand(x, weights["strided_conv/kernel"], stride=2)
    x = bn_relu_by_hand(x, weights["strided_bn/gamma"], weights["strided_bn/beta"])
    x = conv_by_hand(x, weights["atrous_conv/kernel"], rate=2)
    x = bn_relu_by_hand(x, weights["atrous_bn/gamma"], weights["atrous_bn/beta"])
    x = x @ weights["logits/kernel"][0, 0] + weights["logits/bias"]
    between = (x[:, :-1] + x[:, 1:]) / 2  # From 5 to 9 pixels: every other one is new.
    x = np.insert(x, [1, 2, 3, 4], between, axis=1)
    x = np.insert(x, [1, 2, 3, 4], (x[:, :, :-1] + x[:, :, 1:]) / 2, axis=2)
    x = x[labels != 255]
    chosen = x[np.arange(len(x)), labels[labels != 255]]
    return np.mean(np.log(np.exp(x).sum(1)) - chosen)


def decay_by_hand(weights):
    return sum(0.5e-4 * np.sum(w**2) for name, w in weights.items() if name.endswith("/kernel"))


def gradient_by_hand(weights, *batch, distance=1e-5):
    """Central differences of the loss and of weight decay."""
    gradient = {name: np.zeros_like(value) for name, value in weights.items()}
    for name, value in weights.items():
        for i in np.ndindex(value.shape):
            before, sides = value[i], []
            for value[i] in (before + distance, before - distance):
                sides.append(loss_by_hand(weights, *batch) + decay_by_hand(weights))
            value[i] = before
            gradient[name][i] = (sides[0] - sides[1]) / (2 * distance)
    return gradient


def test_three_steps_are_those_by_hand():
    """Loss, weight decay, learning rate and every weight, in NumPy, in float64."""
    keras.utils.set_random_seed(0)
    model = tiny_model()
    optimizer = make_optimizer(0.1, steps=4)
    optimizer.build(model.trainable_variables)
    state = TrainState(model, optimizer, tf.Variable(0, dtype=tf.int64))
    train_step = make_train_step(state, tf.distribute.get_strategy())
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, 9, 9, 3))
    labels = rng.choice([0, 1, 2, 255], (2, 9, 9))
    weights = {w.path: w.numpy().astype(np.float64) for w in model.trainable_variables}
    momentum = {name: 0.0 for name in weights}
    for step in range(3):
        learning_rate = 0.1 * (1 - step / 4) ** 0.9
        assert float(optimizer.learning_rate) == pytest.approx(learning_rate, rel=1e-5)
        gradient = gradient_by_hand(weights, images, labels)
        norm = np.sqrt(sum(np.sum(g**2) for g in gradient.values()))
        expected = loss_by_hand(weights, images, labels), decay_by_hand(weights), norm
        got = train_step(tf.constant(images, tf.uint8), tf.constant(labels, tf.int32))
        np.testing.assert_allclose(got, expected, rtol=1e-4)
        for name in weights:
            momentum[name] = 0.9 * momentum[name] - learning_rate * gradient[name]
            weights[name] = weights[name] + momentum[name]
    for weight in model.trainable_variables:
        np.testing.assert_allclose(weight.numpy(), weights[weight.path], rtol=1e-3, atol=1e-5)


# At 0.05 the last bits grow a hundredfold a step; in batch norm over two pooled values too.
CASCADE = {"learning_rate": 0.001, "model.atrous_rates": None}


def steps_of(config, steps=3, **options):
    """Losses, weight decay and gradient norms of some steps; then the weights."""
    state, train_step = trained_by(config, **options)
    values = [[float(value) for value in train_step(*one_batch())] for _ in range(steps)]
    return np.array(values), weights_of(state)


def test_under_xla_the_loss_is_the_same():
    """Of a cascade: XLA draws another mask for ASPP's dropout."""
    plain, _ = steps_of(small_config(**CASCADE))
    compiled, _ = steps_of(small_config(**CASCADE), jit_compile=True)
    np.testing.assert_allclose(compiled[:, :2], plain[:, :2], rtol=1e-4)
    np.testing.assert_allclose(compiled[:, 2], plain[:, 2], rtol=1e-2)


@pytest.mark.parametrize(
    "overrides", [{"learning_rate": 0.001}, CASCADE | {"upsample_logits": False}]
)
def test_what_is_rematerialized_is_the_same(overrides):
    """Batch norm's statistics too, though they are computed twice."""
    config = small_config(**overrides)
    plain, weights = steps_of(config)
    again, others = steps_of(config, rematerialize=True)
    np.testing.assert_allclose(again, plain, rtol=1e-5)
    for name, value in weights.items():
        np.testing.assert_allclose(others[name], value, rtol=1e-5, atol=1e-6, err_msg=name)


def test_what_is_rematerialized_is_computed_twice():
    """Three convolutions or more of each unit."""
    convolutions = []
    for rematerialize in (False, True):
        _, train_step = trained_by(small_config(**CASCADE), rematerialize=rematerialize)
        graph = train_step.get_concrete_function(*one_batch()).graph
        convolutions.append(count(graph, "Conv2D"))
    units = sum(BACKBONES["resnet_tiny"].num_units)
    assert convolutions[1] - convolutions[0] >= 3 * units


def count(graph, kind):
    """Operations of a kind in a graph and in the functions that it calls."""
    functions = graph.as_graph_def().library.function
    nodes = [node for function in functions for node in function.node_def]
    return sum(node.op == kind for node in [*graph.as_graph_def().node, *nodes])


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_half_precision_trains_float32_weights(precision):
    """Batch norm's statistics, the logits, the loss and the weights stay in float32."""
    plain, _ = steps_of(small_config(**CASCADE))
    got, weights = steps_of(small_config(precision=precision, **CASCADE))
    assert {str(weight.dtype) for weight in weights.values()} == {"float32"}
    np.testing.assert_allclose(got[:, :2], plain[:, :2], rtol=2e-3)
    # Of the first step: without AVX-512, rounding grows in the later ones.
    np.testing.assert_allclose(got[0, 2], plain[0, 2], rtol=0.05)
    model = deeplabv3(**small_config().model, precision=precision)
    assert model.get_layer("block1_unit1_1_conv").compute_dtype == precision.removeprefix("mixed_")
    assert model.output.dtype == "float32"
    assert keras.config.dtype_policy().name == "float32"  # As it was.


def test_gradients_that_overflow_in_float16_leave_the_step_out_but_not_the_batch():
    state, train_step = trained_by(small_config(precision="mixed_float16"))
    state.optimizer.dynamic_scale.assign(2.0**126)
    before = {weight.path: weight.numpy() for weight in state.model.trainable_variables}
    loss, *_ = train_step(*one_batch())
    assert np.isfinite(float(loss)) and state.steps_taken() == 1
    assert int(state.optimizer.iterations) == 0
    assert float(state.optimizer.dynamic_scale) == 2.0**125
    for weight in state.model.trainable_variables:
        np.testing.assert_array_equal(weight.numpy(), before[weight.path])


def test_logits_that_are_not_upsampled_meet_the_labels_at_every_sixteenth_pixel():
    images, labels = one_batch()
    grid = tf.fill(labels.shape, 255).numpy()
    grid[:, ::16, ::16] = labels[:, ::16, ::16]  # Of 33 pixels: the features' own three.
    config = small_config(upsample_logits=False)
    losses = [float(trained_by(config)[1](images, given)[0]) for given in (labels, grid)]
    assert losses[0] == losses[1]
    assert losses[0] != float(trained_by(small_config())[1](images, labels)[0])


def test_xla_is_for_one_device(trained):
    two = types.SimpleNamespace(num_replicas_in_sync=2)
    with pytest.raises(ValueError, match="one device"):
        make_train_step(trained[0], two, jit_compile=True)


TWO_REPLICAS = """
import sys, tensorflow as tf
(cpu,) = tf.config.list_physical_devices("CPU")
one = tf.config.LogicalDeviceConfiguration()
tf.config.set_logical_device_configuration(cpu, [one, one])
from tests.train_step_test import save_steps
save_steps(sys.argv[1], replicas=1)
save_steps(sys.argv[1], replicas=2)
"""


def save_steps(folder, *, replicas):
    """Two steps of the tiny model -> FOLDER/REPLICAS.npz: what they returned, and the weights.

    In the first one all labels are 255, and the learning rate is so high that the decay is seen.
    """
    strategy = tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(replicas)])
    keras.utils.set_random_seed(0)
    with strategy.scope():
        state = make_state(tiny_model(), make_optimizer(100.0, steps=1000))
    train_step = make_train_step(state, strategy)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (4, 9, 9, 3), np.uint8)
    labels = rng.choice([0, 1, 2, 255], (4, 9, 9)).astype(np.uint8)
    labels[0] = 255  # So the two halves have other numbers of pixels to learn from.
    saved = {f"start/{w.path}": w.numpy() for w in state.model.weights}
    for step, batch in enumerate([(images, np.full_like(labels, 255)), (images, labels)]):
        parts = [
            strategy.experimental_distribute_values_from_function(
                lambda context, array=array: tf.constant(
                    np.split(array, replicas)[context.replica_id_in_sync_group]
                )
            )
            for array in batch
        ]
        saved[f"step{step}"] = np.array([float(value) for value in train_step(*parts)])
        saved |= {f"{step}/{w.path}": w.numpy() for w in state.model.weights}
    np.savez(f"{folder}/{replicas}.npz", **saved)


def test_two_replicas_take_the_steps_of_one(tmp_path):
    """The loss is over all pixels, the decay counts once, batch norm sees the whole batch."""
    command = [preloaded_python(), "-c", TWO_REPLICAS, str(tmp_path)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    one, two = (np.load(tmp_path / f"{replicas}.npz") for replicas in (1, 2))
    assert set(one) == set(two)
    for name in one:
        np.testing.assert_allclose(two[name], one[name], rtol=1e-4, atol=1e-5, err_msg=name)
    np.testing.assert_allclose(one["0/logits/kernel"], 0.99 * one["start/logits/kernel"], rtol=1e-5)
