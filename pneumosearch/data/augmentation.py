"""Augmentation of training images: what is drawn for each image from a random generator."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np

from pneumosearch.config import TrialConfig

_ERASED_ASPECT: Final = 3.0  # most of an erased patch's height beside its width, and the reverse


class Change(NamedTuple):
    """The change of one image; the default leaves it as it is. `transform.transform` makes it, in this order."""

    zoom: tuple[float, float] = (1.0, 1.0)  # factors for height and width; below 1 enlarges
    vertical_flip: bool = False
    horizontal_flip: bool = False
    shift: tuple[float, float] = (0.0, 0.0)  # down and to the right, in shares of the side
    rotation: float = 0.0  # degrees, clockwise as the image is seen
    brightness: float = 0.0  # share of 255, added
    contrast: float = 1.0  # factor on distances from mid-grey
    crop: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)  # top, left, height, width, in shares of the sides
    gamma: float = 1.0  # exponent
    blur: float = 0.0  # standard deviation, share of the side
    sharpen: float = 0.0  # strength of the unsharp mask
    lost_resolution: float = 1.0  # factor by which the sides shrink before they are enlarged again
    noise: float = 0.0  # standard deviation, share of 255
    noise_place: tuple[float, float] = (0.0, 0.0)  # where it is cut out of a larger field of noise, in [0, 1)
    jpeg: int | None = None  # quality
    erased: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)  # top, left, height, width of a patch, in shares
    erased_level: int = 0  # its grey level
    mix: float = 0.0  # share of the batch's next image and of its label, in [0, 1/2]


Columns = dict[str, list[Any]]  # values of n images, by field of `Change`


@dataclass(frozen=True)
class Augmentation:
    """Draws a change for each training image from the ranges of a configuration."""

    config: TrialConfig

    def draw(self, rng: np.random.Generator, n: int) -> list[Change]:
        """Draw the changes of n images; what is drawn for one field does not depend on the other fields.

        Args:
            rng: The first fields draw from it, the others from children of it, one for each kind of change.
            n: Number of images.
        """
        columns = _first_changes(self.config, rng, n)
        for drawn, own in zip(_LATER_CHANGES, rng.spawn(len(_LATER_CHANGES)), strict=True):
            columns |= drawn(self.config, own, n)
        return [Change(**dict(zip(columns, row, strict=True))) for row in zip(*columns.values(), strict=True)]


def _first_changes(config: TrialConfig, rng: np.random.Generator, n: int) -> Columns:
    # All are drawn in this order, even where a range is 0, as stores have trainings that must repeat.
    zooms = rng.uniform(1 - config.zoom, 1 + config.zoom, size=(n, 2))
    upside_down = rng.random(n) < 0.5
    mirrored = rng.random(n) < 0.5
    shifts = config.shift * rng.uniform(-1, 1, size=(n, 2))
    angles, brightnesses, contrasts = rng.uniform(-1, 1, size=(3, n))
    return {
        "zoom": _tuples(zooms),
        "vertical_flip": (upside_down & config.vertical_flip).tolist(),
        "horizontal_flip": (mirrored & config.horizontal_flip).tolist(),
        "shift": _tuples(shifts),
        "rotation": (config.rotation * angles).tolist(),
        "brightness": (config.brightness * brightnesses).tolist(),
        "contrast": (1 + config.contrast * contrasts).tolist(),
    }


def _crops(config: TrialConfig, rng: np.random.Generator, n: int) -> Columns:
    """Draw area and aspect, then the place within the image; a crop that would not fit keeps its aspect and shrinks.

    Source:
        Szegedy et al., Going Deeper with Convolutions, CVPR 2015, section 6.
    """
    if config.crop_area == 1.0 and config.crop_aspect == 1.0:
        return {}
    area, turn, down, right = rng.uniform(size=(4, n))
    side = np.sqrt(1 - (1 - config.crop_area) * area)
    stretch = np.sqrt(config.crop_aspect ** (2 * turn - 1))
    fit = np.maximum(1.0, side * np.maximum(stretch, 1 / stretch))
    height, width = (np.minimum(each / fit, 1.0) for each in (side / stretch, side * stretch))
    return {"crop": _tuples(np.stack([down * (1 - height), right * (1 - width), height, width], axis=1))}


def _gammas(config: TrialConfig, rng: np.random.Generator, n: int) -> Columns:
    return {"gamma": ((1 + config.gamma) ** rng.uniform(-1, 1, size=n)).tolist()} if config.gamma else {}


def _sharpness(config: TrialConfig, rng: np.random.Generator, n: int) -> Columns:
    if not (config.blur or config.sharpen):
        return {}
    step = rng.uniform(-1, 1, size=n)
    return {
        "blur": (config.blur * np.maximum(-step, 0)).tolist(),
        "sharpen": (config.sharpen * np.maximum(step, 0)).tolist(),
    }


def _resolutions(config: TrialConfig, rng: np.random.Generator, n: int) -> Columns:
    kept = 1 - config.resolution_loss * rng.uniform(size=n)
    return {"lost_resolution": (1 / kept).tolist()} if config.resolution_loss else {}


def _noises(config: TrialConfig, rng: np.random.Generator, n: int) -> Columns:
    if not config.noise:
        return {}
    return {"noise": (config.noise * rng.uniform(size=n)).tolist(), "noise_place": _tuples(rng.uniform(size=(n, 2)))}


def _qualities(config: TrialConfig, rng: np.random.Generator, n: int) -> Columns:
    lost = np.rint(config.jpeg_loss * rng.uniform(size=n)).astype(int)
    return {"jpeg": (100 - lost).tolist()} if config.jpeg_loss else {}


def _patches(config: TrialConfig, rng: np.random.Generator, n: int) -> Columns:
    """Draw area, aspect, centre and grey level; a patch may reach beyond the image.

    Source:
        Zhong et al., Random Erasing Data Augmentation, AAAI 2020.
    """
    if not config.erase:
        return {}
    area, turn, down, right, level = rng.uniform(size=(5, n))
    side, stretch = np.sqrt(config.erase * area), np.sqrt(_ERASED_ASPECT ** (2 * turn - 1))
    height, width = side * stretch, side / stretch
    return {
        "erased": _tuples(np.stack([down - height / 2, right - width / 2, height, width], axis=1)),
        "erased_level": np.rint(255 * level).astype(int).tolist(),
    }


def _mixtures(config: TrialConfig, rng: np.random.Generator, n: int) -> Columns:
    """Draw the share of the other image; the smaller share is the other's, so that an image keeps its own label.

    Source:
        Zhang et al., mixup: Beyond Empirical Risk Minimization, ICLR 2018.
    """
    if not config.mixup:
        return {}
    share = rng.beta(config.mixup, config.mixup, size=n)
    return {"mix": np.minimum(share, 1 - share).tolist()}


#: Each has a generator of its own, the child of this number: new ones come last.
_LATER_CHANGES: Final[tuple[Callable[[TrialConfig, np.random.Generator, int], Columns], ...]] = (
    _crops,
    _gammas,
    _sharpness,
    _resolutions,
    _noises,
    _qualities,
    _patches,
    _mixtures,
)


def _tuples(rows: Any) -> list[tuple[float, ...]]:
    return [tuple(row) for row in rows.tolist()]
