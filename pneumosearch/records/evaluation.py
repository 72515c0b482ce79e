"""What `evaluate` found, as plain values: figures with intervals, by folder; one JSON document."""

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from pneumosearch.records.classes import Classes


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, allow_inf_nan=False)


class Interval(_Record):
    """A figure with its 95% interval."""

    value: float
    low: float
    high: float


class Figures(_Record):
    """The figures of one set of images at a threshold; None where the set lacks a class that a figure needs."""

    threshold: float
    accuracy: Interval  # Wilson, like the next two: images count as independent
    sensitivity: Interval | None
    specificity: Interval | None
    balanced_accuracy: Interval | None  # bootstrap over patients, like the next two
    auc: Interval | None
    log_loss: Interval
    brier: float | None
    calibration_error: float | None


#: So many images are named of each kind that is left out.
MAX_NAMED: Final = 100

#: The group of all images together.
ALL: Final = "all images"


class Group(_Record):
    """The images below one folder, or all of them, and what the network is worth on them."""

    name: str
    counts: dict[str, int]  # of images by class, as the network names it
    patients: int
    trained_on: int  # images that trained the network, or chose its epoch, threshold or configuration
    unlike: int  # images that lie far outside of what the network was trained on
    at_half: Figures
    at_threshold: Figures | None  # at the network's own threshold, where that is not 0.5


class Evaluation(_Record):
    """What a network is worth on a labelled folder."""

    model: str  # where the network comes from, in words
    classes: Classes  # of the network; the second is the positive one
    threshold: float  # the network's own
    warning: str
    version: str
    time: str  # ISO 8601, UTC
    folder: str
    kind: Literal["images", "phantoms"]  # in the folder
    folder_classes: Classes  # how the class folders are named there
    fingerprint: str  # of the images that were judged
    known: bool  # whether sealed images and those of the training were looked for
    sealed: tuple[str, ...]  # first names of the images passed over because they are in the study's sealed test folder
    n_sealed: int
    unreadable: dict[str, str]  # first names, with reasons
    n_unreadable: int
    total: Group
    groups: tuple[Group, ...]  # by folder; empty where there is only one


@dataclass(frozen=True)
class JudgedImages:
    """The single images of an evaluation, for figures."""

    labels: tuple[int, ...]
    probabilities: npt.NDArray[np.float64]
    patients: tuple[str, ...]
