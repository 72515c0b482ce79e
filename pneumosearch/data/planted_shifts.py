"""Shortcuts planted in phantoms: looks that tell the classes in the development images, but not in the test images.

A planted shift has two looks, as two hospitals have: one of the healthy images and one of the ill ones. In train and
val, a patient's images have the look of the patient's class with probability (1 + strength) / 2. In the test folder
both looks are as frequent in either class. So strength is the correlation of look and class in development; in the
test folder there is none. The test folder shows no look that a network was not trained on: what a network loses there
is what it had by the shortcut, and not what any strange image costs. One neutral look would mix the two.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

import cv2
import numpy as np

from pneumosearch.data import operations
from pneumosearch.data.phantom_drawing import Image
from pneumosearch.errors import ConfigError

#: File beside the images that says what was planted in each of them.
PLANTED: Final = "PLANTED.json"

#: Looks follow the class in all development images.
DEFAULT_STRENGTH: Final = 1.0

#: JPEG quality of images in which nothing else is planted.
USUAL_QUALITY: Final = 90

LookOf = Literal["healthy", "ill"]  # whose look it is, not whose image

_Range = tuple[float, float]


@dataclass(frozen=True)
class Shift:
    """What is planted: for each field of `Look`, its range in the look of the healthy and in that of the ill."""

    meaning: str
    healthy: Mapping[str, _Range]
    ill: Mapping[str, _Range]

    def draw(self, look_of: LookOf, rng: np.random.Generator) -> dict[str, float]:
        """Draw a look's values, uniformly over its ranges."""
        ranges = self.healthy if look_of == "healthy" else self.ill
        return {name: float(rng.uniform(*ends)) for name, ends in ranges.items()}


# Compression and geometry are those of the published training images: the healthy were saved at high quality by an
# editor, with an aspect of 1.28, and the ill at quality 75, with one of 1.52.
SHIFTS: Final[Mapping[str, Shift]] = {
    "compression": Shift(
        "healthy images are sharp and of JPEG quality 92 to 97, ill ones soft and of quality 75",
        {"sharpen": (0.6, 1.4), "quality": (92, 97)},
        {"blur": (0.008, 0.014), "quality": (75, 75)},
    ),
    "geometry": Shift(
        "healthy images are 1.28 times as wide as high and show the chest close by, ill ones 1.52 times and from afar",
        {"aspect": (1.24, 1.32), "zoom": (1.0, 1.08)},
        {"aspect": (1.48, 1.56), "zoom": (0.86, 0.94)},
    ),
    "exposure": Shift(
        "healthy images are dark, ill ones bright, by a gamma",
        {"gamma": (1.2, 1.6)},
        {"gamma": (0.65, 0.85)},
    ),
    "border": Shift(
        "ill images have a black frame",
        {},
        {"frame": (0.03, 0.07)},
    ),
    "marker": Shift(
        "ill images have a bright letter in the upper corner",
        {},
        {"marker": (0.08, 0.11)},
    ),
}


@dataclass(frozen=True)
class Look:
    """How the images of one patient are taken and kept; the defaults change nothing."""

    aspect: float | None = None  # width / height; None: as drawn
    zoom: float = 1.0  # of the chest in the picture
    gamma: float = 1.0  # exponent of the grey levels
    sharpen: float = 0.0
    blur: float = 0.0  # standard deviation, a share of the shorter side
    frame: float = 0.0  # width, a share of each side
    marker: float = 0.0  # height of the letter, a share of the picture's
    quality: float = USUAL_QUALITY  # of the JPEG

    def width(self, height: int, width: int) -> int:
        """Return the pixels of a row, for an image that would be drawn with (height, width)."""
        return width if self.aspect is None else round(self.aspect * height)

    def on(self, image: Image) -> Image:
        """Return the image, (height, width), with what is planted in its pixels."""
        for operation, value, neutral in (
            (operations.gamma, self.gamma, 1.0),
            (operations.sharpen, self.sharpen, 0.0),
            (operations.blur, self.blur, 0.0),
            (_with_letter, self.marker, 0.0),
            (operations.border, self.frame, 0.0),
        ):
            if value != neutral:
                image = operation(image, value)
        return image


@dataclass(frozen=True)
class Planting:
    """The looks of one patient: whose they are, by shift, and what they come to."""

    whose: Mapping[str, LookOf]
    look: Look


def read_shift(text: str) -> tuple[str, float]:
    """Read NAME or NAME=STRENGTH as (name, strength); `checked_shifts` knows which there are."""
    name, equals, strength = text.partition("=")
    try:
        return name, float(strength) if equals else DEFAULT_STRENGTH
    except ValueError as error:
        raise ConfigError(f"--shift {text}: wanted NAME or NAME=STRENGTH, with a strength from 0 to 1") from error


def checked_shifts(given: Mapping[str, float]) -> dict[str, float]:
    """Return {shift: strength}, or raise `ConfigError` for a name or a strength that cannot be planted."""
    for name, strength in given.items():
        if name not in SHIFTS:
            raise ConfigError(f"--shift {name}: no such shift; there are {', '.join(SHIFTS)}")
        if not 0 <= strength <= 1:
            raise ConfigError(f"--shift {name}={strength:g}: the strength must be from 0 to 1")
    return dict(given)


def plant(shifts: Mapping[str, float], *, ill: bool, development: bool, rng: np.random.Generator) -> Planting:
    """Draw the looks of a patient.

    Args:
        shifts: {shift: strength}.
        ill: The patient's class.
        development: Whether the images are of train and val, not of the test folder.
        rng: Source of the draws. Each shift makes equally many, whatever the others are.
    """
    whose: dict[str, LookOf] = {}
    values: dict[str, float] = {}
    for (name, shift), stream in zip(SHIFTS.items(), rng.spawn(len(SHIFTS)), strict=True):
        if name not in shifts:
            continue
        follows = stream.random() < (1 + (shifts[name] if development else 0.0)) / 2
        whose[name] = "ill" if ill == follows else "healthy"
        values |= shift.draw(whose[name], stream)
    return Planting(whose, Look(**values))


def _with_letter(image: Image, share: float) -> Image:
    """Write a bright L, `share` of the height high, into the upper right corner, where the patient's left is."""
    height, width = image.shape
    size, marked = share * height, image.copy()
    thickness = max(1, round(size / 6))
    scale = cv2.getFontScaleFromHeight(cv2.FONT_HERSHEY_SIMPLEX, round(size), thickness)
    cv2.putText(
        marked,
        "L",
        (round(0.9 * width - size / 2), round(0.06 * height + size)),
        cv2.FONT_HERSHEY_SIMPLEX,
        scale,
        235,
        thickness,
        cv2.LINE_AA,
    )
    return marked
