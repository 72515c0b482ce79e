"""Validation images as other detectors and settings would have shown them: what a search for robustness judges by.

The changes are fixed, and were chosen from what differs between hospitals and machines, not by any test image.
"""

from collections.abc import Callable
from typing import Final

import cv2
import numpy as np

from pneumosearch.config import Equalization
from pneumosearch.data.cache import equalize, equalized
from pneumosearch.data.decoding import PixelArray

_BRIGHTER: Final = 51.0  # grey levels: a fifth of the range
_CUT: Final = 0.08  # of the side, at each border
_BLUR: Final = 0.01  # standard deviation, of the side


def _brighter(image: PixelArray, levels: float) -> PixelArray:
    return np.asarray(np.clip(image + levels, 0, 255).round(), dtype=np.uint8)


def _steeper(image: PixelArray, factor: float) -> PixelArray:
    """Scale the distances from the image's mean, which stays."""
    mean = float(image.mean())
    return np.asarray(np.clip(mean + factor * (image - mean), 0, 255).round(), dtype=np.uint8)


def _cropped(image: PixelArray) -> PixelArray:
    side = image.shape[0]
    cut = max(1, round(_CUT * side))
    inner = image[cut : side - cut, cut : side - cut]
    return np.asarray(cv2.resize(inner, (side, side), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)


def _blurred(image: PixelArray) -> PixelArray:
    return np.asarray(cv2.GaussianBlur(image, (0, 0), _BLUR * image.shape[0]), dtype=np.uint8)


#: Each makes of an image, (size, size) grey levels, one of the same shape.
CHANGES: Final[dict[str, Callable[[PixelArray], PixelArray]]] = {
    "darker": lambda image: _brighter(image, -_BRIGHTER),
    "brighter": lambda image: _brighter(image, _BRIGHTER),
    "flatter": lambda image: _steeper(image, 0.7),
    "steeper": lambda image: _steeper(image, 1.3),
    "cropped": _cropped,
    "blurred": _blurred,
    "equalized": equalize,
}


def stressed(images: PixelArray, *, equalization: Equalization) -> PixelArray:
    """Return every image under every change.

    Args:
        images: (n, size, size) grey levels, before any equalisation.
        equalization: How the contrast of what the network is shown is equalised; the changes come before that, as they
            would on a detector.

    Returns:
        (changes * n, size, size), all images of one change after the other, in the order of `CHANGES`.
    """
    out = np.empty((len(CHANGES) * len(images), *images.shape[1:]), dtype=np.uint8)
    for i, change in enumerate(CHANGES.values()):
        for j, image in enumerate(images):
            out[i * len(images) + j] = equalized(change(image), equalization)
    return out
