"""All backbones by name: ResNets and MobileNetV2, and what the rest of the network asks of them."""

from collections.abc import Sequence

from keras import KerasTensor

from model.mobilenet import MOBILENETS, MobileNet, mobilenet, mobilenet_convs
from model.plan import Window, trace_windows
from model.resnet import RESNETS, ResNet, resnet, resnet_convs

BACKBONES: dict[str, ResNet | MobileNet] = {**RESNETS, **MOBILENETS}


def check_backbone(
    backbone: str, *, num_blocks: int, multi_grid: Sequence[int], head: str = "paper"
) -> None:
    """Raises ValueError for an unknown backbone, and for arguments of ResNets with another one."""
    if backbone not in BACKBONES:
        raise ValueError(f"No backbone {backbone!r}; there are {', '.join(BACKBONES)}.")
    if backbone in RESNETS:
        return
    if num_blocks != 4:
        raise ValueError(
            f"num_blocks {num_blocks}: {backbone} has no blocks to add in cascade; use "
            "num_blocks=4, which adds none."
        )
    if any(rate != 1 for rate in multi_grid):
        raise ValueError(
            f"multi_grid {tuple(multi_grid)}: {backbone} has no block4, whose units it is for; use "
            "multi_grid=(1, 1, 1)."
        )
    if head != "paper":
        raise ValueError(f"The head {head!r} is for ResNets, not {backbone}; use head='paper'.")


def extract_features(
    images: KerasTensor,
    backbone: str,
    *,
    num_blocks: int,
    output_stride: int,
    multi_grid: Sequence[int],
    batch_norm_decay: float,
) -> KerasTensor:
    """[B, H, W, 3] RGB in 0..255 -> [B, H / output_stride, W / output_stride, C] features.

    Args:
      images: the network's input; normalized as the backbone's weights require.
      backbone: a key of BACKBONES.
      num_blocks, multi_grid: as in resnet; 4 and ones with MobileNetV2.
      output_stride: of the features.
      batch_norm_decay: of the moving statistics.

    Raises:
      ValueError: as atrous_plan and mobilenet_plan do. check_backbone checks the other arguments.
    """
    how = {"output_stride": output_stride, "batch_norm_decay": batch_norm_decay}
    if backbone in RESNETS:
        return resnet(images, backbone, num_blocks=num_blocks, multi_grid=multi_grid, **how)
    return mobilenet(images, MOBILENETS[backbone], **how)


def windows(
    backbone: str,
    *,
    num_blocks: int,
    output_stride: int,
    multi_grid: Sequence[int],
    rates: Sequence[int] = (),
    head: str = "paper",
) -> list[Window]:
    """A backbone, and ASPP's rates at output_stride -> its windows in order, the head's last.

    Args:
      backbone: a key of BACKBONES.
      num_blocks: 4 to 7.
      output_stride: of the features.
      multi_grid: unit rates of block4 and later.
      rates: ASPP's, at output_stride; empty without atrous branches.
      head: a key of model.deeplabv3.HEADS.

    Raises:
      ValueError: as check_backbone, atrous_plan and mobilenet_plan do.
    """
    check_backbone(backbone, num_blocks=num_blocks, multi_grid=multi_grid, head=head)
    if backbone in RESNETS:
        plan = {"num_blocks": num_blocks, "multi_grid": multi_grid}
        convs = resnet_convs(backbone, output_stride=output_stride, **plan)
    else:
        convs = mobilenet_convs(MOBILENETS[backbone], output_stride=output_stride)
    found = trace_windows(convs)
    size, jump = found[-1].receptive_field, output_stride
    for i, rate in enumerate(rates, start=1):  # In parallel, all on the same features.
        found.append(Window(f"aspp_atrous{i}", 3, 1, rate, jump, size + 2 * rate * jump))
    if head == "torchvision":
        size = max(window.receptive_field for window in found) + 2 * jump
        found.append(Window("aspp_extra", 3, 1, 1, jump, size))
    return found


def receptive_field(backbone: str, *, output_stride: int, **plan) -> int:
    """The arguments of windows -> side, in pixels, of the square that a logit depends on.

    Without image-level features, which depend on the whole image.
    """
    sizes = [w.receptive_field for w in windows(backbone, output_stride=output_stride, **plan)]
    return max(sizes) + output_stride  # Upsampling interpolates between two logits.
