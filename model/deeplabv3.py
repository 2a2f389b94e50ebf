"""DeepLabv3: the one public constructor."""

import contextlib
from collections.abc import Iterator, Sequence

import keras
from keras import layers

from model.aspp import aspp, rates_at
from model.backbones import BACKBONES, check_backbone, extract_features
from model.layers import KernelDecay, ResizeBilinear

PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")  # The weights are float32 in all.
# Head -> the `corners` of its resizes (model.layers.resize_bilinear).
HEADS = {"paper": "aligned", "torchvision": "half_pixel"}


def deeplabv3(
    backbone: str = "resnet101_keras",
    *,
    num_classes: int = 21,
    num_blocks: int = 4,
    output_stride: int = 16,
    multi_grid: Sequence[int] = (1, 2, 4),
    atrous_rates: Sequence[int] | None = (6, 12, 18),
    image_pooling: bool = True,
    batch_norm_decay: float = 0.9997,
    head: str = "paper",
    precision: str = "float32",
) -> keras.Model:
    """[B, H, W, 3] images, RGB in 0..255 -> [B, H, W, num_classes] float32 logits, any H and W.

    Args:
      backbone: a key of model.backbones.BACKBONES.
      num_classes: including the background.
      num_blocks: 4, or 5 to 7 with copies of block4 in cascade (Sec. 3.2). 4 with MobileNetV2.
      output_stride: 8 to 256; above 32, each doubling needs one more block. The weights do not
        depend on it and fit any other output_stride.
      multi_grid: unit rates of block4 and later, one for each of their three units. (1, 1, 1) with
        MobileNetV2.
      atrous_rates: those of ASPP, as stated at output_stride 16. (): ASPP without atrous branches,
        as in the authors' MobileNetV2. None: no ASPP; the head is then one 1x1 conv (our reading;
        the paper does not state the cascade's head).
      image_pooling: whether ASPP has the image-level branch; ignored without ASPP.
      batch_norm_decay: of the moving statistics; 0.9997 needs about ten thousand steps.
      head: a key of HEADS. "torchvision", for torchvision's weights: one more 3x3 conv in ASPP,
        dropout 0.5, half-pixel corners.
      precision: one of PRECISIONS, in which the layers compute; the logits are float32 in all.

    The defaults are the last row of Table 5.

    Raises:
      ValueError: an argument is out of range; the message lists the possible values.
    """
    _check_arguments(num_blocks, atrous_rates, head, precision)
    check_backbone(backbone, num_blocks=num_blocks, multi_grid=multi_grid, head=head)
    weight_decay = BACKBONES[backbone].weight_decay
    images = keras.Input((None, None, 3), name="images")
    with _dtype_policy(precision):
        x = extract_features(
            images,
            backbone,
            num_blocks=num_blocks,
            output_stride=output_stride,
            multi_grid=multi_grid,
            batch_norm_decay=batch_norm_decay,
        )
        if atrous_rates is not None:
            x = aspp(
                x,
                rates=rates_at(output_stride, atrous_rates),
                image_pooling=image_pooling,
                filters=BACKBONES[backbone].aspp_filters,
                weight_decay=weight_decay,
                batch_norm_decay=batch_norm_decay,
                head=head,
            )
        how = {"weight_decay": weight_decay, "corners": HEADS[head]}
        return _model_of(images, x, num_classes, **how, name=f"deeplabv3_{backbone}")


def _check_arguments(num_blocks, atrous_rates, head, precision):
    """Raises ValueError for those arguments of deeplabv3 that no backbone can have."""
    if not 4 <= num_blocks <= 7:
        raise ValueError(f"num_blocks {num_blocks}: a cascade has 4 to 7 blocks (Fig. 3).")
    if head not in HEADS:
        raise ValueError(f"No head {head!r}; there are {', '.join(HEADS)}.")
    if head != "paper" and atrous_rates is None:
        raise ValueError(f"The head {head!r} has ASPP and needs atrous_rates.")
    if precision not in PRECISIONS:
        raise ValueError(f"No precision {precision!r}; there are {', '.join(PRECISIONS)}.")


def _model_of(images, features, num_classes, *, weight_decay, corners, name):
    """The classifier on top of the features, and its logits at the size of the images."""
    x = layers.Conv2D(
        num_classes,
        1,
        kernel_initializer=keras.initializers.TruncatedNormal(stddev=0.01),  # The authors' code.
        kernel_regularizer=KernelDecay(weight_decay),
        dtype="float32",
        name="logits",
    )(features)
    x = ResizeBilinear(corners, dtype="float32", name="upsampled_logits")(x, images)
    return keras.Model(images, x, name=name)


@contextlib.contextmanager
def _dtype_policy(precision: str) -> Iterator[None]:
    """Keras's policy for the layers made inside; float32 leaves the caller's own in force."""
    before = keras.config.dtype_policy()
    try:
        if precision != "float32":
            keras.config.set_dtype_policy(precision)
        yield
    finally:
        keras.config.set_dtype_policy(before)


def with_new_classifier(model: keras.Model, num_classes: int) -> keras.Model:
    """A model of deeplabv3 -> one with a random classifier: [B, H, W, num_classes] logits.

    All other layers are shared with the model.
    """
    logits = model.get_layer("logits")
    return _model_of(
        model.input,
        logits.input,
        num_classes,
        weight_decay=logits.kernel_regularizer.weight_decay,
        corners=corners_of(model),
        name=model.name,
    )


def corners_of(model: keras.Model) -> str:
    """A model of deeplabv3 -> the `corners` of its resizes (resize_bilinear)."""
    return model.get_layer("upsampled_logits").corners


def is_of_head(name: str) -> bool:
    """A layer's or weight's name -> whether it is in ASPP or the classifier, not the backbone."""
    return name.startswith(("aspp", "logits"))


def mean_pixel_of(model: keras.Model) -> tuple[float, float, float]:
    """A model of deeplabv3 -> the RGB in 0..255 that it normalizes to 0; used for padding."""
    pixels = model.get_layer("pixels")
    return tuple(-o / s for o, s in zip(pixels.offset, pixels.scale, strict=True))


def output_stride_of(model: keras.Model) -> int:
    """A model of deeplabv3 -> its output_stride, from the size of its logits for 257 x 257."""
    side = without_upsampling(model).compute_output_shape((1, 257, 257, 3))[1]
    return 256 // (side - 1)


def without_upsampling(model: keras.Model) -> keras.Model:
    """A model of deeplabv3 -> the same, up to [B, h, w, num_classes] logits at feature resolution.

    The weights are shared. For training on downsampled labels (Table 8).
    """
    # Exports keep the name; Keras's automatic one has a counter.
    name = f"{model.name}_to_logits"
    return keras.Model(model.input, model.get_layer("logits").output, name=name)
