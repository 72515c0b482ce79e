"""The optimisers: those of Keras, with Adam as one fused operation per variable on TensorFlow."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
from keras import ops

from pneumosearch.config import TrialConfig
from pneumosearch.network.keras_private import adam_moments, averaged_variables


@keras.saving.register_keras_serializable(package="pneumosearch")
class FusedAdam(keras.optimizers.Adam):
    """Keras' Adam with the same state; on TensorFlow, one operation per variable instead of about fifteen.

    Source:
        Kingma and Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015.
    """

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Update `variable` and its two moments from its gradient, all of the same shape."""
        if keras.backend.backend() != "tensorflow":
            super().update_step(gradient, variable, learning_rate)
            return
        momentum, velocity = adam_moments(self, variable)
        _apply_adam(self, variable, momentum.value, velocity.value, gradient)


def _apply_adam(adam: FusedAdam, variable: Any, momentum: Any, velocity: Any, gradient: Any) -> None:
    import tensorflow as tf

    step = ops.cast(adam.iterations + 1, variable.dtype)
    tf.raw_ops.ResourceApplyAdam(
        var=variable.handle,
        m=momentum.handle,
        v=velocity.handle,
        beta1_power=ops.power(ops.cast(adam.beta_1, variable.dtype), step),
        beta2_power=ops.power(ops.cast(adam.beta_2, variable.dtype), step),
        lr=ops.cast(adam.learning_rate, variable.dtype),
        beta1=adam.beta_1,
        beta2=adam.beta_2,
        epsilon=adam.epsilon,
        grad=ops.cast(gradient, variable.dtype),
    )


def build_optimizer(config: TrialConfig) -> Any:
    """Return a new `keras.optimizers.Optimizer` for a configuration."""
    shared = {
        "learning_rate": config.learning_rate,
        "weight_decay": config.weight_decay or None,
        "use_ema": config.ema_momentum > 0,
        "ema_momentum": config.ema_momentum,
    }
    if config.optimizer == "sgd":
        return keras.optimizers.SGD(momentum=0.9, nesterov=True, **shared)
    return (FusedAdam if config.optimizer == "adam" else keras.optimizers.RMSprop)(**shared)


@contextmanager
def averaged_weights(model: keras.Model) -> Iterator[None]:
    """Use the moving average of the weights inside the block, if the optimiser keeps one; restore the weights after."""
    if not model.optimizer.use_ema:
        yield
        return
    _swap(model)
    try:
        yield
    finally:
        _swap(model)


def _swap(model: keras.Model) -> None:
    averages = averaged_variables(model.optimizer)
    for variable, average in zip(model.trainable_variables, averages, strict=True):
        last = ops.copy(variable)
        variable.assign(average)
        average.assign(last)
