"""A training step or inference in PyTorch, for benchmark.speed; imports no TensorFlow.

python -m benchmark.pytorch_candidates ARGUMENTS (JSON: those of make_computation)
"""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmark.turns import serve

# torchvision's replace_stride_with_dilation, of its last three stages, by output_stride.
DILATED_STAGES = {8: (False, True, True), 16: (False, False, True)}
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def torchvision_network(
    *, depth: str, output_stride: int, atrous_rates: Sequence[int], num_classes: int
) -> nn.Module:
    """resnet50 or resnet101 -> torchvision's DeepLabv3: [B, 3, H, W] -> {"out": logits}.

    atrous_rates: as stated at output_stride 16.
    """
    from torchvision.models import resnet
    from torchvision.models._utils import IntermediateLayerGetter
    from torchvision.models.segmentation.deeplabv3 import DeepLabHead, DeepLabV3

    classifier = getattr(resnet, depth)(
        weights=None, replace_stride_with_dilation=DILATED_STAGES[output_stride]
    )
    features = IntermediateLayerGetter(classifier, {"layer4": "out"})
    rates = [rate * 16 // output_stride for rate in atrous_rates]
    return DeepLabV3(features, DeepLabHead(2048, num_classes, rates))


class Unit(nn.Module):
    """An inverted residual unit of MobileNetV2: [B, inputs, h, w] -> [B, width, h', w']."""

    def __init__(self, inputs: int, *, expanded_width: int, stride: int, rate: int, width: int):
        super().__init__()
        wide = expanded_width
        parts = [conv_bn(inputs, wide, 1)] if wide != inputs else []
        parts += [conv_bn(wide, wide, 3, stride=stride, rate=rate, groups=wide)]
        self.parts = nn.Sequential(*parts, conv_bn(wide, width, 1, activation=None))
        self.is_residual = stride == 1 and width == inputs

    def forward(self, x):
        return x + self.parts(x) if self.is_residual else self.parts(x)


class MobileNetwork(nn.Module):
    """Our MobileNetV2 with image pooling and a 1x1 conv: [B, 3, H, W] -> {"out": logits}.

    Args:
      stem: channels of the first convolution.
      units: the arguments of each Unit.
      filters: of the head.
      num_classes: of the logits.
    """

    def __init__(self, *, stem: int, units: Sequence[Mapping], filters: int, num_classes: int):
        super().__init__()
        layers, channels = [conv_bn(3, stem, 3, stride=2)], stem
        for unit in units:
            layers.append(Unit(channels, **unit))
            channels = unit["width"]
        self.backbone = nn.Sequential(*layers)
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


def conv_bn(inputs, outputs, size, *, stride=1, rate=1, groups=1, activation=nn.ReLU6):
    padding = rate * (size // 2)
    how = {"stride": stride, "padding": padding, "dilation": rate, "groups": groups}
    layers = [nn.Conv2d(inputs, outputs, size, bias=False, **how), nn.BatchNorm2d(outputs)]
    return nn.Sequential(*layers, *([activation()] if activation else []))


def make_network(arguments: Mapping[str, Any]) -> nn.Module:
    """Arguments of torchvision_network or of MobileNetwork -> the network."""
    return MobileNetwork(**arguments) if "units" in arguments else torchvision_network(**arguments)


def make_computation(
    network: nn.Module,
    *,
    size: Sequence[int],
    num_classes: int,
    precision: str,
    training: bool,
    compiled: bool,
    freezing: bool,
    channels_last: bool,
) -> Callable[[], object]:
    """A network -> a function that runs it once, on random images.

    Args:
      network: of make_network.
      size: [B, H, W] of the images.
      num_classes: of the random labels.
      precision: float32, or mixed_bfloat16 for autocast.
      training: take a training step if True; otherwise predict class ids.
      compiled: whether to use torch.compile.
      freezing: whether it folds the weights, as constants; for inference.
      channels_last: whether to use that memory layout.
    """
    layout = torch.channels_last if channels_last else torch.contiguous_format
    network = network.train(training).to(memory_format=layout)
    mean, std = (torch.tensor(values).reshape(1, 3, 1, 1) for values in (MEAN, STD))
    images = torch.tensor(np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8))
    labels = torch.tensor(np.random.default_rng(1).integers(0, num_classes, size))
    torch._inductor.config.freezing = freezing
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
        loss = nn.functional.cross_entropy(logits().float(), labels, ignore_index=255)
        loss.backward()
        optimizer.step()
        return loss.item()

    def predict():
        with torch.inference_mode():
            return logits().argmax(1).to(torch.uint8).numpy()

    return step if training else predict


def main() -> None:
    arguments = json.loads(sys.argv[1])
    serve(make_computation(make_network(arguments.pop("network")), **arguments))


if __name__ == "__main__":
    main()
