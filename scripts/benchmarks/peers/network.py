"""The published network in plain Keras layers, augmentation included, and its learning-rate callback."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
from keras import layers

Values = Mapping[str, Any]


def build_network(values: Values) -> keras.Model:
    """Return the compiled network: (batch, size, size, 3) images of 0 to 255 to (batch, 1) probabilities."""
    inputs = keras.Input((values["image_size"], values["image_size"], 3))
    x = layers.Rescaling(1 / 255)(inputs)
    if values["vertical_flip"]:
        x = layers.RandomFlip("vertical")(x)
    if values["zoom"] > 0:
        zoom = (-values["zoom"], values["zoom"])
        x = layers.RandomZoom(zoom, zoom, fill_mode="nearest")(x)
    outputs = layers.Dense(1, activation="sigmoid")(_dense(_convolutions(x, values), values))
    model = keras.Model(inputs, outputs)
    model.compile(
        optimizer=keras.optimizers.Adam(values["learning_rate"]),
        loss="binary_crossentropy",
        metrics=["accuracy", keras.metrics.AUC(name="auc")],
    )
    return model


def _convolutions(x: Any, values: Values) -> Any:
    filters = [max(1, round(values["width"] * values[f"filters_{block}"])) for block in range(1, 6)]
    for _ in range(2):
        x = layers.Conv2D(filters[0], 3, activation="relu", padding="same")(x)
    x = layers.MaxPooling2D()(x)
    for block, n in enumerate(filters[1:], start=2):
        for _ in range(2):
            x = layers.SeparableConv2D(n, 3, activation="relu", padding="same")(x)
        x = layers.BatchNormalization(momentum=values["batch_norm_momentum"])(x)
        x = layers.MaxPooling2D()(x)
        if block >= 4:
            x = layers.Dropout(values["dropout_conv"])(x)
    return x


def _dense(x: Any, values: Values) -> Any:
    x = layers.Flatten()(x)
    for number in (1, 2, 3):
        x = layers.Dense(values[f"units_{number}"], activation="relu")(x)
        x = layers.Dropout(values[f"dropout_{number}"])(x)
    return x


def learning_rate_callback(values: Values) -> keras.callbacks.Callback:
    """Return the published `ReduceLROnPlateau` on the validation loss."""
    return keras.callbacks.ReduceLROnPlateau(
        monitor="val_loss",
        factor=values["lr_reduce_factor"],
        patience=values["lr_reduce_patience"],
        mode=values["lr_reduce_mode"],
    )


def checkpoint_callback(weights: Path) -> keras.callbacks.Callback:
    """Return the callback that keeps the weights of the best epoch in a file whose name ends in `.weights.h5`."""
    return keras.callbacks.ModelCheckpoint(
        weights, monitor="val_accuracy", mode="max", save_best_only=True, save_weights_only=True
    )
