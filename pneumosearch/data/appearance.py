"""How training images look on the whole, and which other images look so different that their answer means little.

Each image is shrunk to 16 x 16 and compared with the mean of the training images by correlation, which neither
brightness nor contrast changes. Measured on the published training images, summarised over one half of the patients:
10 in 2,600 images of the other half get a remark (0.4 %), all negatives are found, and of pictures that are no X-rays
noise, text, gradients and checkers are all marked, crops of photographs to 98 %, drawn shapes to 92 %, smooth random
fields to 78 to 96 %, bright ellipses on black, such as a CT of a head, to 69 %. An X-ray that is mirrored or upside
down is not noticed; one turned by 90 degrees always is.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from pneumosearch.data.decoding import PixelArray
from pneumosearch.data.families import Family
from pneumosearch.records.dataset import Appearance, Range, Span

Floats = npt.NDArray[np.float64]

#: Remark on an image that correlates too little with the mean training image.
NO_XRAY: Final = "probably no chest X-ray, or a turned or cropped one"
#: Remark on an image whose negative resembles the mean training image.
INVERTED: Final = "looks like a negative (255 - x) of the training images"

_SIDE: Final = 16  # of the small images, pixels
_TAIL: Final = 0.005  # share of the training images beyond each end of a range
_LIKENESS_MARGIN: Final = 0.05  # below the range of correlations
_RANGE_MARGIN: Final = 0.25  # beyond a range of grey levels, in its widths
_SMALLER, _LARGER = 4.0, 100.0  # beyond the range of pixels; a larger image is shrunk, and little is lost
_ASPECT_FACTOR: Final = 1.5  # beyond the range of aspect ratios, where the spans do not have them
_RATIOS: Final = frozenset({"sharpness", "aspect ratio"})  # features whose margin is a factor
_LEAST: Final = 1e-3  # sharpness of a flat image, of which a ratio can be taken


class Plain(NamedTuple):
    """Three of the audit's features, which need nothing but the grey levels of a square image."""

    brightness: float  # mean grey level
    contrast: float  # standard deviation of the grey levels
    sharpness: float  # standard deviation of the Laplacian


def small(image: PixelArray) -> PixelArray:
    """Shrink (height, width) grey levels to the 16 x 16 by which images are compared."""
    return np.asarray(cv2.resize(image, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA), dtype=np.uint8)


def plain(image: PixelArray) -> Plain:
    """Return the plain features of (side, side) grey levels; the sharpness depends on the side."""
    return Plain(float(image.mean()), float(image.std()), float(cv2.Laplacian(image, cv2.CV_32F).std()))


def appearance_of(images: Sequence[PixelArray], sizes: Sequence[tuple[int, int]]) -> Appearance:
    """Summarise training images.

    Args:
        images: As `small` makes them, before any equalization; at least one.
        sizes: (width, height) of files, of all or of some.
    """
    levels = np.array(images, dtype=np.float64)
    directions = np.array([_direction(image) for image in levels])
    mean = directions.mean(axis=0)
    return Appearance(
        mean=tuple(_as_bytes(mean)),
        likeness=float(np.quantile(directions @ _direction(mean), _TAIL)),
        brightness=usual_range(levels.mean(axis=(1, 2))),
        contrast=usual_range(levels.std(axis=(1, 2))),
        pixels=usual_range([width * height for width, height in sizes]) if sizes else None,
        aspect_ratio=usual_range([width / height for width, height in sizes]) if sizes else None,
    )


