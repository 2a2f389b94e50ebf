"""What makes a ResNet atrous: the plan of Fig. 3; dense features == strided ones."""

import keras
import numpy as np
import pytest

from model.deeplabv3 import deeplabv3
from model.resnet import OUTPUT_STRIDES, RESNETS, atrous_plan, resnet

UNITS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
# The cascade up to block7: the stride of a block's last unit and the rate of its 3x3 convs, from
# block1 on, for each output_stride. Sec. 3.2, Fig. 3 (b); block1 always has stride 2.
CASCADE = {
    8: [(2, 1), (1, 1), (1, 2), (1, 4), (1, 8), (1, 16), (1, 32)],
    16: [(2, 1), (2, 1), (1, 1), (1, 2), (1, 4), (1, 8), (1, 16)],
    32: [(2, 1), (2, 1), (2, 1), (1, 1), (1, 2), (1, 4), (1, 8)],
    64: [(2, 1), (2, 1), (2, 1), (2, 1), (1, 1), (1, 2), (1, 4)],
    128: [(2, 1), (2, 1), (2, 1), (2, 1), (2, 1), (1, 1), (1, 2)],
    256: [(2, 1), (2, 1), (2, 1), (2, 1), (2, 1), (2, 1), (1, 1)],
}
MAP_AT_513 = {8: 65, 16: 33, 32: 17, 64: 9, 128: 5, 256: 3}


def features(images, backbone="resnet_tiny", **arguments):
    """Images -> features of a network with random weights, the same for the same backbone."""
    keras.utils.set_random_seed(0)  # No weight depends on output_stride or multi_grid.
    inputs = keras.Input((None, None, 3))
    outputs = resnet(inputs, backbone, batch_norm_decay=0.9, **arguments)
    return np.array(keras.Model(inputs, outputs)(images))


@pytest.mark.parametrize("depth", UNITS)
@pytest.mark.parametrize("output_stride", CASCADE)
def test_plan_of_the_cascade_is_that_of_figure_3(output_stride, depth):
    units = UNITS[depth] + (3, 3, 3)
    plan = atrous_plan(units, output_stride=output_stride, multi_grid=(1, 1, 1))
    assert [len(block) for block in plan] == list(units)
    for block, (stride, rate) in zip(plan, CASCADE[output_stride], strict=True):
        assert [s for s, _ in block] == [1] * (len(block) - 1) + [stride]
        assert {r for _, r in block} == {rate}


