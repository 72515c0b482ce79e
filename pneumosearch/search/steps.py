"""Tells a listener now and then how far a training is within its epoch."""

import time
from collections.abc import Callable

from pneumosearch.search.events import Listener, StepsDone
from pneumosearch.training.loop import OnStep, Step


def step_reporter(
    listener: Listener,
    number: int,
    every: float | None,
    *,
    screening: bool = False,
    clock: Callable[[], float] = time.monotonic,
) -> OnStep | None:
    """Return what a training calls after each step; None where nobody looks.

    Args:
        listener: Receives a `StepsDone` for the first and the last step of an epoch, and now and then between.
        number: Of the trial.
        every: Seconds between two of them; None for no events.
        screening: Whether it trains the low-resolution rung.
        clock: Seconds that pass.
    """
    return None if every is None else _Reporter(listener, number, every, screening, clock)


class _Reporter:
    def __init__(
        self, listener: Listener, number: int, every: float, screening: bool, clock: Callable[[], float]
    ) -> None:
        self._listener, self._number, self._every = listener, number, every
        self._screening, self._clock = screening, clock
        self._sent = 0.0  # when the last event was
        self._losses, self._steps, self._images = 0.0, 0, 0  # since then

    def __call__(self, step: Step) -> None:
        self._losses += step.loss
        self._steps += 1
        self._images += step.n_images
        passed = self._clock() - self._sent
        if passed >= self._every or step.number in (1, step.steps):
            rate = self._images / passed if step.number > 1 and passed > 0 else None  # the first includes other work
            self._send(step, rate)

    def _send(self, step: Step, rate: float | None) -> None:
        epoch = 0 if self._screening else step.epoch
        loss = self._losses / self._steps
        self._listener(StepsDone(self._number, epoch, step.number, step.steps, loss, rate))
        self._sent, self._losses, self._steps, self._images = self._clock(), 0.0, 0, 0
