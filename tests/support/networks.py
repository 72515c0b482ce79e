"""A network that is made by hand, and exported networks at work."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pneumosearch.network import backend


def weighing(weight: float, activation: str = "sigmoid") -> Any:
    """A network of 8 x 8 pixels that weighs brightness by hand."""
    backend.start()
    import keras

    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(1, 1, activation="relu", kernel_initializer="ones")(inputs)
    x = keras.layers.Flatten()(x)
    outputs = keras.layers.Dense(1, activation=activation)(x)
    model = keras.Model(inputs, outputs)
    model.layers[-1].set_weights([np.full((64, 1), weight, np.float32), np.zeros(1, np.float32)])
    return model


def lite(model: Path, images: npt.NDArray[np.float32]) -> list[float]:
    import tensorflow as tf

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that the interpreter moves to another package
        interpreter = tf.lite.Interpreter(str(model))
    interpreter.allocate_tensors()
    found = []
    for image in images:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image[None])
        interpreter.invoke()
        found.append(float(interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0, 0]))
    return found
