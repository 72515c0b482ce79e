"""The part of the page that shows what training does to an image, on a phantom: the store has no images."""

from functools import cache
from typing import Any, Final

import cv2
import numpy as np

from pneumosearch.data.decoding import PixelArray
from pneumosearch.data.extremes import End, extremes, strongest
from pneumosearch.data.phantom_drawing import draw_phantom
from pneumosearch.records.trial import StudyRecord

_SIDE: Final = 128  # pixels
_SEED: Final = 232


def training_images(record: StudyRecord) -> list[dict[str, Any]]:
    """Return the pictures of each change that some trial's training made, at both ends of its strongest range."""
    configs = [trial.run.config for trial in record.trials if trial.run is not None]
    if not configs:
        return []
    ends = extremes(strongest(configs), *_phantoms())
    return [{"name": name, "ends": [_shown(end) for end in both]} for name, both in ends.items()]


@cache
def _phantoms() -> tuple[PixelArray, PixelArray]:
    rng = np.random.default_rng(_SEED)
    ill, healthy = (draw_phantom(rng, severity, height=_SIDE, width=_SIDE) for severity in (0.8, 0.0))
    return ill, healthy


def _shown(end: End) -> dict[str, Any]:
    return {"words": end.words, "png": cv2.imencode(".png", end.image)[1].tobytes()}
