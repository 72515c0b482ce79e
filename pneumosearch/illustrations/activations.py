"""What a kept network of plain Keras layers computes inside for one image."""

from typing import Any, NamedTuple

import numpy as np

from pneumosearch.data.decoding import PixelArray
from pneumosearch.illustrations.images import Maps


class Inside(NamedTuple):
    """The outputs of a network's parts for one image."""

    blocks: list[Maps]  # after each block's pooling, (side, side, n_filters)
    dense: Maps  # of the first dense layer, (n_units,)


def inside(model: Any, pixels: PixelArray) -> Inside:
    """Run a network as `TrainingResult.save` writes it on one image, (size, size) grey levels of 0 to 255."""
    import keras

    pooled = [layer.output for layer in model.layers if isinstance(layer, keras.layers.MaxPooling2D)]
    dense = next(layer.output for layer in model.layers if isinstance(layer, keras.layers.Dense))
    watched = keras.Model(model.inputs[0], [*pooled, dense])
    image = np.repeat(pixels[None, :, :, None].astype(np.float32) / 255, 3, axis=-1)
    *blocks, units = (keras.ops.convert_to_numpy(values)[0] for values in watched(image, training=False))
    return Inside(blocks, units)
