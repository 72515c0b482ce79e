"""What training images, and the battery's copies of them, span in plain features: exposure, tone, sharpness, aspect.

A network that the battery judged was looked at under darker, flatter, coarser or stretched images than those it was
trained on. An image beyond both is one of which nothing is known; `appearance.differences` says so.
"""

from collections.abc import Iterable
from typing import Final

import numpy as np
import numpy.typing as npt

from pneumosearch.data.appearance import Plain, plain, usual_range
from pneumosearch.data.battery import ASPECT, BATTERY
from pneumosearch.data.cache import shrink
from pneumosearch.data.decoding import PixelArray
from pneumosearch.records.dataset import Interpolation, Range, Span, Spans

_MOST: Final = 1024  # images that are measured, or a few more: a tenth of a second


def spans_of(images: PixelArray, aspect_ratio: Range | None, interpolation: Interpolation) -> Spans:
    """Measure training images.

    Args:
        images: (n, side, side), before any equalization; of many, some are measured.
        aspect_ratio: Of their files, width / height; None where it is unknown.
        interpolation: By which they were shrunk.
    """
    some = images[:: max(1, len(images) // _MOST)]
    return summarised(map(plain, some), aspect_ratio, images.shape[1], interpolation)


def summarised(features: Iterable[Plain], aspect_ratio: Range | None, side: int, interpolation: Interpolation) -> Spans:
    """Summarise features of training images that are measured already; the other arguments as of `spans_of`."""
    brightness, contrast, sharpness = np.array(list(features), dtype=np.float64).T
    one_aspect = aspect_ratio is not None and aspect_ratio[0] == aspect_ratio[1]
    return Spans(
        side=side,
        interpolation=interpolation,
        brightness=Span(training=usual_range(brightness)),
        contrast=Span(training=usual_range(contrast)),
        sharpness=Span(training=usual_range(sharpness)),
        aspect_ratio=Span(training=aspect_ratio) if aspect_ratio and not one_aspect else None,
    )


def with_copies(spans: Spans, copies: PixelArray) -> Spans:
    """Add what the copies of the battery span, by which a network was judged.

    Args:
        spans: Of the training images.
        copies: (copies * n, size, size), as `battery.battery_copies` returns them without equalization.
    """
    shrunk = copies if copies.shape[1] == spans.side else [shrink(image, spans.side, "area") for image in copies]
    values = np.array([plain(image) for image in shrunk], dtype=np.float64).reshape(len(BATTERY), -1, 3)
    found = {
        name: getattr(spans, name).model_copy(update={"copies": _together(values[:, :, k])})
        for k, name in enumerate(Plain._fields)
    }
    if (aspect := spans.aspect_ratio) is not None:
        low, high = aspect.training
        found["aspect_ratio"] = aspect.model_copy(update={"copies": (low / ASPECT, high * ASPECT)})
    return spans.model_copy(update=found)


def _together(values: npt.NDArray[np.float64]) -> Range:
    """Return from where to where the ranges of the copies, (copies, n), go: each copy judged as a whole."""
    ranges = [usual_range(of_copy) for of_copy in values]
    return min(low for low, _ in ranges), max(high for _, high in ranges)


def measured(image: PixelArray, spans: Spans) -> Plain:
    """Measure decoded grey levels, (height, width), as the training images of `spans` were."""
    return plain(shrink(image, spans.side, spans.interpolation))
