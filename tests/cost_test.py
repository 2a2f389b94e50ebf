"""What a row costs: as published, as counted by hand, and as a training step takes it."""

import gc
import re
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from experiments import base, cost, tables
from model.layers import AtrousConv2D
from tests.conftest import ROOT

MULTI_SCALE = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)


def config(backbone="resnet_tiny", output_stride=16, crop_size=81, batch_size=8, frozen=False):
    changed = base.get_config()
    changed.model.backbone, changed.model.output_stride = backbone, output_stride
    changed.freeze_batch_norm = bool(frozen)
    if backbone.startswith("mobilenet"):
        changed.model.multi_grid, changed.model.atrous_rates = (1, 1, 1), ()
    changed.train_data.crop_size, changed.train_data.batch_size = crop_size, batch_size
    return changed


def test_multiply_adds_are_those_published():
    """In the DeepLabv3+ paper, of the last row of Table 5; whose stem has three 3x3 convs."""
    _, *lines = cost.published_table().splitlines()
    cells = [re.split(r"\s{2,}", line) for line in lines]
    published = [52.43, 81.02, 276.18, 2435.37, 4870.59]
    assert [float(theirs) for _, theirs, *_ in cells] == published
    assert [float(ours) for _, _, ours, _ in cells] == pytest.approx(published, rel=0.005)


@pytest.mark.parametrize(
    "output_stride, scales, flip, published",
    [(16, (1.0,), False, 2.75), (8, MULTI_SCALE, True, 152.59)],
)
def test_multiply_adds_of_mobilenet_are_those_published(output_stride, scales, flip, published):
    """In the authors' model zoo."""
    ours = config("mobilenet_v2")
    ours.eval = dict(output_stride=output_stride, scales=scales, flip=flip)
    assert cost.inference_multiply_adds(ours) / 1e9 == pytest.approx(published, rel=0.005)


