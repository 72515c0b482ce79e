"""From a configuration to the five-block network."""

from typing import Any

import keras
from keras import layers

from pneumosearch.config import Precision, TrialConfig
from pneumosearch.layers import FusedBatchNormalization, GreyConv2D, VariableDropout

_POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16"}


def build_model(config: TrialConfig, *, precision: Precision = "float32") -> keras.Model:
    """Build the network that trains: (batch, size, size, 1) grey levels 0..255 to (batch, 1) probabilities.

    Args:
        config: Sizes and dropout rates.
        precision: Of the computation; weights, output and loss are float32 in any case.

    Returns:
        An uncompiled model with the weights of `plain_model`, in the same order.
    """
    dtype = keras.DTypePolicy(_POLICIES[precision])
    inputs = keras.Input((config.image_size, config.image_size, 1), dtype="uint8", name="pixels")
    filters = config.block_filters
    x = GreyConv2D(filters[0], 3, activation="relu", padding="same", dtype=dtype)(inputs)
    x = layers.Conv2D(filters[0], 3, activation="relu", padding="same", dtype=dtype)(x)
    x = layers.MaxPooling2D(2, dtype=dtype)(x)
    return _finish(config, inputs, x, kinds=(FusedBatchNormalization, VariableDropout), dtype=dtype)


def plain_model(config: TrialConfig) -> keras.Model:
    """Build the published network from plain Keras layers: (batch, size, size, 3) in [0, 1] to probabilities."""
    dtype = keras.DTypePolicy("float32")
    inputs = keras.Input((config.image_size, config.image_size, 3), name="image")
    filters = config.block_filters
    x = layers.Conv2D(filters[0], 3, activation="relu", padding="same")(inputs)
    x = layers.Conv2D(filters[0], 3, activation="relu", padding="same")(x)
    x = layers.MaxPooling2D(2)(x)
    return _finish(config, inputs, x, kinds=(layers.BatchNormalization, layers.Dropout), dtype=dtype)


def _finish(config: TrialConfig, inputs: Any, x: Any, *, kinds: tuple[Any, Any], dtype: Any) -> keras.Model:
    """Add blocks 2 to 5 and the dense layers, with these kinds of normalisation and dropout, after the first block."""
    norm, dropout = kinds
    for block, filters in enumerate(config.block_filters[1:], start=2):
        for _ in range(2):
            x = layers.SeparableConv2D(filters, 3, activation="relu", padding="same", dtype=dtype)(x)
        x = norm(dtype=dtype)(x)
        x = layers.MaxPooling2D(2, dtype=dtype)(x)
        if block >= 4:
            x = dropout(config.dropout_conv, dtype=dtype)(x)
    x = layers.Flatten(dtype=dtype)(x)
    for units, rate in config.dense_layers:
        x = layers.Dense(units, activation="relu", dtype=dtype)(x)
        x = dropout(rate, dtype=dtype)(x)
    outputs = layers.Dense(1, activation="sigmoid", dtype="float32")(x)
    return keras.Model(inputs, outputs)


def random_states(model: keras.Model) -> list[Any]:
    """Return the state variables of the model's random generators, in the order of its layers."""
    return [layer.seed_generator.state for layer in model.layers if isinstance(layer, layers.Dropout)]
