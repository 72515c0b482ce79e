"""Where a network looked: Grad-CAM heat maps over its last convolution, and pictures of them."""

from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from pneumosearch.errors import ConfigError
from pneumosearch.network import backend

Heat = npt.NDArray[np.float32]
Calls = npt.NDArray[np.bool_]
Grey = npt.NDArray[np.uint8]

_BATCH: Final = 32  # images at a time: the maps of the last convolution are small, those before it are not
_SHARE_OF_HEAT: Final = 0.4  # of a picture's colour, where the heat is greatest


def grad_cam(model: Any, pixels: Grey, ill: Calls | None = None) -> Heat:
    """Return how much each place spoke for the answer that was given.

    The gradient is that of the logit, which, unlike the probability's, does not vanish where the network is sure.

    Args:
        model: Of plain Keras layers, as `TrainingResult.save` writes it, ending in one sigmoid unit.
        pixels: (n, size, size) grey levels of 0 to 255.
        ill: (n,) whether the answer was pneumonia, where another threshold or more networks than this one gave it; the
            network's own at 0.5 if None.

    Returns:
        (n, size, size) in [0, 1], the greatest of each image 1; all 0 where nothing spoke for the answer.

    Raises:
        ConfigError: Keras runs on another backend than TensorFlow, whose gradients are used, or the network has no
            convolution or another end.

    Source:
        Selvaraju et al., Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization, ICCV 2017.
    """
    backend.start()
    import keras

    if keras.backend.backend() != "tensorflow":
        raise ConfigError(f"KERAS_BACKEND={keras.backend.backend()}: heat maps need tensorflow")
    watched = _watched(model)
    parts = [slice(i, i + _BATCH) for i in range(0, len(pixels), _BATCH)]
    maps = [_heat(watched, model.layers[-1], pixels[part], None if ill is None else ill[part]) for part in parts]
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

    kinds = (keras.layers.Conv2D, keras.layers.SeparableConv2D)
    convolutions = [layer for layer in model.layers if isinstance(layer, kinds)]
    end = model.layers[-1]
    one_unit = isinstance(end, keras.layers.Dense) and end.units == 1 and end.activation is keras.activations.sigmoid
    if not (convolutions and one_unit):
        raise ConfigError("a heat map needs a network with a convolution that ends in one sigmoid unit")
    return keras.Model(model.inputs[0], [convolutions[-1].output, end.input])


def _heat(watched: Any, last_unit: Any, pixels: Grey, ill: Calls | None) -> Heat:
    import tensorflow as tf

    images = np.repeat(pixels[..., None].astype(np.float32) / 255, 3, axis=-1)
    with tf.GradientTape() as tape:
        maps, seen = watched(images, training=False)
        logits = (tf.matmul(seen, last_unit.kernel) + last_unit.bias)[:, 0]
        called = logits > 0 if ill is None else ill
        answers = tf.where(called, logits, -logits)  # rises with the certainty of the answer
    gradients = tape.gradient(answers, maps).numpy()
    spoken = np.maximum((maps.numpy() * gradients.mean(axis=(1, 2), keepdims=True)).sum(-1), 0.0)
    side = pixels.shape[2], pixels.shape[1]
    heat = np.stack([cv2.resize(one, side, interpolation=cv2.INTER_LINEAR) for one in spoken])
    greatest = heat.max(axis=(1, 2), keepdims=True)
    return np.asarray(np.divide(heat, greatest, out=np.zeros_like(heat), where=greatest > 0), dtype=np.float32)
