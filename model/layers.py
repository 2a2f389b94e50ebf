"""The building blocks: atrous convolution, conv + batch norm, bilinear resize."""

import functools

import keras
from keras import KerasTensor, layers, ops

from model.atrous import (
    atrous_convolution,
    depthwise_atrous_convolution,
    has_native_atrous_gradient,
    matrix_products_are_faster,
    may_use_depthwise_kernel,
)

ON_TENSORFLOW = keras.backend.backend() == "tensorflow"
WEIGHT_DECAY = 1e-4  # The authors' code, for ResNets; the paper states none.
BATCH_NORM_EPSILON = 1e-5  # The authors' code.


@keras.saving.register_keras_serializable("deeplabv3")
class AtrousConv2D(layers.Conv2D):
    """`Conv2D` that passes its rate to TensorFlow's kernel: [B, h, w, C] -> [B, h, w, filters].

    Keras moves space into batch and back instead, which is 2 to 12 times slower on a CPU. Its way
    is kept on other backends, and where only it has a gradient. In training, 1x1 kernels use the
    gradient of atrous_convolution as well.
    """

    def call(self, inputs, training=None):
        outputs = self.convolution_op(inputs, self.kernel, training=training)
        if self.use_bias:
            outputs = ops.add(outputs, self.bias)
        return outputs if self.activation is None else self.activation(outputs)

    def convolution_op(self, inputs, kernel, training=None):
        atrous = self.dilation_rate != (1, 1)
        if not ON_TENSORFLOW or (atrous and not has_native_atrous_gradient(self.compute_dtype)):
            return super().convolution_op(inputs, kernel)
        dense = self.strides == (1, 1) and self.padding == "same" and self.groups == 1
        supported = dense and (atrous or self.kernel_size == (1, 1))
        if training and supported and matrix_products_are_faster():
            return atrous_convolution(inputs, kernel, self.dilation_rate)
        import tensorflow as tf

        return tf.nn.conv2d(
            inputs, kernel, self.strides, self.padding.upper(), dilations=self.dilation_rate
        )


@keras.saving.register_keras_serializable("deeplabv3")
class AtrousDepthwiseConv2D(layers.DepthwiseConv2D):
    """`DepthwiseConv2D`, a kernel per channel, faster on CPUs: [B, h, w, C] -> [B, h, w, C].

    Where the rate is over 1 and TensorFlow's own kernel is right, it is used, with gradients that
    are. Everywhere else Keras's way is kept.
    """

    def call(self, inputs):
        atrous = self.dilation_rate != (1, 1)
        known = self.padding == "same" and self.depth_multiplier == 1 and ON_TENSORFLOW
        if not (atrous and known and may_use_depthwise_kernel(self.compute_dtype)):
            return super().call(inputs)
        outputs = depthwise_atrous_convolution(inputs, self.kernel, self.dilation_rate)
        if self.use_bias:
            outputs = ops.add(outputs, self.bias)
        return outputs if self.activation is None else self.activation(outputs)


CONVOLUTIONS = (AtrousConv2D, AtrousDepthwiseConv2D)  # Those that batch norm follows.


@keras.saving.register_keras_serializable("deeplabv3")
class BatchNormalization(layers.BatchNormalization):
    """Keras's, with TensorFlow's fused kernel when one device trains: [B, h, w, C] -> the same.

    Keras computes moments and normalizes in steps, and keeps the result of each for the gradient.
    That is still done when the moments span several devices, and in float64.
    """

    def call(self, inputs, training=None, mask=None):
        if not (training and self.trainable and self._has_kernel()):
            return super().call(inputs, training=training, mask=mask)
        import tensorflow as tf

        inputs = ops.cast(inputs, self.compute_dtype)
        unused = tf.zeros(0)
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=ops.cast(self.gamma, "float32"),
            offset=ops.cast(self.beta, "float32"),
            mean=unused,
            variance=unused,
            epsilon=self.epsilon,
        )
        # The kernel's variance is the unbiased one; Keras's is the biased one.
        num_pixels = ops.cast(ops.size(inputs[..., 0]), "float32")
        variance = variance * (num_pixels - 1) / num_pixels
        for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + batch * (1.0 - self.momentum))
        return outputs

    def _has_kernel(self):
        if not ON_TENSORFLOW or self.compute_dtype not in ("float32", "bfloat16"):
            return False
        import tensorflow as tf

        return tf.distribute.get_strategy().num_replicas_in_sync == 1


@keras.saving.register_keras_serializable("deeplabv3")
class ResizeBilinear(layers.Layer):
    """Resizes `x` to the size of `like`: [B, h, w, C] -> [B, H, W, C].

    By two matrix products, so that it compiles for a TPU and its gradient is deterministic.
    corners: as in resize_bilinear. Source: the authors' code, which aligns corners everywhere.
    """

    def __init__(self, corners: str = "aligned", **options):
        super().__init__(**options)
        self.corners = corners

    def call(self, x, like):
        return resize_bilinear(x, ops.shape(like)[1:3], corners=self.corners)

    def compute_output_shape(self, x_shape, like_shape):
        return (*like_shape[:3], x_shape[3])

    def get_config(self):
        return {**super().get_config(), "corners": self.corners}


