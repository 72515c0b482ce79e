"""What a configuration costs: its weights and arithmetic, counted from its sizes, and its time, estimated."""

import statistics
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from pneumosearch.config import TrialConfig
from pneumosearch.records.trial import TrialRecord

_CHANNELS = 3  # of the published first layer; it computes over one grey channel


class Limits(NamedTuple):
    """The budget of a configuration; None sets no limit."""

    parameters: int | None = None
    seconds_an_epoch: float | None = None

    def excess(self, config: TrialConfig, trained: Callable[[], Iterable[TrialRecord]]) -> str | None:
        """Say why `config` is over budget; None where it is not.

        Args:
            config: A configuration that is not trained yet.
            trained: Gives the trials by which time is estimated.
        """
        if self.parameters is not None and n_parameters(config) > self.parameters:
            return f"{n_parameters(config):,} parameters, at most {self.parameters:,} allowed"
        if self.seconds_an_epoch is not None:
            seconds = seconds_an_epoch(config, trained())
            if seconds is not None and seconds > self.seconds_an_epoch:
                return f"about {seconds:.0f} s an epoch, at most {self.seconds_an_epoch:.0f} allowed"
        return None


class _Layer(NamedTuple):
    parameters: int
    multiply_adds: int  # of one image, forwards


def n_parameters(config: TrialConfig) -> int:
    """Count trainable and non-trainable parameters, as Keras does."""
    return sum(layer.parameters for layer in _layers(config))


def multiply_adds(config: TrialConfig) -> int:
    """Count the multiplications with addition of one image going forwards; training takes about three times as many."""
    return sum(layer.multiply_adds for layer in _layers(config))


def _layers(config: TrialConfig) -> Iterator[_Layer]:
    first, *others = config.block_filters
    side, channels = config.image_size, first
    yield _Layer(9 * _CHANNELS * first + first, 9 * first * side**2)
    yield _Layer(9 * first * first + first, 9 * first * first * side**2)
    side //= 2
    for filters in others:
        for _ in range(2):
            yield _convolution(config, channels, filters, side**2)
            channels = filters
        yield _Layer(4 * filters, filters * side**2)
        side //= 2
    features = channels * side**2 if config.head == "flatten" else channels
    for units in (*(n for n, _ in config.dense_layers), 1):
        yield _Layer(features * units + units, features * units)
        features = units


def _convolution(config: TrialConfig, inputs: int, outputs: int, pixels: int) -> _Layer:
    if config.convolution == "plain":
        return _Layer(9 * inputs * outputs + outputs, 9 * inputs * outputs * pixels)
    weights = 9 * inputs + inputs * outputs
    return _Layer(weights + outputs, weights * pixels)


def seconds_an_epoch(config: TrialConfig, trained: Iterable[TrialRecord]) -> float | None:
    """Estimate the seconds of an epoch by the arithmetic of trials that were trained on the same images and machine.

    Returns:
        None where no trial has finished an epoch.
    """
    rates = [
        statistics.median(epoch.seconds for epoch in trial.history) / multiply_adds(trial.run.config)
        for trial in trained
        if trial.run and trial.history and trial.duplicate_of is None
    ]
    return statistics.median(rates) * multiply_adds(config) if rates else None
