"""Makes the changes of training images with OpenCV: one warp, one table of grey levels, then the rest."""

import math
from functools import cache
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from pneumosearch.data import operations
from pneumosearch.data.augmentation import Change
from pneumosearch.data.decoding import PixelArray

_WHOLE: Final = (0.0, 0.0, 1.0, 1.0)
_SPARE: Final = 256  # pixels by which the field of noise is larger than an image
_NOISE_SEED: Final = 232


def transform(image: PixelArray, change: Change) -> PixelArray:
    """Change an image of (height, width): bilinear, edges filled with the nearest pixel.

    Returns:
        (height, width), rounded to whole grey levels after each step.
    """
    height, width = image.shape
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    matrix = _inverse_map(change, height, width)
    warped = cv2.warpAffine(image, matrix, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    if change.brightness or change.contrast != 1.0 or change.gamma != 1.0:
        table = operations.grey_table(exponent=change.gamma, factor=change.contrast, added=change.brightness)
        warped = cv2.LUT(warped, table)
    return _degraded(np.asarray(warped, dtype=np.uint8), change)


def _degraded(image: PixelArray, change: Change) -> PixelArray:
    """Change sharpness, resolution, noise and compression, then cover a patch."""
    if change.blur:
        image = operations.blur(image, change.blur)
    if change.sharpen:
        image = operations.sharpen(image, change.sharpen)
    if change.lost_resolution != 1.0:
        image = operations.lose_resolution(image, change.lost_resolution)
    if change.noise:
        image = operations.add_pattern(image, _noise(image.shape, change.noise_place), change.noise)
    if change.jpeg is not None:
        image = operations.jpeg(image, change.jpeg)
    if change.erased[2]:
        image = operations.erase(image, *change.erased, level=change.erased_level)
    return image


def mixed(image: PixelArray, other: PixelArray, share: float) -> PixelArray:
    """Return an image with `share` of another one, both (height, width)."""
    return np.asarray(cv2.addWeighted(image, 1 - share, other, share, 0.0), dtype=np.uint8)


def _noise(shape: tuple[int, ...], place: tuple[float, float]) -> operations.Pattern:
    top, left = (int(each * _SPARE) for each in place)
    return _noise_field(max(shape) + _SPARE)[top : top + shape[0], left : left + shape[1]]


@cache
def _noise_field(side: int) -> operations.Pattern:
    """Return standard Gaussian noise, (side, side), to cut patterns from: to draw each anew takes 20 times as long."""
    return np.random.default_rng(_NOISE_SEED).standard_normal((side, side), dtype=np.float32)


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
    matrix = np.array([[a, b, x], [c, d, y]])
    return matrix if change.crop == _WHOLE else _within(change.crop, matrix, height, width)


def _within(
    crop: tuple[float, float, float, float], matrix: npt.NDArray[np.float64], height: int, width: int
) -> npt.NDArray[np.float64]:
    """Let a map show the crop where it showed the whole input: from pixel edge to pixel edge."""
    top, left, shown_height, shown_width = crop
    scale = np.array([[shown_width], [shown_height]])
    inner = matrix * scale
    inner[:, 2] += (0.5 * (scale[:, 0] - 1)) + (left * width, top * height)
    return np.asarray(inner, dtype=np.float64)
