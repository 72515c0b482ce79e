"""What happens in the trials of a study: a training sends these events, and a view shows them."""

from collections.abc import Callable
from dataclasses import dataclass

from pneumosearch.config import RunSpec
from pneumosearch.records.epoch import History
from pneumosearch.records.trial import TrialRecord


@dataclass(frozen=True)
class TrialStarted:
    """A trial begins, or goes on."""

    number: int
    run: RunSpec


@dataclass(frozen=True)
class FoldStarted:
    """A trial begins with the next of its folds, or goes on with it."""

    number: int
    run: RunSpec  # the training; its fold is not the first


@dataclass(frozen=True)
class StepsDone:
    """A trial has got so far within an epoch. It is sent now and then, where somebody looks (`Session.steps_every`)."""

    number: int
    epoch: int  # from 1; 0 is the low-resolution rung
    step: int  # done in this epoch
    steps: int  # of this epoch; when all are done, it is evaluated
    loss: float  # mean since the event before
    images_per_second: float | None  # since the event before; None at the first of an epoch


@dataclass(frozen=True)
class EpochEnded:
    """A trial has finished and saved another epoch."""

    number: int
    history: History
    fold: int = 0  # of which it is, from 0


@dataclass(frozen=True)
class TrialDeferred:
    """A trial lets others go first; another `TrialStarted` follows when it goes on."""

    number: int


@dataclass(frozen=True)
class TrialEnded:
    """A trial is complete, pruned or failed."""

    record: TrialRecord


@dataclass(frozen=True)
class DeviceFound:
    """A process is about to train, and knows where it computes."""

    device: str  # in words, such as "the processor, 2 threads"
    warning: str | None = None  # of a device that it could use and does not


@dataclass(frozen=True)
class PartsDone:
    """A job of several parts, such as the replicates of a confirmation, has got so far."""

    what: str  # the parts, in the plural
    done: int
    n: int


@dataclass(frozen=True)
class Repeating:
    """What happens in a repetition of a trial, which is a trial of another study."""

    study: str  # that one
    trial: int | None  # of the search, that is repeated; None for another one that an earlier process left behind
    event: TrialStarted | StepsDone | EpochEnded | TrialEnded


TrialEvent = (
    DeviceFound
    | TrialStarted
    | FoldStarted
    | StepsDone
    | EpochEnded
    | TrialDeferred
    | TrialEnded
    | PartsDone
    | Repeating
)

#: Receives each event as it happens; what it returns does not matter.
Listener = Callable[[TrialEvent], object]


def to_all(*listeners: Listener) -> Listener:
    """Return a listener that passes each event on to all of these, in order."""

    def pass_on(event: TrialEvent) -> None:
        for listener in listeners:
            listener(event)

    return pass_on
