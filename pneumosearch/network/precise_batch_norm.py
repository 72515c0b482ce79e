"""Precise batch normalisation: statistics measured with the current weights replace the moving averages.

Evaluation uses moving averages of the batch statistics. At the published momentum of 0.99 and 70 to 300 steps per
epoch, they still contain part of their initial values after the first epoch, and they always lag behind the weights.
Training does not use the averages.

Source:
    Wu and Johnson, Rethinking "Batch" in BatchNorm, 2021, section 3 ("PreciseBN").
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any, Final

import keras
import numpy as np

from pneumosearch.data.batches import TrainingBatches
from pneumosearch.network.model import random_states

#: Number of training images for the statistics; results/LOG.md has measurements with fewer and more.
IMAGES: Final = 128


def set_precise_statistics(model: keras.Model, batches: TrainingBatches, epoch: int) -> None:
    """Set the moving means and variances of batch normalisation to those of training images at the current weights.

    Args:
        model: The network. Its random states are restored, so the measurement does not change later training.
        batches: Training batches; about the first `IMAGES` images are used, at least one batch.
        epoch: Epoch whose batches are used, counted from 1.
    """
    layers = _layers(model)
    momenta, states = [layer.momentum for layer in layers], [np.asarray(state) for state in random_states(model)]
    try:
        for number, pixels in enumerate(_pixels(batches, epoch)):
            for layer in layers:
                layer.momentum = number / (number + 1)  # turns the moving average into the mean over the batches
            model(pixels, training=True)
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
        for state, value in zip(random_states(model), states, strict=True):
            state.assign(value)


@contextmanager
def precise_statistics(model: keras.Model, batches: TrainingBatches, epoch: int) -> Iterator[None]:
    """Use precise statistics inside the block and restore the moving averages after.

    Args:
        model: See `set_precise_statistics`.
        batches: See `set_precise_statistics`.
        epoch: See `set_precise_statistics`.
    """
    averages = [average for layer in _layers(model) for average in (layer.moving_mean, layer.moving_variance)]
    values = [np.asarray(average) for average in averages]
    try:
        set_precise_statistics(model, batches, epoch)
        yield
    finally:
        for average, value in zip(averages, values, strict=True):
            average.assign(value)


def _layers(model: keras.Model) -> list[Any]:
    return [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]


def _pixels(batches: TrainingBatches, epoch: int) -> Iterable[Any]:
    n = min(batches.steps, max(1, round(IMAGES / batches.batch_size)))
    return (pixels for pixels, _ in islice(batches.epoch(epoch), n))
