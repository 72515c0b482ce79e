"""The battery of crafted shifts: validation images as other hospitals, detectors and programs would have shown them.

Fixed changes in named families, none chosen by a test image. Judging by crafted shifts follows Efthymiadis et al.,
"Crafting distribution shifts for validation and training in single source domain generalization", WACV 2025.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final
from zlib import crc32

import numpy as np

from pneumosearch.config import Equalization
from pneumosearch.data import operations
from pneumosearch.data.batches import Labels
from pneumosearch.data.cache import equalized
from pneumosearch.data.decoding import PixelArray
from pneumosearch.data.families import Family
from pneumosearch.data.splits import Indices

#: Copies are at most this share of the number of training images, so that judging them costs under a third of an
#: epoch: a training step takes about three times as long as a prediction.
_COPIES_PER_TRAINING_IMAGE: Final = 0.75
_LEAST: Final = 32  # images of a class, where there are so many: fewer tell nothing
_MOST: Final = 128


#: The aspect of a chest changes by this factor, and by its inverse.
ASPECT: Final = 1.2


@dataclass(frozen=True)
class Copy:
    """One change of the battery."""

    family: Family
    words: str  # what changes, with its parameters
    change: Callable[[PixelArray], PixelArray]  # of (size, size) grey levels, to one of the same shape


def _noisy(image: PixelArray) -> PixelArray:
    return operations.add_noise(image, 0.03, crc32(image.tobytes()))  # the same noise for the same image


def _cropped(image: PixelArray) -> PixelArray:
    return operations.crop(image, 1 / 12, 1 / 12, 5 / 6, 5 / 6)


#: The changes by name, three of each family, the families together.
BATTERY: Final[Mapping[str, Copy]] = {
    "darker": Copy("exposure", "levels lowered by a fifth of the range", lambda i: operations.brightness(i, -0.2)),
    "brighter": Copy("exposure", "levels raised by a fifth of the range", lambda i: operations.brightness(i, 0.2)),
    "dimmed": Copy("exposure", "levels times 0.6", lambda i: operations.contrast(i, 0.6, about=0.0)),
    "flatter": Copy("tone", "distances from the mean times 0.6", lambda i: operations.contrast(i, 0.6)),
    "steeper": Copy("tone", "distances from the mean times 1.5", lambda i: operations.contrast(i, 1.5)),
    "midtones": Copy("tone", "midtones lighter: gamma 0.6", lambda i: operations.gamma(i, 0.6)),
    "cropped": Copy("geometry", "a twelfth cut off at each side", _cropped),
    "wider": Copy("geometry", "stretched to 1.2 times the width", lambda i: operations.change_aspect(i, ASPECT)),
    "taller": Copy("geometry", "stretched to 1.2 times the height", lambda i: operations.change_aspect(i, 1 / ASPECT)),
    "blurred": Copy("resolution", "blur of standard deviation 1 % of the side", lambda i: operations.blur(i, 0.01)),
    "coarser": Copy("resolution", "shrunk to a third and enlarged", lambda i: operations.lose_resolution(i, 3.0)),
    "sharpened": Copy("resolution", "unsharp mask of strength 1.5", lambda i: operations.sharpen(i, 1.5)),
    "compressed": Copy("compression", "JPEG of quality 30", lambda i: operations.jpeg(i, 30)),
    "blocky": Copy("compression", "JPEG of quality 12", lambda i: operations.jpeg(i, 12)),
    "grainy": Copy("compression", "noise of standard deviation 3 % of the range", _noisy),
    "black-frame": Copy("borders", "black frame of 6 % of the side", lambda i: operations.border(i, 0.06)),
    "white-frame": Copy("borders", "white frame of 3 % of the side", lambda i: operations.border(i, 0.03, level=255)),
    "marker": Copy("borders", "white patch in a corner, 12 % by 10 % of the side",
                   lambda i: operations.erase(i, 0.04, 0.04, 0.10, 0.12, level=255)),
}  # fmt: skip

#: {name of a copy: its family}.
FAMILY_OF_COPY: Final[Mapping[str, str]] = {name: copy.family for name, copy in BATTERY.items()}


def battery_copies(images: PixelArray, equalization: Equalization) -> PixelArray:
    """Return every image under every change of the battery.

    Args:
        images: (n, size, size) grey levels, before any equalization.
        equalization: What the network's images go through; the changes come before it, as on a detector.

    Returns:
        (copies * n, size, size), all images of one copy after the other, in the order of `BATTERY`.
    """
    out = np.empty((len(BATTERY) * len(images), *images.shape[1:]), dtype=np.uint8)
    for i, copy in enumerate(BATTERY.values()):
        for j, image in enumerate(images):
            out[i * len(images) + j] = equalized(copy.change(image), equalization)
    return out


def judged_images(labels: Labels, groups: Indices, indices: Indices, n_train: int, *, seed: int) -> Indices:
    """Choose the images that the battery judges by: as many of each class, and whole patients.

    Args:
        labels: (n_all,) of all images.
        groups: (n_all,) of patients, as `splits.leak_groups` numbers them.
        indices: Of the validation images.
        n_train: Number of training images, which limits what judging may cost.
        seed: Of the choice among patients.

    Returns:
        Some of `indices`, sorted; all of a class where it has few.
    """
    per_class = round(_COPIES_PER_TRAINING_IMAGE * n_train / len(BATTERY) / 2)
    per_class = min(max(per_class, _LEAST), _MOST)
    rng = np.random.default_rng(seed)
    chosen = [_whole_groups(indices[labels[indices] == label], groups, per_class, rng) for label in (0, 1)]
    return np.sort(np.concatenate(chosen))


def _whole_groups(indices: Indices, groups: Indices, n: int, rng: np.random.Generator) -> Indices:
    """Choose at most `n` of the indices: groups at random that fit, or a part of one where none does."""
    members = [indices[groups[indices] == group] for group in rng.permutation(np.unique(groups[indices]))]
    chosen: list[Indices] = []
    for group in members:
        if sum(map(len, chosen)) + len(group) <= n:
            chosen.append(group)
    return np.concatenate(chosen) if chosen else members[0][:n]
