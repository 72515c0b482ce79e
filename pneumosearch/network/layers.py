"""The network's own layers: each computes what a plain Keras layer does, with the same weights, in less time."""

from typing import Any

import keras
from keras import ops

_PACKAGE = "pneumosearch"


@keras.saving.register_keras_serializable(package=_PACKAGE)
class FastConv2D(keras.layers.Conv2D):
    """A convolution whose bias gradient is a matrix product instead of a slow part of the kernel's gradient."""

    def call(self, inputs: Any) -> Any:
        """Map (batch, height, width, channels) to (batch, height, width, filters)."""
        return self.activation(_add_bias(self.convolution_op(inputs, self.kernel), self.bias))


@keras.saving.register_keras_serializable(package=_PACKAGE)
class FastSeparableConv2D(keras.layers.SeparableConv2D):
    """A separable convolution with the bias gradient of `FastConv2D`."""

    def call(self, inputs: Any) -> Any:
        """Map (batch, height, width, channels) to (batch, height, width, filters)."""
        kernels = self.depthwise_kernel, self.pointwise_kernel
        outputs = ops.separable_conv(
            inputs, *kernels, strides=self.strides, padding=self.padding, data_format="channels_last"
        )
        return self.activation(_add_bias(outputs, self.bias))


def _add_bias(outputs: Any, bias: Any) -> Any:
    """Add (channels,) to (batch, height, width, channels)."""
    if keras.backend.backend() != "tensorflow":
        return ops.add(outputs, bias)
    import tensorflow as tf

    @tf.custom_gradient
    def add(outputs: Any, bias: Any) -> Any:
        def gradients(upstream: Any) -> tuple[Any, Any]:
            rows = tf.reshape(upstream, (-1, upstream.shape[-1]))
            ones = tf.ones((1, tf.shape(rows)[0]), rows.dtype)
            return upstream, tf.matmul(ones, rows)[0]

        return tf.nn.bias_add(outputs, bias), gradients

    return add(outputs, tf.convert_to_tensor(ops.convert_to_tensor(bias)))  # a tensor even outside a graph


@keras.saving.register_keras_serializable(package=_PACKAGE)
class GreyConv2D(FastConv2D):
    """The first convolution, over an image whose three channels are equal, given once as raw grey levels.

    It owns the (3, 3, 3, filters) kernel of the published layer over three channels of 1/255, and convolves the one
    channel with that kernel summed over its input axis: the same function, and a third of the work. Grey levels of
    0 to 255 are exact in bfloat16, so the division is done on the kernel.
    """

    channels = 3
    levels = 255.0

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make the weights of the three-channel layer."""
        super().build((*input_shape[:-1], self.channels))
        self.input_spec = None

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> Any:
        """Return the shape that the three-channel layer gives."""
        return super().compute_output_shape((*input_shape[:-1], self.channels))

    def call(self, inputs: Any) -> Any:
        """Map (batch, height, width, 1) of 0..255 to (batch, height, width, filters)."""
        kernel = ops.sum(self.kernel, axis=2, keepdims=True) / self.levels
        outputs = self.convolution_op(ops.cast(inputs, self.compute_dtype), kernel)
        return self.activation(_add_bias(outputs, self.bias))


@keras.saving.register_keras_serializable(package=_PACKAGE)
class FusedBatchNormalization(keras.layers.BatchNormalization):
    """Batch normalisation by TensorFlow's fused kernel in training; Keras' own code everywhere else."""

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Normalise (batch, height, width, channels) over all but the channels."""
        if not training or keras.backend.backend() != "tensorflow":
            return super().call(inputs, training=training, mask=mask)
        gamma, beta = (ops.cast(weight, "float32") for weight in (self.gamma, self.beta))
        outputs, mean, variance = _fused_batch_norm(inputs, gamma, beta, self.epsilon)
        for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + batch * (1.0 - self.momentum))
        return outputs


def _fused_batch_norm(inputs: Any, gamma: Any, beta: Any, epsilon: float) -> tuple[Any, Any, Any]:
    """Return outputs, mean and variance of the batch, as Keras has it: the variance of the population."""
    import tensorflow as tf

    outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
        x=inputs, scale=gamma, offset=beta, mean=[], variance=[], epsilon=epsilon, is_training=True
    )
    shape = tf.shape(inputs)
    n = tf.cast(shape[0] * shape[1] * shape[2], tf.float32)
    return outputs, mean, variance * (n - 1.0) / n  # the kernel gives Bessel's estimate


@keras.saving.register_keras_serializable(package=_PACKAGE)
class VariableDropout(keras.layers.Dropout):
    """Dropout whose rate is a variable, so that trainings that differ in it share one compiled step."""

    def __init__(self, rate: float, **keywords: Any) -> None:
        super().__init__(rate, **keywords)
        if not hasattr(self, "seed_generator"):  # Keras makes none for a rate of 0, which may change here
            self.seed_generator = keras.random.SeedGenerator(self.seed)

    def build(self, input_shape: Any) -> None:
        """Make the variable."""
        super().build(input_shape)
        self._rate = _Carried(self.rate)

    def set_rate(self, rate: float) -> None:
        """Use `rate` in [0, 1) from the next step on."""
        self.rate = rate
        self._rate.state.assign(rate)

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Zero a share `rate` of the inputs and scale the rest; the identity when not training."""
        if not training:
            return inputs
        keep = 1.0 - ops.convert_to_tensor(self._rate.state)
        draws = keras.random.uniform(ops.shape(inputs), dtype="float32", seed=self.seed_generator)
        scale = ops.where(draws < keep, 1.0 / keep, 0.0)
        return inputs * ops.cast(scale, inputs.dtype)


class _Carried(keras.random.SeedGenerator):
    """A number that Keras carries through compiled steps as it does random state, and does not count as a weight."""

    def __init__(self, value: float) -> None:
        super().__init__(seed=0)
        self.state = keras.Variable(value, trainable=False, dtype="float32", autocast=False, name="carried")
