"""Validation splits: stratified by class, and no patient or identical image on both sides."""

import hashlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from pneumosearch._utils.atomic import replacing
from pneumosearch.config import MAX_FOLDS, Fold
from pneumosearch.data.manifest import ManifestPart
from pneumosearch.data.patients import published_patient
from pneumosearch.errors import DataError

Indices = npt.NDArray[np.int64]

#: One image in this many (about 10 %) goes to validation in the hold-out split.
FOLDS: Final = MAX_FOLDS

_VERSION: Final = 1  # of what is kept; raise it when the same images would be split otherwise


@dataclass(frozen=True)
class Holdout:
    """Positions in the development part, both sorted."""

    train: Indices
    validation: Indices


def holdout_split(part: ManifestPart, *, seed: int) -> Holdout:
    """Take about a tenth of the development images for validation, by patient and with the classes in proportion.

    Args:
        part: The development images (train and val).
        seed: Of the shuffling; one seed gives one split.

    Raises:
        DataError: A class has too few patients to be on both sides.
    """
    return _divided(fold_numbers(part, FOLDS, seed=seed) == 0)


def fold_numbers(part: ManifestPart, n_folds: int, *, seed: int) -> Indices:
    """Divide the development images into folds of about equal size, by patient and with the classes in proportion.

    Args:
        part: The development images (train and val).
        n_folds: At least 2.
        seed: Of the shuffling; one seed gives one division.

    Returns:
        (n,) the fold of each image, from 0.

    Raises:
        DataError: A class has fewer patients than there are folds.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    labels = np.array([image.label for image in part.images])
    groups = leak_groups(part)
    for label in (0, 1):
        n_groups = len(set(groups[labels == label]))
        if n_groups < n_folds:
            raise DataError(f"{part.folder}: class {label} has {n_groups} patients in train and val, too few to split")
    folds = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed).split(labels, labels, groups)
    numbers = np.empty(len(labels), dtype=np.int64)
    for number, (_, judged) in enumerate(folds):
        numbers[judged] = number
    return numbers


def kept_holdout_split(part: ManifestPart, *, seed: int, folder: Path) -> Holdout:
    """Return `holdout_split`, made once, which takes seconds, and kept in `folder`; arguments and errors as there."""

    def mask() -> npt.NDArray[np.bool_]:
        return np.isin(np.arange(len(part.images)), holdout_split(part, seed=seed).validation)

    def is_whole(mask: npt.NDArray[Any]) -> bool:
        return mask.dtype == np.bool_ and bool(mask.any()) and not mask.all()

    return _divided(_kept(_path(part, folder, f"holdout-{seed}"), len(part.images), mask, is_whole))


def kept_fold_split(part: ManifestPart, fold: Fold, *, seed: int, folder: Path) -> Holdout:
    """Return the split in which `fold` judges; `fold_numbers`, made once, is kept in `folder`. Errors as there."""

    def numbers() -> npt.NDArray[np.uint8]:
        return fold_numbers(part, fold.of, seed=seed).astype(np.uint8)

    def is_whole(numbers: npt.NDArray[Any]) -> bool:
        return numbers.dtype == np.uint8 and set(np.unique(numbers)) == set(range(fold.of))

    path = _path(part, folder, f"folds-{fold.of}-{seed}")
    return _divided(_kept(path, len(part.images), numbers, is_whole) == fold.number)


def _divided(judged: npt.NDArray[np.bool_]) -> Holdout:
    return Holdout(np.flatnonzero(~judged), np.flatnonzero(judged))


def _path(part: ManifestPart, folder: Path, name: str) -> Path:
    return folder / f"{part.part}-{part.fingerprint}-{name}{_patients_key(part)}-v{_VERSION}.npy"


def _kept(
    path: Path, n_images: int, make: Callable[[], npt.NDArray[Any]], is_whole: Callable[[npt.NDArray[Any]], bool]
) -> npt.NDArray[Any]:
    """Return the array in a file; where it is missing or not of so many images, make it and write it."""
    with suppress(OSError, ValueError, EOFError):
        kept: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
        if kept.shape == (n_images,) and is_whole(kept):
            return kept
    made = make()
    with suppress(OSError), replacing(path) as temporary:  # no room: it is made again the next time
        np.save(temporary, made)
    return made


def _patients_key(part: ManifestPart) -> str:
    """Return what tells splits by other patients apart; nothing where the published names alone give the same."""
    patients = [image.patient for image in part.images]
    if patients == [published_patient(image.name) for image in part.images]:
        return ""
    return "-" + hashlib.blake2b("\n".join(patients).encode(), digest_size=4).hexdigest()


def brightness_split(part: ManifestPart, brightness: npt.NDArray[np.float64]) -> Holdout:
    """Hold out the patients with the darkest and the brightest images, about a twentieth of each class at each end.

    What a network makes of exposures that it was never shown is seen there before the test folder is opened.

    Args:
        part: The development images (train and val).
        brightness: (n,) of each image. That of a group is the mean of its images, its class that of most of them.

    Raises:
        DataError: A class has too few patients to be on both sides.
    """
    labels = np.array([image.label for image in part.images])
    _, groups, sizes = np.unique(leak_groups(part), return_inverse=True, return_counts=True)
    levels = np.bincount(groups, weights=brightness) / sizes
    ill = np.bincount(groups, weights=labels) / sizes > 0.5
    held_out = np.zeros(len(sizes), dtype=bool)
    for label in (0, 1):
        ranked = np.flatnonzero(ill == bool(label))
        ranked = ranked[np.argsort(levels[ranked], kind="stable")]
        if len(ranked) < FOLDS:
            raise DataError(
                f"{part.folder}: class {label} has {len(ranked)} patients in train and val, too few to split"
            )
        share = sizes[ranked].sum() / (2 * FOLDS)
        for end in (ranked, ranked[::-1]):
            before = np.cumsum(sizes[end]) - sizes[end]
            held_out[end[(before < share) & (np.arange(len(end)) < len(end) // 3)]] = True
    return Holdout(np.flatnonzero(~held_out[groups]), np.flatnonzero(held_out[groups]))


def leak_groups(part: ManifestPart) -> Indices:
    """Number the groups of images that must stay together: one patient's, and those with identical files."""
    first_of: dict[str, int] = {}
    parent = list(range(len(part.images)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for i, (image, digest) in enumerate(zip(part.images, part.digests, strict=True)):
        for key in (f"patient {image.patient}", f"content {digest}"):
            parent[root(i)] = root(first_of.setdefault(key, i))
    return np.array([root(i) for i in range(len(parent))], dtype=np.int64)
