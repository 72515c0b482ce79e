"""Published numbers, each with its source. Nothing here is measured by this project."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class PublishedEpoch:
    """One row of the study's accuracy table; accuracies as fractions in [0, 1]."""

    epoch: int
    test_accuracy: float
    train_accuracy: float


@dataclass(frozen=True)
class PublishedFigures:
    """The figures of another work on the same 624 test images, as fractions; None for a figure it does not report."""

    name: str
    accuracy: float
    sensitivity: float | None = None
    specificity: float | None = None
    auc: float | None = None


#: Gachet, "Le Deep Learning appliqué au diagnostic de pneumonies", 2021-2022, table of results.
PUBLISHED_TABLE: Final = (
    PublishedEpoch(1, 0.625, 0.825),
    PublishedEpoch(3, 0.793, 0.909),
    PublishedEpoch(5, 0.862, 0.918),
    PublishedEpoch(7, 0.720, 0.941),
    PublishedEpoch(10, 0.846, 0.951),
)

#: The same study, table of data sets: images as {split: (NORMAL, PNEUMONIA)}.
PUBLISHED_COUNTS: Final = {"train": (1341, 3875), "val": (8, 8), "test": (234, 390)}

#: Trainable and non-trainable parameters of the network in the study's listing.
PUBLISHED_PARAMETERS: Final = 2_314_337

#: Seed in the study's listing.
PUBLISHED_SEED: Final = 232

OTHER_FIGURES: Final = (
    # Cell 172 (2018) 1122-1131: transfer from ImageNet.
    PublishedFigures("Kermany 2018", 0.928, 0.932, 0.901, 0.968),
    # keras.io/examples/vision/xray_classification_with_tpus
    PublishedFigures("keras.io TPU example", 0.814),
    # 390 of the 624 test images show pneumonia.
    PublishedFigures('always "pneumonia"', 0.625, 1.0, 0.0, 0.5),
)


def published_at(epoch: int) -> PublishedEpoch | None:
    """Return the published row of `epoch` (counted from 1), or None where the table has none."""
    return next((row for row in PUBLISHED_TABLE if row.epoch == epoch), None)
