"""The state of training, and one step: the same under every strategy and in every precision."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import keras
import tensorflow as tf

from data.classes import IGNORE_LABEL
from model.deeplabv3 import is_of_head, without_upsampling
from model.losses import downsample_labels, pixel_cross_entropy
from model.rematerialize import rematerialize_backbone
from training.checkpoints import weights_by_name
from training.strategy import first_replica

# Images, labels (of any integer type) -> loss, regularization, gradient norm.
TrainStep = Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor, tf.Tensor]]


class TrainState(NamedTuple):
    """Everything that a step changes and the next one depends on."""

    model: keras.Model
    optimizer: keras.optimizers.Optimizer
    step: tf.Variable  # Steps attempted; loss scaling may have skipped some updates.

    def steps_taken(self) -> int:
        """Works under every strategy, where int() of a variable does not."""
        return int(self.step.numpy())

    def checkpoint(self) -> tf.train.Checkpoint:
        """Everything the next step depends on, but for the data, which follow from the step."""
        return tf.train.Checkpoint(
            step=self.step,
            model=weights_by_name(self.model),
            optimizer={variable.path: variable.value for variable in self.optimizer.variables},
            dropout={
                layer.name: layer.seed_generator.state.value
                for layer in self.model.layers
                if isinstance(layer, keras.layers.Dropout)
            },
        )


def make_state(model: keras.Model, optimizer: keras.optimizers.Optimizer) -> TrainState:
    """A model and its optimizer -> the state at step 0. To be called in the strategy's scope."""
    optimizer.build(model.trainable_variables)
    return TrainState(model, optimizer, tf.Variable(0, dtype=tf.int64, name="step"))


def make_train_step(
    state: TrainState,
    strategy: tf.distribute.Strategy,
    *,
    backbone_learning_rate_factor: float = 1.0,
    upsample_logits: bool = True,
    rematerialize: bool = False,
    jit_compile: bool = False,
) -> TrainStep:
    """A state -> a compiled step: (images, labels) -> loss, regularization, gradient norm.

    The loss is the mean over the valid pixels of all replicas together, 0 if there are none. It is
    not the mean of the replicas' means, which would give a pixel more weight where more of its
    neighbors are ignored.

    Args:
      state: the step changes it.
      strategy: whose data set yields the images and labels.
      backbone_learning_rate_factor: learning rate of the backbone, as a multiple of the head's.
        Source: ours; the authors' code has such a factor for the last layers.
      upsample_logits: False compares logits with downsampled labels (Table 8).
      rematerialize: whether to compute the backbone a second time for the gradient.
      jit_compile: whether to compile with XLA; on one device only.

    Raises:
      ValueError: jit_compile with several replicas.
    """
    model, optimizer, variables = state.model, state.optimizer, state.model.trainable_variables
    network = model if upsample_logits else without_upsampling(model)
    forward = rematerialize_backbone(network) if rematerialize else partial(network, training=True)
    # SGD is linear in the gradient, so its factor is that of the learning rate.
    factors = [
        1.0 if is_of_head(variable.path) else backbone_learning_rate_factor
        for variable in variables
    ]

    def replica_step(images, labels):
        context = tf.distribute.get_replica_context()
        labels = tf.cast(labels, tf.int32)  # uint8 until here: fewer bytes to copy.
        with tf.GradientTape() as tape:
            logits = forward(images)
            if not upsample_logits:
                labels = downsample_labels(labels, logits.shape[1:3])
            total, valid = pixel_cross_entropy(labels, logits, ignore_label=IGNORE_LABEL)
            valid = context.all_reduce(tf.distribute.ReduceOp.SUM, valid)
            share = tf.math.divide_no_nan(total, valid)  # Of the loss; their sum is the loss.
            scaled = optimizer.scale_loss(share)
        gradients = tape.gradient(scaled, variables)
        regularization = tf.add_n(model.losses)
        decay = optimizer.scale_loss(1 / context.num_replicas_in_sync)
        gradients = [add_decay(g, v, decay) for g, v in zip(gradients, variables, strict=True)]
        loss, gradients = context.all_reduce(tf.distribute.ReduceOp.SUM, [share, gradients])
        # The optimizer sums over the replicas again. Here they agree on whether one overflowed.
        shares = [
            gradient * (factor / context.num_replicas_in_sync)
            for gradient, factor in zip(gradients, factors, strict=True)
        ]
        norm = tf.linalg.global_norm(gradients) / optimizer.scale_loss(1.0)
        optimizer.apply(shares, variables)
        return loss, regularization, norm

    if jit_compile and strategy.num_replicas_in_sync > 1:
        raise ValueError("jit_compile is for one device; on a TPU the step is compiled anyway.")
    compiled = tf.function(replica_step, jit_compile=True) if jit_compile else replica_step

    @tf.function
    def train_step(images, labels):
        results = strategy.run(compiled, args=(images, labels))
        state.step.assign_add(1)
        return first_replica(results, strategy)

    return train_step


def add_decay(gradient: tf.Tensor, variable: keras.Variable, factor: tf.Tensor) -> tf.Tensor:
    """A variable's gradient -> gradient + factor * (gradient of the variable's L2 penalty).

    The variable's regularizer is None or a KernelDecay. The penalty's gradient waits for the other
    one. A tape would compute it first and keep it through the whole step, which takes as much
    memory as all kernels.
    """
    if variable.regularizer is None:
        return gradient
    with tf.control_dependencies([gradient]):
        kernel = tf.identity(variable.value)
        return gradient + factor * variable.regularizer.weight_decay * kernel
