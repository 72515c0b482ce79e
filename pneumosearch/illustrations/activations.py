"""Activations of a stored network of plain Keras layers for one image."""

from typing import Any, NamedTuple

import numpy as np

from pneumosearch.data.decoding import PixelArray
from pneumosearch.illustrations.images import Maps


class Activations(NamedTuple):
    """Outputs of hidden layers for one image."""

    blocks: list[Maps]  # after the pooling of each block, (side, side, n_filters)
    dense: Maps  # of the first dense layer, (n_units,)


def activations(model: Any, pixels: PixelArray) -> Activations:
    """Return the activations of a network for one image.

    Args:
        model: A network of plain Keras layers, as `TrainingResult.save` writes it.
        pixels: (size, size) grey levels, 0 to 255.
    """
    import keras

    pooled = [layer.output for layer in model.layers if isinstance(layer, keras.layers.MaxPooling2D)]
    dense = next(layer.output for layer in model.layers if isinstance(layer, keras.layers.Dense))
    inner = keras.Model(model.inputs[0], [*pooled, dense])
    image = np.repeat(pixels[None, :, :, None].astype(np.float32) / 255, 3, axis=-1)
    *blocks, units = (keras.ops.convert_to_numpy(values)[0] for values in inner(image, training=False))
    return Activations(blocks, units)
