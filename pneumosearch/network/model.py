"""Building the five-block network of a configuration."""

from typing import Any, Final, NamedTuple

import keras
from keras import layers

from pneumosearch.config import Precision, TrialConfig
from pneumosearch.network.layers import (
    FastConv2D,
    FastSeparableConv2D,
    FusedBatchNormalization,
    GreyConv2D,
    VariableDropout,
)

_POLICIES: Final = {"float32": "float32", "bfloat16": "mixed_bfloat16"}


class _Kinds(NamedTuple):
    """The classes of layers of a network."""

    first: type[layers.Layer]
    conv: type[layers.Layer]
    separable: type[layers.Layer]
    norm: type[layers.Layer]
    dropout: type[layers.Layer]
    late_relu: bool  # whether block 1 pools before its last ReLU


_FAST: Final = _Kinds(GreyConv2D, FastConv2D, FastSeparableConv2D, FusedBatchNormalization, VariableDropout, True)
_PLAIN: Final = _Kinds(
    layers.Conv2D, layers.Conv2D, layers.SeparableConv2D, layers.BatchNormalization, layers.Dropout, False
)


def build_model(config: TrialConfig, *, precision: Precision = "float32") -> keras.Model:
    """Build the network that trains: (batch, size, size, 1) grey levels 0..255 to (batch, 1) probabilities.

    Args:
        config: Sizes and dropout rates.
        precision: Precision of the computation; weights, output and loss are always float32.

    Returns:
        An uncompiled model whose weights have the shapes and the order of those of `plain_model`.
    """
    inputs = keras.Input((config.image_size, config.image_size, 1), dtype="uint8", name="pixels")
    return _network(config, inputs, _FAST, keras.DTypePolicy(_POLICIES[precision]))


def plain_model(config: TrialConfig) -> keras.Model:
    """Build the published network from plain Keras layers: (batch, size, size, 3) in [0, 1] to probabilities."""
    inputs = keras.Input((config.image_size, config.image_size, 3), name="image")
    return _network(config, inputs, _PLAIN, keras.DTypePolicy("float32"))


def _network(config: TrialConfig, inputs: Any, kinds: _Kinds, dtype: Any) -> keras.Model:
    conv = {"activation": "relu", "padding": "same", "dtype": dtype}
    first, *others = config.block_filters
    x = kinds.first(first, 3, **conv)(inputs)
    if kinds.late_relu:  # the same function, a quarter of the work; other blocks have batch normalisation between
        x = kinds.conv(first, 3, padding="same", dtype=dtype)(x)
        x = layers.ReLU(dtype=dtype)(layers.MaxPooling2D(2, dtype=dtype)(x))
    else:
        x = layers.MaxPooling2D(2, dtype=dtype)(kinds.conv(first, 3, **conv)(x))
    for block, filters in enumerate(others, start=2):
        for _ in range(2):
            kind = kinds.separable if config.convolution == "separable" else kinds.conv
            x = kind(filters, 3, **conv)(x)
        x = kinds.norm(momentum=config.batch_norm_momentum, dtype=dtype)(x)
        x = layers.MaxPooling2D(2, dtype=dtype)(x)
        if block >= 4:
            x = kinds.dropout(config.dropout_conv, dtype=dtype)(x)
    x = layers.Flatten(dtype=dtype)(x) if config.head == "flatten" else layers.GlobalAveragePooling2D(dtype=dtype)(x)
    for units, rate in config.dense_layers:
        x = layers.Dense(units, activation="relu", dtype=dtype)(x)
        x = kinds.dropout(rate, dtype=dtype)(x)
    outputs = layers.Dense(1, activation="sigmoid", dtype="float32")(x)
    return keras.Model(inputs, outputs)


def random_states(model: keras.Model) -> list[Any]:
    """Return the state variables of the model's random generators, in the order of its layers."""
    return [layer.seed_generator.state for layer in model.layers if isinstance(layer, layers.Dropout)]


def state_variables(model: keras.Model) -> list[Any]:
    """Return all variables that training changes, in a fixed order: weights, optimiser state, random states."""
    return [*model.weights, *model.optimizer.variables, *random_states(model)]