@pytest.mark.parametrize("output_stride", MAP_AT_513)
def test_map_at_513_has_the_size_of_table_1(output_stride):
    size = 513 // 4 + 1
    plan = atrous_plan(UNITS[50] + (3, 3, 3), output_stride=output_stride, multi_grid=(1, 1, 1))
    for stride, _ in sum(plan, []):
        size = -(-size // stride)
    assert size == MAP_AT_513[output_stride]


@pytest.mark.parametrize(
    "output_stride, block3, block4",
    [(32, 1, [1, 2, 4]), (16, 1, [2, 4, 8]), (8, 2, [4, 8, 16])],
)
def test_rates_are_those_of_section_3(output_stride, block3, block4):
    """ "(2, 4, 8) = 2 x (1, 2, 4) when output_stride = 16" (Sec. 3.2.1)."""
    plan = atrous_plan(UNITS[101], output_stride=output_stride, multi_grid=(1, 2, 4))
    assert [rate for _, rate in plan[2]] == [block3] * 23
    assert [rate for _, rate in plan[3]] == block4


@pytest.mark.parametrize("stride_first", [False, True])
@pytest.mark.parametrize("seed", range(50))
def test_random_plans(seed, stride_first):
    """Strides multiply to output_stride / 4; stride * block rate, once it moves, always doubles."""
    rng = np.random.default_rng(seed)
    num_blocks = int(rng.integers(4, 8))
    units = (*rng.integers(1, 8, 3).tolist(), *[3] * (num_blocks - 3))
    output_stride = int(rng.choice([s for s in OUTPUT_STRIDES if s <= 2 ** (num_blocks + 1)]))
    multi_grid = tuple(rng.integers(1, 5, 3).tolist())
    how = {"multi_grid": multi_grid, "stride_first": stride_first}
    plan = atrous_plan(units, output_stride=output_stride, **how)
    assert [len(block) for block in plan] == list(units)
    assert 4 * np.prod([stride for block in plan for stride, _ in block]) == output_stride
    current = 4
    for i, block in enumerate(plan):
        unit_rates = multi_grid if i >= 3 else (1,) * len(block)
        # A 3x3 conv's taps are as far apart in the image as in the ResNet of stride 2 each block.
        for unit, ((stride, rate), unit_rate) in enumerate(zip(block, unit_rates, strict=True)):
            before = stride_first and unit == 0 and i > 0  # It is the one that halves.
            assert current * rate / unit_rate == 4 * 2 ** (i - before)
            current *= stride


@pytest.mark.parametrize(
    "arguments, said",
    [
        (dict(output_stride=64), "8, 16, 32"),
        (dict(output_stride=12), "8, 16, 32"),
        (dict(output_stride=4), "8, 16, 32"),
        (dict(multi_grid=(1, 2)), "2 rates, but block4 has 3"),
    ],
)
def test_impossible_plans_say_what_is_possible(arguments, said):
    with pytest.raises(ValueError, match=said):
        atrous_plan(UNITS[50], **{"output_stride": 16, "multi_grid": (1, 1, 1), **arguments})


def test_an_unknown_backbone_lists_those_there_are():
    with pytest.raises(ValueError, match="'vgg16'.*resnet50, resnet101, resnet50_beta"):
        deeplabv3("vgg16")


def agree(ours, theirs):
    """To 1e-5 of the features' deviation: they are large, so that 0 is never met exactly."""
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() < 1e-5 * theirs.std()


@pytest.mark.parametrize("backbone", ["resnet_tiny", "resnet_tiny_beta", "resnet_tiny_torchvision"])
@pytest.mark.parametrize("output_stride", [8, 16])
@pytest.mark.parametrize("size", [(129, 97), (96, 130), (1, 65)])
def test_dense_features_agree_with_strided_ones(size, output_stride, backbone):
    """Sec. 3.1: atrous convolution computes the same responses, only more of them."""
    images = np.random.default_rng(0).uniform(0, 255, (1, *size, 3)).astype("float32")
    strided = features(images, backbone, output_stride=32, multi_grid=(1, 1, 1))
    dense = features(images, backbone, output_stride=output_stride, multi_grid=(1, 1, 1))
    every = 32 // output_stride
    agree(dense[:, ::every, ::every], strided)


@pytest.mark.parametrize(
    "backbone, output_stride",
    [("resnet_tiny", stride) for stride in (64, 128, 256)] + [("resnet_tiny_torchvision", 128)],
)
def test_deep_cascades_agree_with_strided_ones(backbone, output_stride):
    """Multi-grid included: at these strides a unit has both a stride and a rate."""
    images = np.random.default_rng(0).uniform(0, 255, (1, 257, 140, 3)).astype("float32")
    cascade = dict(backbone=backbone, num_blocks=7, multi_grid=(2, 2, 4))
    dense = features(images, output_stride=output_stride // 2, **cascade)
    strided = features(images, output_stride=output_stride, **cascade)
    agree(dense[:, ::2, ::2], strided)


def test_multi_grid_changes_what_is_seen():
    images = np.random.default_rng(0).uniform(0, 255, (1, 65, 65, 3)).astype("float32")
    plain = features(images, output_stride=16, multi_grid=(1, 1, 1))
    assert np.abs(features(images, output_stride=16, multi_grid=(1, 2, 4)) - plain).max() > 0.1


CONVENTIONS = ("resnet_tiny_beta", "resnet_tiny_keras", "resnet_tiny_torchvision")


def test_a_convention_is_that_of_its_name_at_every_size():
    for convention in ("", "_beta", "_keras", "_torchvision"):
        small = RESNETS[f"resnet_tiny{convention}"]
        for depth, num_units in UNITS.items():
            expected = small._replace(num_units=num_units, width=64)
            assert RESNETS[f"resnet{depth}{convention}"] == expected


@pytest.mark.parametrize("backbone", ["resnet_tiny", *CONVENTIONS])
def test_a_photo_reaches_the_network_in_the_form_of_its_weights(backbone):
    """Of one RGB pixel: what the authors, keras.applications and torchvision make of it."""
    images = keras.Input((None, None, 3))
    how = dict(output_stride=16, multi_grid=(1, 1, 1), batch_norm_decay=0.9)
    model = keras.Model(images, resnet(images, backbone, **how))
    first = next(layer for layer in model.layers if layer.name in ("conv1_pad", "conv1_1_pad"))
    rgb = np.float32([[[[250, 130, 10]]]])
    seen = np.array(keras.Model(images, first.input)(rgb))[0, 0, 0]
    expected = {
        "keras": keras.applications.resnet.preprocess_input(rgb.copy())[0, 0, 0],
        "torchvision": (rgb[0, 0, 0] / 255 - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225),
        "beta": rgb[0, 0, 0] / 127.5 - 1,
    }.get(backbone.split("_")[-1], rgb[0, 0, 0] - (123.15, 115.90, 103.06))
    np.testing.assert_allclose(seen, expected, rtol=1e-5, atol=1e-5)


def test_the_mean_pixel_is_seen_as_nothing():
    for backbone in ("resnet_tiny", *CONVENTIONS):
        images = np.broadcast_to(np.float32(RESNETS[backbone].mean_pixel), (1, 33, 33, 3))
        seen = features(images, backbone, output_stride=16, multi_grid=(1, 1, 1))
        np.testing.assert_allclose(seen, 0, atol=1e-4)
