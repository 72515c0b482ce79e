"""Where a network looked: Grad-CAM heat maps over its last convolution, and pictures of them."""

from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from pneumosearch import backend
from pneumosearch.errors import ConfigError

Heat = npt.NDArray[np.float32]
Grey = npt.NDArray[np.uint8]

_BATCH: Final = 32  # images at a time: the maps of the last convolution are small, those before it are not
_SHARE_OF_HEAT: Final = 0.4  # of a picture's colour, where the heat is greatest


def grad_cam(model: Any, pixels: Grey) -> Heat:
    """Return how much each place spoke for the answer that the network gave: for pneumonia above 0.5, else for normal.

    The gradient is that of the logit, which, unlike the probability's, does not vanish where the network is sure.

    Args:
        model: Of plain Keras layers, as `TrainingResult.save` writes it, ending in one sigmoid unit.
        pixels: (n, size, size) grey levels of 0 to 255.

    Returns:
        (n, size, size) in [0, 1], the greatest of each image 1; all 0 where nothing spoke for the answer.

    Raises:
        ConfigError: Keras runs on another backend than TensorFlow, whose gradients are used.

    Source:
        Selvaraju et al., Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization, ICCV 2017.
    """
    backend.start()
    import keras

    if keras.backend.backend() != "tensorflow":
        raise ConfigError(f"KERAS_BACKEND={keras.backend.backend()}: heat maps need tensorflow")
    watched = _watched(model)
    parts = [pixels[i : i + _BATCH] for i in range(0, len(pixels), _BATCH)]
    maps = [_heat(watched, model.layers[-1], part) for part in parts]
    size = pixels.shape[1:]
    return np.concatenate(maps) if maps else np.zeros((0, *size), np.float32)


def overlay(pixels: Grey, heat: Heat) -> Grey:
    """Return an image with its heat as colour, (size, size, 3), red, green and blue.

    Args:
        pixels: (size, size) grey levels of 0 to 255.
        heat: (size, size) in [0, 1].
    """
    colours = cv2.applyColorMap((255 * heat).round().astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
    share = _SHARE_OF_HEAT * heat[..., None]
    mixed = (1 - share) * pixels[..., None] + share * colours
    return np.asarray(mixed.round(), dtype=np.uint8)


def _watched(model: Any) -> Any:
    """Return a model that gives the maps of the last convolution, and what the last unit sees."""
    import keras

    convolutions = (keras.layers.Conv2D, keras.layers.SeparableConv2D)
    last = [layer for layer in model.layers if isinstance(layer, convolutions)][-1]
    return keras.Model(model.inputs[0], [last.output, model.layers[-1].input])


def _heat(watched: Any, last_unit: Any, pixels: Grey) -> Heat:
    import tensorflow as tf

    images = np.repeat(pixels[..., None].astype(np.float32) / 255, 3, axis=-1)
    with tf.GradientTape() as tape:
        maps, seen = watched(images, training=False)
        logits = (tf.matmul(seen, last_unit.kernel) + last_unit.bias)[:, 0]
        answers = tf.abs(logits)  # rises with the logit of a "pneumonia", and falls with that of a "normal"
    gradients = tape.gradient(answers, maps).numpy()
    spoken = np.maximum((maps.numpy() * gradients.mean(axis=(1, 2), keepdims=True)).sum(-1), 0.0)
    side = pixels.shape[2], pixels.shape[1]
    heat = np.stack([cv2.resize(one, side, interpolation=cv2.INTER_LINEAR) for one in spoken])
    greatest = heat.max(axis=(1, 2), keepdims=True)
    return np.asarray(np.divide(heat, greatest, out=np.zeros_like(heat), where=greatest > 0), dtype=np.float32)
