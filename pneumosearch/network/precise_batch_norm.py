"""Precise batch normalisation: statistics measured with the present weights, in place of the lagging moving averages.

At the published momentum of 0.99 and 70 to 300 steps an epoch, the moving averages that evaluation uses still hold some
of their initial values after the first epoch, and weights of many steps ago after any: images are then judged by a
network that never was. Training itself does not use the averages.

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

#: Training images that the statistics are measured on; figures of fewer and more in results/LOG.md.
IMAGES: Final = 128


def set_precise_statistics(model: keras.Model, batches: TrainingBatches, epoch: int) -> None:
    """Set means and variances of batch normalisation to those of training images under the present weights.

    Args:
        model: Whose random states stay as they are, so that training goes on as if nothing had been measured.
        batches: Of the training; the first `IMAGES` images are taken, or all where there are fewer.
        epoch: Whose batches are taken.
    """
    layers = _layers(model)
    momenta, states = [layer.momentum for layer in layers], [np.asarray(state) for state in random_states(model)]
    try:
        for number, pixels in enumerate(_pixels(batches, epoch)):
            for layer in layers:
                layer.momentum = number / (number + 1)  # which makes the moving average a mean over the batches
            model(pixels, training=True)
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
        for state, value in zip(random_states(model), states, strict=True):
            state.assign(value)


@contextmanager
def precise_statistics(model: keras.Model, batches: TrainingBatches, epoch: int) -> Iterator[None]:
    """Put precise statistics in place of the moving averages, and these back after; arguments as above."""
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
