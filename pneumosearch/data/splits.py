"""The validation split: stratified by class, and no patient or identical image on both sides."""

import hashlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from pneumosearch._utils.atomic import replacing
from pneumosearch.data.manifest import ManifestPart
from pneumosearch.data.patients import published_patient
from pneumosearch.errors import DataError

Indices = npt.NDArray[np.int64]

#: One image in this many (about 10 %) goes to validation.
FOLDS: Final = 10

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
    from sklearn.model_selection import StratifiedGroupKFold

    labels = np.array([image.label for image in part.images])
    groups = leak_groups(part)
    for label in (0, 1):
        n_groups = len(set(groups[labels == label]))
        if n_groups < FOLDS:
            raise DataError(f"{part.folder}: class {label} has {n_groups} patients in train and val, too few to split")
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed).split(labels, labels, groups)
    train, validation = next(folds)
    return Holdout(np.sort(train), np.sort(validation))


def kept_holdout_split(part: ManifestPart, *, seed: int, folder: Path) -> Holdout:
    """Return `holdout_split`, made once, which takes seconds, and kept in `folder`; arguments and errors as there."""
    path = folder / f"{part.part}-{part.fingerprint}-holdout-{seed}{_patients_key(part)}-v{_VERSION}.npy"
    held_out = _read_mask(path, len(part.images))
    if held_out is not None:
        return Holdout(np.flatnonzero(~held_out), np.flatnonzero(held_out))
    split = holdout_split(part, seed=seed)
    with suppress(OSError), replacing(path) as temporary:  # no room: it is made again the next time
        np.save(temporary, np.isin(np.arange(len(part.images)), split.validation))
    return split


def _patients_key(part: ManifestPart) -> str:
    """Return what tells splits by other patients apart; nothing where the published names alone give the same."""
    patients = [image.patient for image in part.images]
    if patients == [published_patient(image.name) for image in part.images]:
        return ""
    return "-" + hashlib.blake2b("\n".join(patients).encode(), digest_size=4).hexdigest()


def _read_mask(path: Path, n_images: int) -> npt.NDArray[np.bool_] | None:
    """Return which images a file holds out; None where there is none, or not one of so many images."""
    try:
        mask: npt.NDArray[np.bool_] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return mask if mask.dtype == np.bool_ and mask.shape == (n_images,) and mask.any() and not mask.all() else None


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
