"""Grad-CAM heat maps of the last convolution, and overlays of them on images."""

from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from pneumosearch.errors import ConfigError
from pneumosearch.network import backend

Heat = npt.NDArray[np.float32]
Calls = npt.NDArray[np.bool_]
Grey = npt.NDArray[np.uint8]

_BATCH: Final = 32  # images at a time; the feature maps before the last convolution are large
_SHARE_OF_HEAT: Final = 0.4  # share of the colour map where the heat is 1


def grad_cam(model: Any, pixels: Grey, ill: Calls | None = None) -> Heat:
    """Return how much each region contributed to the predicted class.

    The gradient is taken of the logit, because the gradient of the probability vanishes for confident predictions.

    Args:
        model: A network of plain Keras layers that ends in one sigmoid unit, as `TrainingResult.save` writes it.
        pixels: (n, size, size) grey levels, 0 to 255.
        ill: (n,) whether the predicted class is pneumonia, for predictions at another threshold or of an ensemble. If
            None, the prediction of this network at 0.5.

    Returns:
        (n, size, size) in [0, 1] with maximum 1 for each image; all 0 if no region contributed.

    Raises:
        ConfigError: The backend is not TensorFlow, or the network lacks a convolution or a final sigmoid unit.

    Source:
        Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", ICCV 2017.
    """
    backend.start()
    import keras

    if keras.backend.backend() != "tensorflow":
        raise ConfigError(f"KERAS_BACKEND={keras.backend.backend()}: heat maps need tensorflow")
    inner = _with_feature_maps(model)
    parts = [slice(i, i + _BATCH) for i in range(0, len(pixels), _BATCH)]
    maps = [_heat(inner, model.layers[-1], pixels[part], None if ill is None else ill[part]) for part in parts]
    size = pixels.shape[1:]
    return np.concatenate(maps) if maps else np.zeros((0, *size), np.float32)


def overlay(pixels: Grey, heat: Heat) -> Grey:
    """Return an image overlaid with its heat map, (size, size, 3) in RGB order, 0 to 255.

    Args:
        pixels: (size, size) grey levels, 0 to 255.
        heat: (size, size) in [0, 1].
    """
    colours = cv2.applyColorMap((255 * heat).round().astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
    share = _SHARE_OF_HEAT * heat[..., None]
    mixed = (1 - share) * pixels[..., None] + share * colours
    return np.asarray(mixed.round(), dtype=np.uint8)


def _with_feature_maps(model: Any) -> Any:
    """Return a model whose outputs are the feature maps of the last convolution and the input of the last unit."""
    import keras

    kinds = (keras.layers.Conv2D, keras.layers.SeparableConv2D)
    convolutions = [layer for layer in model.layers if isinstance(layer, kinds)]
    end = model.layers[-1]
    one_unit = isinstance(end, keras.layers.Dense) and end.units == 1 and end.activation is keras.activations.sigmoid
    if not (convolutions and one_unit):
        raise ConfigError("a heat map needs a network with a convolution that ends in one sigmoid unit")
    return keras.Model(model.inputs[0], [convolutions[-1].output, end.input])


def _heat(inner: Any, last_unit: Any, pixels: Grey, ill: Calls | None) -> Heat:
    import tensorflow as tf

    images = np.repeat(pixels[..., None].astype(np.float32) / 255, 3, axis=-1)
    with tf.GradientTape() as tape:
        maps, features = inner(images, training=False)
        logits = (tf.matmul(features, last_unit.kernel) + last_unit.bias)[:, 0]
        predicted = logits > 0 if ill is None else ill
        confidence = tf.where(predicted, logits, -logits)  # rises with the certainty of the prediction
    gradients = tape.gradient(confidence, maps).numpy()
    contributions = np.maximum((maps.numpy() * gradients.mean(axis=(1, 2), keepdims=True)).sum(-1), 0.0)
    side = pixels.shape[2], pixels.shape[1]
    heat = np.stack([cv2.resize(one, side, interpolation=cv2.INTER_LINEAR) for one in contributions])
    greatest = heat.max(axis=(1, 2), keepdims=True)
    return np.asarray(np.divide(heat, greatest, out=np.zeros_like(heat), where=greatest > 0), dtype=np.float32)
