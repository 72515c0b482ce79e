"""Faster layers. Each has the weights of a plain Keras layer and computes the same function.

Source of the architecture: Gachet, "Le Deep Learning appliqué au diagnostic de pneumonies", 2021-2022, listing.
"""

from typing import Any

import keras
from keras import ops

_PACKAGE = "pneumosearch"


@keras.saving.register_keras_serializable(package=_PACKAGE)
class FastConv2D(keras.layers.Conv2D):
    """A `Conv2D` whose bias gradient on TensorFlow is a matrix product, which is faster than `BiasAddGrad`.

    Shapes and weights are those of `keras.layers.Conv2D`: kernel (height, width, channels, filters), bias (filters,).
    """

    def call(self, inputs: Any) -> Any:
        """Map (batch, height, width, channels) to (batch, height, width, filters)."""
        return self.activation(_add_bias(self.convolution_op(inputs, self.kernel), self.bias))


@keras.saving.register_keras_serializable(package=_PACKAGE)
class FastSeparableConv2D(keras.layers.SeparableConv2D):
    """A `SeparableConv2D` with the bias gradient of `FastConv2D`; weights are those of the Keras layer."""

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
            # `BiasAddGrad` adds in bfloat16, where the sum soon stops growing; `reduce_sum` takes longer on two cores.
            rows = tf.reshape(upstream, (-1, upstream.shape[-1]))
            ones = tf.ones((1, tf.shape(rows)[0]), rows.dtype)
            return upstream, tf.matmul(ones, rows)[0]

        return tf.nn.bias_add(outputs, bias), gradients

    return add(outputs, tf.convert_to_tensor(ops.convert_to_tensor(bias)))  # a tensor even outside a graph


@keras.saving.register_keras_serializable(package=_PACKAGE)
class GreyConv2D(FastConv2D):
    """The first convolution, for images whose three channels are equal.

    The input is one channel of raw grey levels, 0 to 255. The layer has the (3, 3, 3, filters) kernel of the published
    layer, which expects three channels scaled by 1/255. It sums the kernel over its input axis and convolves the single
    channel with the sum: the same function at a third of the cost. The kernel is divided by 255 instead of the image,
    because the integers 0 to 255 are exact in bfloat16.
    """

    channels = 3
    levels = 255.0

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the weights of the three-channel layer for inputs of (batch, height, width, 1)."""
        super().build((*input_shape[:-1], self.channels))
        self.input_spec = None

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> Any:
        """Return (batch, height, width, filters), as the three-channel layer does."""
        return super().compute_output_shape((*input_shape[:-1], self.channels))

    def call(self, inputs: Any) -> Any:
        """Map (batch, height, width, 1) of 0..255 to (batch, height, width, filters)."""
        kernel = ops.sum(self.kernel, axis=2, keepdims=True) / self.levels
        outputs = self.convolution_op(ops.cast(inputs, self.compute_dtype), kernel)
        return self.activation(_add_bias(outputs, self.bias))


@keras.saving.register_keras_serializable(package=_PACKAGE)
class FusedBatchNormalization(keras.layers.BatchNormalization):
    """`BatchNormalization` by TensorFlow's fused kernel; other backends use Keras' code.

    On bfloat16 both compute in float32; Keras' code also writes its intermediate values in float32, which takes longer.
    Weights are those of the Keras layer: gamma, beta, moving mean and moving variance, each (channels,).

    Source:
        Ioffe and Szegedy, "Batch Normalization", ICML 2015.
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Normalise (batch, height, width, channels) over all axes but the channels; the shape stays."""
        if keras.backend.backend() != "tensorflow":
            return super().call(inputs, training=training, mask=mask)
        gamma, beta = (ops.cast(weight, "float32") for weight in (self.gamma, self.beta))
        averages = self.moving_mean, self.moving_variance
        if not training:
            return _normalised(inputs, gamma, beta, averages, self.epsilon)
        outputs, mean, variance = _fused_batch_norm(inputs, gamma, beta, self.epsilon)
        for moving, batch in zip(averages, (mean, variance), strict=True):
            moving.assign(moving * self.momentum + batch * (1.0 - self.momentum))
        return outputs


def _normalised(inputs: Any, gamma: Any, beta: Any, averages: tuple[Any, Any], epsilon: float) -> Any:
    """Return the inputs normalised with the moving mean and variance."""
    import tensorflow as tf

    mean, variance = (ops.cast(average, "float32") for average in averages)
    return tf.raw_ops.FusedBatchNormV3(
        x=inputs, scale=gamma, offset=beta, mean=mean, variance=variance, epsilon=epsilon, is_training=False
    ).y


def _fused_batch_norm(inputs: Any, gamma: Any, beta: Any, epsilon: float) -> tuple[Any, Any, Any]:
    """Return outputs, mean and variance of the batch; like Keras, the variance divides by n, not by n - 1."""
    import tensorflow as tf

    outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
        x=inputs, scale=gamma, offset=beta, mean=[], variance=[], epsilon=epsilon, is_training=True
    )
    shape = tf.shape(inputs)
    n = tf.cast(shape[0] * shape[1] * shape[2], tf.float32)
    return outputs, mean, variance * (n - 1.0) / n  # the kernel divides by n - 1


@keras.saving.register_keras_serializable(package=_PACKAGE)
class VariableDropout(keras.layers.Dropout):
    """`Dropout` whose rate is a variable, so that configurations that differ only in it share one compiled step.

    Input and output have the same shape, which is arbitrary.

    Source:
        Srivastava et al., "Dropout: A Simple Way to Prevent Neural Networks from Overfitting", JMLR 2014.
    """

    def __init__(self, rate: float, **keywords: Any) -> None:
        super().__init__(rate, **keywords)
        if not hasattr(self, "seed_generator"):  # Keras creates none for a rate of 0, but the rate may change
            self.seed_generator = keras.random.SeedGenerator(self.seed)

    def build(self, input_shape: Any) -> None:
        """Create the variable of the rate."""
        super().build(input_shape)
        self._rate = _NonWeightVariable(self.rate)

    def set_rate(self, rate: float) -> None:
        """Set the rate, in [0, 1), from the next step on."""
        self.rate = rate
        self._rate.state.assign(rate)

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Set each input to 0 with probability `rate` and divide the rest by 1 - rate; without training, do nothing."""
        if not training:
            return inputs
        keep = 1.0 - ops.convert_to_tensor(self._rate.state)
        draws = keras.random.uniform(ops.shape(inputs), dtype="float32", seed=self.seed_generator)
        scale = ops.where(draws < keep, 1.0 / keep, 0.0)
        return inputs * ops.cast(scale, inputs.dtype)


class _NonWeightVariable(keras.random.SeedGenerator):
    """A variable that Keras tracks in compiled steps like random state and does not count among the weights."""

    def __init__(self, value: float) -> None:
        super().__init__(seed=0)
        self.state = keras.Variable(value, trainable=False, dtype="float32", autocast=False, name="carried")