def differences(
    image: PixelArray, size: tuple[int, int], appearance: Appearance, look: Plain | None = None
) -> tuple[str, ...]:
    """Return in what an image lies far outside of what the training images look like, in words; nothing for most.

    Args:
        image: As `small` makes it.
        size: (width, height) of its file.
        appearance: Of the training images.
        look: Brightness, contrast and sharpness of the image, as `spans.measured` returns them, for an appearance that
            has `spans`. They then decide instead of the brightness and the contrast of the small image.
    """
    likeness = float(_direction(image) @ _direction(np.array(appearance.mean)))
    least = appearance.likeness - _LIKENESS_MARGIN
    found = [INVERTED if -likeness >= least else NO_XRAY] if likeness < least else []
    if appearance.spans and look:
        return (*found, *_odd_size(size, appearance), *_outside(look, size, appearance))
    for name, value, usual in (
        ("brightness", float(image.mean()), appearance.brightness),
        ("contrast", float(image.std()), appearance.contrast),
    ):
        margin = _RANGE_MARGIN * (usual[1] - usual[0])
        if not usual[0] - margin <= value <= usual[1] + margin:
            found.append(f"{name} {value:.0f}, training images {usual[0]:.0f} to {usual[1]:.0f}")
    return (*found, *_odd_size(size, appearance))


def spanned(appearance: Appearance | None) -> list[tuple[Family, str, Span]]:
    """Return family, feature and what the images span in it, for all that is known; nothing in older records."""
    spans = appearance.spans if appearance else None
    if spans is None:
        return []
    known: list[tuple[Family, str, Span]] = [
        ("exposure", "brightness", spans.brightness),
        ("tone", "contrast", spans.contrast),
        ("resolution", "sharpness", spans.sharpness),
    ]
    return known + ([("geometry", "aspect ratio", spans.aspect_ratio)] if spans.aspect_ratio else [])


def _outside(look: Plain, size: tuple[int, int], appearance: Appearance) -> list[str]:
    """Return a remark for each family whose feature neither the training images nor the battery's copies had."""
    values = {**look._asdict(), "aspect ratio": size[0] / size[1]}
    found = []
    for family, feature, span in spanned(appearance):
        if not _within(values[feature], span, ratio=feature in _RATIOS):
            told = _written(span.training) + (f", copies that judged {_written(span.copies)}" if span.copies else "")
            found.append(f"{family}: {feature} {values[feature]:.3g}, training images {told}")
    return found


def _written(span: Range) -> str:
    return f"{span[0]:.3g} to {span[1]:.3g}"


def _within(value: float, span: Span, *, ratio: bool) -> bool:
    """Tell whether a value lies in the range of the training images, with a margin, or in that of the copies."""
    low, high = span.training
    if ratio:
        factor = (high / max(low, _LEAST)) ** _RANGE_MARGIN
        low, high = low / factor, high * factor
    else:
        margin = _RANGE_MARGIN * (high - low)
        low, high = low - margin, high + margin
    copies = span.copies or span.training
    return min(low, copies[0]) <= value <= max(high, copies[1])


def _odd_size(size: tuple[int, int], appearance: Appearance) -> list[str]:
    width, height = size
    found = []
    if _beyond(width * height, appearance.pixels, _SMALLER, _LARGER):
        found.append(f"{width} x {height} pixels, far from the size of the training images")
    known = appearance.spans is not None and appearance.spans.aspect_ratio is not None
    if not known and _beyond(width / height, appearance.aspect_ratio, _ASPECT_FACTOR, _ASPECT_FACTOR):
        found.append(f"{width} x {height} pixels, far from the aspect ratio of the training images")
    return found


def _beyond(value: float, usual: Range | None, below: float, above: float) -> bool:
    return usual is not None and not usual[0] / below <= value <= usual[1] * above


def _direction(image: npt.NDArray[np.generic]) -> Floats:
    """Return the image as a vector of mean 0 and length 1: products are correlations. A flat image gives zeros."""
    vector = np.asarray(image, dtype=np.float64).ravel()
    vector = vector - vector.mean()
    return np.asarray(vector / max(float(np.linalg.norm(vector)), 1e-9), dtype=np.float64)


def _as_bytes(mean: Floats) -> list[int]:
    low, high = float(mean.min()), float(mean.max())
    return [round(255 * (value - low) / max(high - low, 1e-9)) for value in mean.tolist()]


def usual_range(values: npt.ArrayLike) -> Range:
    """Return between which two the values lie but half a percent at each end."""
    low, high = np.quantile(np.asarray(values, dtype=np.float64), (_TAIL, 1 - _TAIL))
    return float(low), float(high)
