"""What a record says of the data that a training saw; light, so that readers of the store need no image library."""

import json
from collections.abc import Sequence
from itertools import accumulate
from pathlib import PurePath
from typing import Final, Literal, Self

from pydantic import BaseModel, ConfigDict

from pneumosearch.records.classes import PUBLISHED_CLASSES, Classes, Shown, class_words

Interpolation = Literal["nearest", "area"]

#: What stands over every result on generated images.
PHANTOMS: Final = "PHANTOMS: generated drawings, not X-rays. These accuracies say nothing about the published ones."

#: So many unreadable images are named; fewer where their names are long.
MAX_NAMED: Final = 100

_ROOM: Final = 20_000  # bytes for these names; MySQL keeps at most 64 KB in one attribute

Range = tuple[float, float]  # of all but half a percent at each end


class Span(BaseModel):
    """Between which values a plain feature lies."""

    model_config = ConfigDict(frozen=True)

    training: Range  # of the training images
    copies: Range | None = None  # of the battery's copies that judged: each copy's range, taken together


class Spans(BaseModel):
    """What the images that a network was trained on, and judged by, span in plain features, by `data.spans`.

    The features are some of the audit's, at another side.
    """

    model_config = ConfigDict(frozen=True)

    side: int  # of the square images that are measured, pixels
    interpolation: Interpolation  # by which an image is shrunk to them
    brightness: Span
    contrast: Span
    sharpness: Span
    aspect_ratio: Span | None  # of the files; None where all have one, so that it tells nothing of the films


class Appearance(BaseModel):
    """How the training images look on the whole, by `data.appearance`."""

    model_config = ConfigDict(frozen=True)

    mean: tuple[int, ...]  # 16 x 16, row by row, scaled to 0 to 255
    likeness: float  # correlation with `mean` that all training images reach but half a percent
    brightness: Range  # mean grey level
    contrast: Range  # standard deviation of the grey levels of 16 x 16
    pixels: Range | None  # of the files
    aspect_ratio: Range | None  # width / height of the files
    spans: Spans | None = None  # None in older records


def shown_as(kind: Literal["images", "phantoms"], classes: Classes) -> Shown:
    """Return what images of this kind with these classes are, for what may stand beside their results."""
    return "own images" if kind == "images" and classes != PUBLISHED_CLASSES else kind


class DataDescription(BaseModel):
    """What a record says of the data that a training saw."""

    model_config = ConfigDict(frozen=True)

    kind: Literal["images", "phantoms"]
    folder: str  # as `data.names.storable_path` writes it
    fingerprint: str  # of the content of train + val
    test_fingerprint: str | None  # of the test folder, where it was opened
    counts: dict[str, tuple[int, int]]  # {split: (images of the first class, of the second)}
    n_train: int
    n_evaluation: int
    interpolation: Interpolation
    split_seed: int | None  # None where the split is the published one, or by brightness
    skipped: tuple[str, ...]  # unreadable images left out on request: the first of them, as `with_skipped` has it
    n_skipped: int | None = None  # how many they are, where not all are named
    # What tells patients apart: None for the published names, "mendeley" for that archive's, else the user's pattern.
    patient_rule: str | None = None
    appearance: Appearance | None = None  # of the images outside the test folder; None in older records
    bits: int | None = None  # of the levels of deep images (more than 8 bits a pixel); None where there are none
    classes: Classes = PUBLISHED_CLASSES

    def with_skipped(self, names: Sequence[str]) -> Self:
        """Return the description of data without these images; of many it names the first."""
        sizes = accumulate(len(json.dumps(name)) + 2 for name in names[:MAX_NAMED])
        first = tuple(names[: max(1, sum(size <= _ROOM for size in sizes))])
        n_skipped = len(names) if len(first) < len(names) else None
        return self.model_copy(update={"skipped": first, "n_skipped": n_skipped})

    @property
    def patient_pattern(self) -> str | None:
        """The user's rule for patients, where one was given."""
        return None if self.patient_rule == "mendeley" else self.patient_rule

    @property
    def shown_as(self) -> Shown:
        """What the images are, for what may stand beside their results."""
        return shown_as(self.kind, self.classes)

    @property
    def beside_published(self) -> bool:
        """Whether results may stand beside published figures."""
        return self.shown_as == "images"

    @property
    def words(self) -> Classes:
        """The classes as words in a sentence."""
        return class_words(self.classes)

    @property
    def folder_name(self) -> str:
        """The last part of the folder; pages and notes for others do not show the rest of the path."""
        return PurePath(self.folder).name
