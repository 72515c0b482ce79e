"""Augmentation of training images: changes drawn from a random generator, applied to grey images by OpenCV."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from pneumosearch.config import TrialConfig
from pneumosearch.data.decoding import PixelArray

_MID_GREY = 127.5


class Change(NamedTuple):
    """The change of one image; the default leaves it as it is."""

    zoom: tuple[float, float] = (1.0, 1.0)  # factors for height and width; below 1 enlarges
    vertical_flip: bool = False
    horizontal_flip: bool = False
    shift: tuple[float, float] = (0.0, 0.0)  # down and to the right, in shares of the side
    rotation: float = 0.0  # degrees, clockwise as the image is seen
    brightness: float = 0.0  # share of 255, added
    contrast: float = 1.0  # factor on distances from mid-grey


@dataclass(frozen=True)
class Augmentation:
    """Draws a change for each training image, as `ImageDataGenerator` does, from the ranges of a configuration."""

    config: TrialConfig

    def draw(self, rng: np.random.Generator, n: int) -> list[Change]:
        """Draw the changes of n images."""
        return list(self._changes(rng, n))

    def _changes(self, rng: np.random.Generator, n: int) -> Iterator[Change]:
        # Everything is drawn in this order, even where a range is 0, so that no field changes the draws of another.
        config = self.config
        zooms = rng.uniform(1 - config.zoom, 1 + config.zoom, size=(n, 2)).tolist()
        upside_down = rng.random(n) < 0.5
        mirrored = rng.random(n) < 0.5
        shifts = (config.shift * rng.uniform(-1, 1, size=(n, 2))).tolist()
        angles, brightnesses, contrasts = rng.uniform(-1, 1, size=(3, n)).tolist()
        for i in range(n):
            yield Change(
                zoom=(zooms[i][0], zooms[i][1]),
                vertical_flip=config.vertical_flip and bool(upside_down[i]),
                horizontal_flip=config.horizontal_flip and bool(mirrored[i]),
                shift=(shifts[i][0], shifts[i][1]),
                rotation=config.rotation * angles[i],
                brightness=config.brightness * brightnesses[i],
                contrast=1 + config.contrast * contrasts[i],
            )


def transform(image: PixelArray, change: Change) -> PixelArray:
    """Change an image of (height, width) about its centre: bilinear, edges filled with the nearest pixel.

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
    """Return the 2 x 3 matrix that maps each output pixel to the input point it shows, both as (x, y)."""
    zoom_y, zoom_x = change.zoom
    scale_x, scale_y = -zoom_x if change.horizontal_flip else zoom_x, -zoom_y if change.vertical_flip else zoom_y
    cosine, sine = math.cos(math.radians(change.rotation)), math.sin(math.radians(change.rotation))
    a, b = cosine * scale_x, sine * scale_x  # the inverse rotation, then the zoom
    c, d = -sine * scale_y, cosine * scale_y
    centre_x, centre_y = (width - 1) / 2, (height - 1) / 2
    down, right = change.shift[0] * height, change.shift[1] * width
    x = centre_x * (1 - a) - b * centre_y - a * right - b * down
    y = centre_y * (1 - d) - c * centre_x - c * right - d * down
    return np.array([[a, b, x], [c, d, y]])


def _grey_table(change: Change) -> PixelArray:
    levels = (np.arange(256) - _MID_GREY) * change.contrast + _MID_GREY + 255 * change.brightness
    return np.asarray(np.rint(np.clip(levels, 0, 255)), dtype=np.uint8)
