"""Baselines of the benchmark: networks in PyTorch, and our network with Keras's own layers."""

from collections.abc import Callable, Sequence

import numpy as np

import model.layers
from model.mobilenet import MOBILENETS, STEM_WIDTH, mobilenet_plan, scale_width

# torchvision's replace_stride_with_dilation, of its last three stages, by output_stride.
DILATED_STAGES = {8: (False, True, True), 16: (False, False, True)}
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def pytorch_network(
    backbone: str, *, output_stride: int, atrous_rates: Sequence[int], num_classes: int
):
    """deeplabv3's arguments -> the network in PyTorch, a module of images to {"out": logits}.

    It is torchvision's DeepLabv3 of the same depth, stride and rates; MobileNetV2 is ours in
    PyTorch's layers. Raises ValueError if torchvision does not have it.
    """
    if backbone in MOBILENETS:
        return mobilenet_network(backbone, output_stride=output_stride, num_classes=num_classes)
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


def mobilenet_network(backbone: str, *, output_stride: int, num_classes: int):
    """deeplabv3's arguments -> its MobileNetV2 with image pooling and a 1x1 conv, in PyTorch."""
    import torch
    from torch import nn

    def conv_bn(inputs, outputs, size, *, stride=1, rate=1, groups=1, activation=nn.ReLU6):
        padding = rate * (size // 2)
        how = {"stride": stride, "padding": padding, "dilation": rate, "groups": groups}
        layers = [nn.Conv2d(inputs, outputs, size, bias=False, **how), nn.BatchNorm2d(outputs)]
        return nn.Sequential(*layers, *([activation()] if activation else []))

    class Unit(nn.Module):
        def __init__(self, inputs, unit):
            super().__init__()
            wide = unit.expanded_width
            parts = [conv_bn(inputs, wide, 1)] if wide != inputs else []
            depthwise = {"stride": unit.stride, "rate": unit.rate, "groups": wide}
            parts += [conv_bn(wide, wide, 3, **depthwise)]
            self.parts = nn.Sequential(*parts, conv_bn(wide, unit.width, 1, activation=None))
            self.is_residual = unit.stride == 1 and unit.width == inputs

        def forward(self, x):
            return x + self.parts(x) if self.is_residual else self.parts(x)

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            multiplier = MOBILENETS[backbone].depth_multiplier
            channels = scale_width(STEM_WIDTH, multiplier)
            units = [conv_bn(3, channels, 3, stride=2)]
            for unit in mobilenet_plan(multiplier, output_stride=output_stride):
                units.append(Unit(channels, unit))
                channels = unit.width
            filters = MOBILENETS[backbone].aspp_filters
            self.backbone = nn.Sequential(*units)
            self.pooling = conv_bn(channels, filters, 1, activation=nn.ReLU)
            self.pixels = conv_bn(channels, filters, 1, activation=nn.ReLU)
            self.project = conv_bn(2 * filters, filters, 1, activation=nn.ReLU)
            self.head = nn.Sequential(nn.Dropout(0.1), nn.Conv2d(filters, num_classes, 1))

        def forward(self, images):
            x = self.backbone(images)
            pooled = self.pooling(x.mean((2, 3), keepdim=True)).expand(-1, -1, *x.shape[2:])
            x = self.head(self.project(torch.cat([self.pixels(x), pooled], dim=1)))
            resize = nn.functional.interpolate
            return {"out": resize(x, images.shape[2:], mode="bilinear", align_corners=True)}

    return Network()


def make_pytorch_step(
    network,
    images: np.ndarray,
    num_classes: int,
    *,
    precision: str,
    training: bool,
    compiled: bool,
    channels_last: bool,
) -> Callable[[], object]:
    """A network in PyTorch and [B, H, W, 3] images -> a function that runs it on them once.

    Args:
      network: of pytorch_network.
      images: uint8.
      num_classes: of the random labels.
      precision: float32, or mixed_bfloat16 for autocast.
      training: take a training step if True; otherwise predict class ids.
      compiled: whether to use torch.compile.
      channels_last: whether to use that memory layout.
    """
    import torch

    layout = torch.channels_last if channels_last else torch.contiguous_format
    network = network.train(training).to(memory_format=layout)
    mean, std = (torch.tensor(values).reshape(1, 3, 1, 1) for values in (MEAN, STD))
    labels = np.random.default_rng(1).integers(0, num_classes, images.shape[:3])
    images, labels = torch.tensor(images), torch.tensor(labels)
    forward = torch.compile(network) if compiled else network
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=precision == "mixed_bfloat16")
    optimizer = torch.optim.SGD(network.parameters(), 0.007, momentum=0.9, weight_decay=1e-4)

    def logits():
        pixels = (images.permute(0, 3, 1, 2) / 255 - mean) / std
        pixels = pixels.contiguous(memory_format=layout)
        with autocast:
            return forward(pixels)["out"]

    def step():
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(logits().float(), labels, ignore_index=255)
        loss.backward()
        optimizer.step()
        return loss.item()

    def predict():
        with torch.inference_mode():
            return logits().argmax(1).to(torch.uint8).numpy()

    return step if training else predict


def use_stock_keras_layers() -> None:
    """From now on, in this process, our layers compute as the Keras layers that they derive from.

    As on Keras's other backends: convolutions, batch norm and L2 penalty are Keras's, and batch
    norm is that of one device. A patch, since only this benchmark needs it: an argument would pass
    through every function of model/, and a converted copy of a model would add its weights to the
    peak memory. It cannot affect other candidates, each of which is a process of its own.
    """
    model.layers.ON_TENSORFLOW = False
