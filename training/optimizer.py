"""SGD with momentum and the poly learning rate (Sec. 4.1)."""

import keras
import tensorflow as tf

LR_POWER = 0.9  # Sec. 4.1.
MOMENTUM = 0.9  # The authors' code.


class SGD(keras.optimizers.SGD):
    """Keras's SGD with momentum, by TensorFlow's fused kernel: a third of the passes over memory.

    Use Keras's own without momentum, or with Nesterov's.
    """

    def update_step(self, gradient, variable, learning_rate):
        momentum = self.momentums[self._get_variable_index(variable)]
        tf.raw_ops.ResourceApplyKerasMomentum(
            var=variable.handle,
            accum=momentum.value.handle,
            lr=tf.cast(learning_rate, gradient.dtype),
            grad=gradient,
            momentum=self.momentum,
        )


def make_optimizer(
    learning_rate: float, *, steps: int, precision: str = "float32"
) -> keras.optimizers.Optimizer:
    """SGD with momentum; learning_rate * (1 - step / steps)^0.9 ("poly", Sec. 4.1).

    In mixed_float16 the loss is scaled, since small gradients would be 0; a step whose gradients
    overflow is skipped, and the scale halved.
    """
    schedule = keras.optimizers.schedules.PolynomialDecay(
        learning_rate, steps, end_learning_rate=0.0, power=LR_POWER
    )
    sgd = SGD(schedule, momentum=MOMENTUM, name="sgd")
    if precision == "mixed_float16":
        return keras.optimizers.LossScaleOptimizer(sgd, name="loss_scale")
    return sgd
