"""What is done to a training image: drawn from a generator, applied by OpenCV to the grey image."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Self

import cv2
import numpy as np
import numpy.typing as npt

from pneumosearch.config import TrialConfig
from pneumosearch.data.cache import PixelArray

_MID_GREY = 127.5


class Change(NamedTuple):
    """What is done to one image; the default is nothing."""

    zoom: tuple[float, float] = (1.0, 1.0)  # for height and width; under 1 enlarges
    vertical_flip: bool = False
    horizontal_flip: bool = False
    shift: tuple[float, float] = (0.0, 0.0)  # down and to the right, in shares of the side
    rotation: float = 0.0  # degrees, clockwise as the image is seen
    brightness: float = 0.0  # share of 255 that is added
    contrast: float = 1.0  # factor on distances from mid-grey


@dataclass(frozen=True)
class Augmentation:
    """The ranges of what is drawn for each training image, as `ImageDataGenerator` has them."""

    zoom: float  # factors come from [1 - zoom, 1 + zoom], independently for height and width
    vertical_flip: bool  # with probability 1/2
    horizontal_flip: bool = False  # with probability 1/2
    shift: float = 0.0  # shares of the side come from [-shift, shift], independently for the two axes
    rotation: float = 0.0  # degrees come from [-rotation, rotation]
    brightness: float = 0.0  # shares of 255 come from [-brightness, brightness]
    contrast: float = 0.0  # factors come from [1 - contrast, 1 + contrast]

    @classmethod
    def of(cls, config: TrialConfig) -> Self:
        """Return the augmentation of a configuration."""
        return cls(
            config.zoom,
            config.vertical_flip,
            config.horizontal_flip,
            config.shift,
            config.rotation,
            config.brightness,
            config.contrast,
        )

    def draw(self, rng: np.random.Generator, n: int) -> list[Change]:
        """Draw what is done to each of n images."""
        return list(self._changes(rng, n))

    def _changes(self, rng: np.random.Generator, n: int) -> Iterator[Change]:
        # All is drawn, in this order, whatever is used: so a range of 0 changes no other draw.
        zooms = rng.uniform(1 - self.zoom, 1 + self.zoom, size=(n, 2)).tolist()
        upside_down = rng.random(n) < 0.5
        mirrored = rng.random(n) < 0.5
        shifts = (self.shift * rng.uniform(-1, 1, size=(n, 2))).tolist()
        angles, brightnesses, contrasts = rng.uniform(-1, 1, size=(3, n)).tolist()
        for i in range(n):
            yield Change(
                zoom=(zooms[i][0], zooms[i][1]),
                vertical_flip=self.vertical_flip and bool(upside_down[i]),
                horizontal_flip=self.horizontal_flip and bool(mirrored[i]),
                shift=(shifts[i][0], shifts[i][1]),
                rotation=self.rotation * angles[i],
                brightness=self.brightness * brightnesses[i],
                contrast=1 + self.contrast * contrasts[i],
            )


def transform(image: PixelArray, change: Change) -> PixelArray:
    """Apply `change` to (height, width) about the centre; bilinear, edges filled with the nearest pixel.

    Returns:
        (height, width), rounded to whole grey levels.
    """
    height, width = image.shape
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    matrix = _inverse_map(change, height, width)
    warped = cv2.warpAffine(image, matrix, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    if change.brightness or change.contrast != 1.0:
        warped = cv2.LUT(warped, _grey_table(change))
    return np.asarray(warped, dtype=np.uint8)


def _inverse_map(change: Change, height: int, width: int) -> npt.NDArray[np.float64]:
    """Return the 2 x 3 matrix that tells, as (x, y), which input point each output pixel shows."""
    zoom_y, zoom_x = change.zoom
    scale_x, scale_y = -zoom_x if change.horizontal_flip else zoom_x, -zoom_y if change.vertical_flip else zoom_y
    cosine, sine = math.cos(math.radians(change.rotation)), math.sin(math.radians(change.rotation))
    a, b = cosine * scale_x, sine * scale_x  # the inverse of a turn, then the zoom
    c, d = -sine * scale_y, cosine * scale_y
    centre_x, centre_y = (width - 1) / 2, (height - 1) / 2
    down, right = change.shift[0] * height, change.shift[1] * width
    x = centre_x * (1 - a) - b * centre_y - a * right - b * down
    y = centre_y * (1 - d) - c * centre_x - c * right - d * down
    return np.array([[a, b, x], [c, d, y]])


def _grey_table(change: Change) -> PixelArray:
    levels = (np.arange(256) - _MID_GREY) * change.contrast + _MID_GREY + 255 * change.brightness
    return np.asarray(np.rint(np.clip(levels, 0, 255)), dtype=np.uint8)