@pytest.mark.parametrize("multiplier, backbone", [(1, "mobilenet_v2"), (0.5, "mobilenet_v2_050")])
def test_a_mobilenet_is_counted_as_by_hand(multiplier, backbone):
    """A 1x1 conv has a weight per pair of channels, a depthwise one nine per channel."""
    side, channels = 257, int(32 * multiplier)
    parameters = 27 * channels + 2 * channels
    total = side**2 * 27 * channels
    blocks = ((16, 1, 1), (24, 2, 2), (32, 3, 2), (64, 4, 2), (96, 3, 1), (160, 3, 1), (320, 1, 1))
    for full_width, repeats, first_stride in blocks:
        for repeat in range(repeats):
            stride = 1 if repeat else first_stride
            expanded = channels if full_width == 16 else 6 * channels
            width = int(full_width * multiplier)
            if full_width != 16:
                parameters += channels * expanded + 2 * expanded
                total += side**2 * channels * expanded
            side = (side - 1) // stride + 1
            rate = 2 if full_width == 320 or (full_width == 160 and repeat) else 1
            parameters += 9 * expanded + 2 * expanded + expanded * width + 2 * width
            total += (-(-side // rate) * rate) ** 2 * 9 * expanded + side**2 * expanded * width
            channels = width
    head = 2 * (channels * 256 + 512) + 512 * 256 + 512 + 256 * 21 + 21
    model = cost._model(**config(backbone).model)
    assert cost.count_parameters(model) == parameters + head
    pixels = side**2
    total += pixels * (channels * 256 + 512 * 256 + 256 * 21) + channels * 256
    assert cost.multiply_adds(model, 513) == total


def test_multiply_adds_are_counted_as_by_hand():
    images = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(5, 3, strides=2, padding="valid")(images)  # 21 -> 10.
    x = AtrousConv2D(7, 3, dilation_rate=4, padding="same")(x)  # 10, filled up to 12.
    model = keras.Model(images, keras.layers.Conv2D(2, 1)(keras.layers.ReLU()(x)))
    by_hand = 10**2 * 9 * 3 * 5 + 12**2 * 9 * 5 * 7 + 10**2 * 7 * 2
    assert cost.multiply_adds(model, 21) == by_hand


@pytest.mark.parametrize("rate", [2, 5, 18])
def test_taps_on_padding_are_not_needed(rate):
    """A convolution of ones with ones counts, at each position, the taps that are on the image."""
    ones, kernel = tf.ones((1, 9, 13, 1)), tf.ones((3, 3, 1, 1))
    inside = tf.reduce_sum(tf.nn.conv2d(ones, kernel, 1, "SAME", dilations=rate))
    assert cost._taps(9, 3, rate) * cost._taps(13, 3, rate) == float(inside)
    assert cost._taps(9, 3, 1) == 27  # Those of a plain convolution count as everybody counts them.


def test_what_is_useful_is_less_than_what_is_counted_and_grows_with_scales():
    ours = config("resnet50")
    ours.eval.output_stride = 8
    one = cost.useful_multiply_adds(ours, 513)
    assert 0.4 * cost.inference_multiply_adds(ours) < one < cost.inference_multiply_adds(ours)
    ours.eval.flip = True
    assert cost.useful_multiply_adds(ours, 513) == 2 * one


def test_training_takes_three_forward_passes_of_each_image():
    ours = config()
    ours.eval.output_stride = ours.model.output_stride
    forward = cost.useful_multiply_adds(ours, ours.train_data.crop_size)
    images = ours.steps * ours.train_data.batch_size
    assert cost.training_cost(ours).multiply_adds == 3 * images * forward


def test_memory_grows_with_what_is_kept():
    """And is smaller in half precision, with frozen batch norm and with downsampled labels."""
    one, two, four = (cost.training_cost(config(batch_size=2**i)).step_bytes for i in range(3))
    assert four - two == pytest.approx(2 * (two - one), rel=1e-6)
    half, downsampled = config(batch_size=4), config(batch_size=4)
    half.precision, downsampled.upsample_logits = "mixed_bfloat16", False
    assert one < cost.training_cost(half).step_bytes < four
    assert one < cost.training_cost(config(batch_size=4, frozen=True)).step_bytes < four
    upsampled = 2 * 4 * 81**2 * 21 * 4  # Two copies of [4, 81, 81, 21] float32,
    small = 2 * 4 * 6**2 * 21 * 4  # less two at the features' size.
    assert four - cost.training_cost(downsampled).step_bytes == upsampled - small


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from /proc")
@pytest.mark.parametrize(
    "network",
    [
        ("resnet_tiny", 16, 129, 8),
        ("resnet_tiny", 8, 161, 8),
        ("mobilenet_v2", 16, 161, 4, 1),  # With frozen batch norm.
        pytest.param(("resnet50", 16, 161, 2), marks=pytest.mark.slow),
        pytest.param(("resnet50", 8, 161, 2), marks=pytest.mark.slow),
        pytest.param(("resnet50", 16, 161, 2, 1), marks=pytest.mark.slow),
        pytest.param(("mobilenet_v2", 8, 161, 4), marks=pytest.mark.slow),
    ],
)
def test_memory_is_that_of_a_training_step(network):
    """To 20 %: the process's peak after three steps, less what it held when it was traced."""
    result = subprocess.run(
        [sys.executable, "-m", "tests.cost_test", *map(str, network)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        check=True,
    )
    measured = float(result.stdout)
    assert cost.training_cost(config(*network)).step_bytes == pytest.approx(measured, rel=0.2)


def measure(backbone, *sizes):
    """Prints the bytes that training steps take. To be run in a process of its own."""
    ours = config(backbone, *map(int, sizes))
    size = (ours.train_data.batch_size, *2 * [ours.train_data.crop_size])
    optimizer = cost.make_optimizer(ours.learning_rate, steps=ours.steps)
    model = cost.deeplabv3(**ours.model)
    if ours.freeze_batch_norm:
        cost.freeze_batch_norm(model)
    state = cost.make_state(model, optimizer)
    train_step = cost.make_train_step(state, tf.distribute.get_strategy())
    rng = np.random.default_rng(0)  # A system may keep no pages of zeros.
    images = tf.constant(rng.integers(0, 256, (*size, 3), np.uint8))
    labels = tf.constant(rng.integers(0, 21, size, np.int32))
    train_step.get_concrete_function(images, labels)
    gc.collect()
    before = memory("VmRSS")
    for _ in range(3):
        float(train_step(images, labels)[0])
    print(memory("VmHWM") - before)


def memory(field):
    """A field of /proc/self/status, in bytes. getrusage's peak may be of the parent, on Linux."""
    with open("/proc/self/status") as file:
        return 2**10 * int(re.search(rf"{field}:\s+(\d+) kB", file.read())[1])


def test_the_program_says_what_a_table_costs(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["cost", "table8:crop321", "--scale=shapes", "--calibrate"])
    cost.main()
    out = capsys.readouterr().out
    assert re.search(r"table8/crop321 +table8/crop321 +2\.11 +2\.69\n", out)
    (line,) = re.findall(r"table8/crop321 +1 +81 +8 +1800 +0\.\d\d +< 0.01 +(\S+) +(\S+)\n", out)
    images_per_second, hours = map(float, line)
    assert hours == pytest.approx(1800 * 8 / images_per_second / 3600, abs=0.006)
    assert f"Here: {hours:.2f} hours in total." in out


def test_the_hours_of_a_gpu_are_of_the_precision():
    """10^18 multiply-adds are two EFLOP: at 30 % of 156 TFLOP/s, 42,735 s; in half the time."""
    work = cost.TrainingCost(0, 10**18)
    hours = cost.hours_on("A100", work, "float32")
    assert hours == pytest.approx(2e18 / (0.3 * 156e12) / 3600)
    for precision in ("mixed_bfloat16", "mixed_float16"):
        assert cost.hours_on("A100", work, precision) == pytest.approx(hours / 2)


def test_what_a_gpu_cannot_hold_is_said():
    runs = tables.training_runs(["table3/mg111_block7", "table8/crop321"])
    how = {"seeds": dict.fromkeys(runs, 2), "calibrate": False}
    small, large = (cost.training_runs_table(runs, "paper", gpu=g, **how) for g in ("T4", "H100"))
    assert "A step of 1 of these runs takes more than 90 % of 16 GB" in small
    assert "takes more than" not in large and re.search("\ntable8 +2 ", large)


def test_what_does_not_fit_is_not_tried(monkeypatch, capsys):
    monkeypatch.setattr(cost, "_total_memory", lambda: 1e9)
    monkeypatch.setattr(sys, "argv", ["cost", "table6:os16", "--calibrate"])
    cost.main()
    out = capsys.readouterr().out
    assert re.search(r"base +1 +513 +16 +30000 +\d+\.\d+ +\d\.\d\d +too large +-\n", out)


def test_mistakes_are_named(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["cost", "table99"])
    with pytest.raises(SystemExit, match="error: No table 'table99'; there are"):
        cost.main()


if __name__ == "__main__":
    measure(*sys.argv[1:])