def resize_bilinear(
    x: KerasTensor, size: tuple[int, int], *, corners: str = "aligned"
) -> KerasTensor:
    """Bilinear resize: [B, h, w, C] -> [B, *size, C].

    corners: "aligned" keeps the first and the last pixels in place; "half_pixel" keeps the image
    borders in place (align_corners=False in PyTorch, without antialiasing).
    """
    rows = interpolation(ops.shape(x)[1], size[0], corners=corners)
    columns = interpolation(ops.shape(x)[2], size[1], corners=corners)
    channels = x.shape[3]
    x = ops.matmul(ops.cast(columns, x.dtype), x)
    # A row with all its channels becomes one long vector, so nothing has to be transposed.
    x = ops.reshape(x, (-1, ops.shape(x)[1], size[1] * channels))
    x = ops.matmul(ops.cast(rows, x.dtype), x)
    return ops.reshape(x, (-1, size[0], size[1], channels))


def interpolation(size, new_size, *, corners="aligned"):
    """Two lengths -> the [new_size, size] matrix that resizes one dimension."""
    size, line = ops.cast(size, "float32"), ops.cast(ops.arange(size), "float32")
    position = ops.cast(ops.arange(new_size), "float32")
    new_size = ops.cast(new_size, "float32")
    if corners == "aligned":
        position = (size - 1) / ops.maximum(new_size - 1, 1) * position
    else:
        position = ops.clip(size / new_size * (position + 0.5) - 0.5, 0, size - 1)
    return ops.relu(1 - ops.abs(position[:, None] - line))


@keras.saving.register_keras_serializable("deeplabv3")
class KernelDecay(keras.regularizers.Regularizer):
    """L2 penalty on convolution kernels: kernel -> weight_decay / 2 * sum(kernel ** 2).

    By TensorFlow's own operation, which takes a third of the passes that Keras's L2 takes.
    """

    def __init__(self, weight_decay: float = WEIGHT_DECAY):
        self.weight_decay = weight_decay

    def __call__(self, kernel):
        if not ON_TENSORFLOW:
            return keras.regularizers.L2(self.weight_decay / 2)(kernel)
        import tensorflow as tf

        return self.weight_decay * tf.nn.l2_loss(ops.convert_to_tensor(kernel))

    def get_config(self):
        return {"weight_decay": self.weight_decay}


def conv_bn(
    x: KerasTensor,
    filters: int,
    kernel_size: int,
    *,
    stride: int = 1,
    rate: int = 1,
    relu: bool = True,
    initializer: str | dict = "he_normal",  # The authors' code, in ResNets.
    weight_decay: float = WEIGHT_DECAY,
    batch_norm_decay: float,
    epsilon: float = BATCH_NORM_EPSILON,
    name: str,
) -> KerasTensor:
    """Convolution, batch norm, ReLU: [B, h, w, C] -> [B, ceil(h / stride), ..., filters].

    The padding is symmetric, so that a strided output is a subset of the dense one at any size.

    Args:
      x: the features.
      filters: of the convolution.
      kernel_size: odd.
      stride: of the convolution.
      rate: of the convolution; may be combined with a stride.
      relu: whether a ReLU comes last.
      initializer: of the kernel.
      weight_decay: of the kernel.
      batch_norm_decay: of the moving statistics.
      epsilon: of batch norm.
      name: prefix of the layers' names.
    """
    conv = functools.partial(
        AtrousConv2D,
        filters,
        kernel_size,
        use_bias=False,
        kernel_initializer=initializer,
        kernel_regularizer=KernelDecay(weight_decay),
        name=f"{name}_conv",
    )
    x = _convolve(x, conv, kernel_size, stride=stride, rate=rate, name=name)
    x = _batch_norm(x, batch_norm_decay, epsilon, name=name)
    return layers.ReLU(name=f"{name}_relu")(x) if relu else x


def depthwise_conv_bn(
    x: KerasTensor,
    kernel_size: int,
    *,
    stride: int = 1,
    rate: int = 1,
    initializer: str | dict,
    batch_norm_decay: float,
    epsilon: float,
    name: str,
) -> KerasTensor:
    """Depthwise convolution, batch norm: [B, h, w, C] -> [B, ceil(h / stride), ..., C].

    Arguments and padding are those of conv_bn. The kernel does not decay, as in the authors' code.
    """
    conv = functools.partial(
        AtrousDepthwiseConv2D,
        kernel_size,
        use_bias=False,
        depthwise_initializer=initializer,
        name=f"{name}_conv",
    )
    x = _convolve(x, conv, kernel_size, stride=stride, rate=rate, name=name)
    return _batch_norm(x, batch_norm_decay, epsilon, name=name)


def _convolve(x, conv, kernel_size, *, stride, rate, name):
    """A convolution's constructor -> its output, padded alike on all sides at any stride."""
    if stride == 1 or rate > 1:
        x = conv(dilation_rate=rate, padding="same")(x)
        # Keras has no convolution with both a stride and a rate.
        return x if stride == 1 else subsample(x, stride, name=f"{name}_subsample")
    if kernel_size > 1:  # At even sizes "same" pads only bottom and right.
        x = layers.ZeroPadding2D(kernel_size // 2, name=f"{name}_pad")(x)
    return conv(strides=stride, padding="valid")(x)


def _batch_norm(x, decay, epsilon, *, name):
    return BatchNormalization(
        momentum=decay,
        epsilon=epsilon,
        synchronized=ON_TENSORFLOW,  # Keras has it only under TensorFlow.
        name=f"{name}_bn",
    )(x)


def freeze_batch_norm(model: keras.Model) -> None:
    """Freezes a model's batch norm in training: statistics, gamma and beta (Sec. 4.1).

    The authors' code still trains gamma and beta.
    """
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.trainable = False


def subsample(x: KerasTensor, stride: int, *, name: str) -> KerasTensor:
    """Every stride-th pixel from the first: [B, h, w, C] -> [B, ceil(h / stride), ..., C]."""
    return layers.MaxPooling2D(1, stride, name=name)(x)
