"""What torchvision makes of random weights and images -> tests/golden/torchvision.json.

    pip install -r requirements-extras.txt && python -m tests.make_golden_torchvision

The tests read that file, and where torchvision is installed they ask it anew.
"""

import json
import pathlib
import zlib
from typing import Any, NamedTuple

import numpy as np

from tests.foreign_networks import random_values, torchvision_shapes

FILE = pathlib.Path(__file__).parent / "golden" / "torchvision.json"
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
NUM_SAMPLES = 600  # Values of an output that are kept.
DILATION = {8: [False, True, True], 16: [False, False, True], 32: [False, False, False]}


class Case(NamedTuple):
    """A network and an image's size; its output is logits at that size, or block4's features."""

    depth: int
    output_stride: int
    size: tuple[int, int]
    num_classes: int | None = None  # None: a ResNet for ImageNet.


CASES = {
    "deeplabv3_resnet50_17x401": Case(50, 8, (17, 401), 21),  # Wide enough for a rate of 36.
    "deeplabv3_resnet50_64x90": Case(50, 8, (64, 90), 21),
    "deeplabv3_resnet101_65x96": Case(101, 8, (65, 96), 21),
    "resnet50_os16_65x90": Case(50, 16, (65, 90)),
    "resnet101_os32_97x64": Case(101, 32, (97, 64)),
}


def image_of(size: tuple[int, int]) -> np.ndarray:
    """[H, W] -> a random image, [1, H, W, 3] uint8; always the same."""
    return np.random.default_rng(size[1]).integers(0, 256, (1, *size, 3)).astype(np.uint8)


def summary(output: np.ndarray) -> dict[str, Any]:
    """[1, h, w, C] -> what is kept of it: some values, its deviation, the class of each pixel."""
    rng = np.random.default_rng(zlib.crc32(str(output.shape).encode()))
    places = rng.integers(0, output.size, NUM_SAMPLES)
    kept = {
        "shape": list(output.shape),
        "deviation": float(f"{output.std():.6g}"),
        "values": [float(f"{value:.8g}") for value in output.ravel()[places]],
    }
    if output.shape[-1] < 26:
        kept["class_ids"] = "".join(chr(ord("a") + i) for i in output.argmax(-1).ravel())
    return kept


def by_torchvision(case: Case) -> np.ndarray:
    """A case -> torchvision's own output, [1, h, w, C]. Raises ImportError where it is missing."""
    import torch
    from torchvision.models import resnet, segmentation

    name = f"resnet{case.depth}"
    if case.num_classes:
        build = getattr(segmentation, f"deeplabv3_{name}")
        how = {"num_classes": case.num_classes, "aux_loss": True, "weights_backbone": None}
        model = build(weights=None, **how)
    else:
        dilation = DILATION[case.output_stride]
        model = getattr(resnet, name)(weights=None, replace_stride_with_dilation=dilation)
    values = random_values(torchvision_shapes(case.depth, case.num_classes))
    model.load_state_dict({k: torch.from_numpy(np.array(v)) for k, v in values.items()})
    model.eval()
    if not case.num_classes:
        model = torch.nn.Sequential(*list(model.children())[:-2])  # Up to layer4.
    image = (image_of(case.size) / 255 - MEAN) / DEVIATION
    with torch.no_grad():
        output = model(torch.from_numpy(image.transpose(0, 3, 1, 2).astype(np.float32)))
    return (output["out"] if case.num_classes else output).numpy().transpose(0, 2, 3, 1)


if __name__ == "__main__":
    golden = {name: summary(by_torchvision(case)) for name, case in CASES.items()}
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(json.dumps(golden) + "\n")
    print(f"{FILE}: {FILE.stat().st_size} bytes")
