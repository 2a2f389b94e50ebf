"""Baselines of the benchmark: torchvision's DeepLabv3, and our network with Keras's own layers."""

from collections.abc import Callable, Sequence

import keras
import numpy as np

import model.layers

# torchvision's replace_stride_with_dilation, of its last three stages, by output_stride.
DILATED_STAGES = {8: (False, True, True), 16: (False, False, True)}
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def torchvision_network(
    backbone: str, *, output_stride: int, atrous_rates: Sequence[int], num_classes: int
):
    """deeplabv3's arguments -> torchvision's DeepLabv3 of the same depth, stride and rates.

    Raises ValueError if torchvision does not have it.
    """
    from torchvision.models import resnet
    from torchvision.models._utils import IntermediateLayerGetter
    from torchvision.models.segmentation.deeplabv3 import DeepLabHead, DeepLabV3

    depth = backbone.partition("_")[0]
    if depth not in ("resnet50", "resnet101") or output_stride not in DILATED_STAGES:
        raise ValueError(f"torchvision has no {depth} at output_stride {output_stride}.")
    classifier = getattr(resnet, depth)(
        weights=None, replace_stride_with_dilation=DILATED_STAGES[output_stride]
    )
    features = IntermediateLayerGetter(classifier, {"layer4": "out"})
    rates = [rate * 16 // output_stride for rate in atrous_rates]
    return DeepLabV3(features, DeepLabHead(2048, num_classes, rates))


def make_torchvision_step(
    network,
    images: np.ndarray,
    num_classes: int,
    *,
    precision: str,
    training: bool,
    compiled: bool,
) -> Callable[[], object]:
    """torchvision's network and [B, H, W, 3] images -> a function that runs it on them once.

    Args:
      network: of torchvision_network.
      images: uint8.
      num_classes: of the random labels.
      precision: float32, or mixed_bfloat16 for autocast.
      training: take a training step if True; otherwise predict class ids.
      compiled: whether to use torch.compile.
    """
    import torch

    network = network.train(training)
    mean, std = (torch.tensor(values).reshape(1, 3, 1, 1) for values in (MEAN, STD))
    labels = np.random.default_rng(1).integers(0, num_classes, images.shape[:3])
    images, labels = torch.tensor(images), torch.tensor(labels)
    forward = torch.compile(network) if compiled else network
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=precision == "mixed_bfloat16")
    optimizer = torch.optim.SGD(network.parameters(), 0.007, momentum=0.9, weight_decay=1e-4)

    def logits():
        pixels = (images.permute(0, 3, 1, 2) / 255 - mean) / std
        with autocast:
            return forward(pixels)["out"]

    def step():
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(logits().float(), labels, ignore_index=255)
        loss.backward()
        optimizer.step()
        return loss.item()

    def predict():
        with torch.no_grad():
            return logits().argmax(1).to(torch.uint8).numpy()

    return step if training else predict


def use_stock_keras_layers() -> None:
    """From now on, in this process, models use Keras's atrous convolution and batch norm.

    A patch, since only this benchmark needs it: an argument would pass through every function of
    model/, and a converted copy of a model would add its weights to the peak memory. It cannot
    affect other candidates, each of which is a process of its own.
    """
    model.layers.has_native_atrous_gradient = lambda dtype: False
    model.layers.BatchNormalization = keras.layers.BatchNormalization
