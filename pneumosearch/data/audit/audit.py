"""What is wrong with a data folder: broken and odd files, duplicates, leaks, imbalance, shift.

An audit reads every image, those of the sealed test folder too. No network sees them, and nothing that a search uses is
fitted or chosen by them, so that an audit is no opening of the seal. Its logistic regressions on plain features are
reported and thrown away.
"""

import math
from collections.abc import Sequence
from itertools import combinations
from typing import Final, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from pneumosearch.data.appearance import appearance_of, differences
from pneumosearch.data.audit.duplicates import N_BITS, THRESHOLD, HashPair, identical_groups, near_pairs, nearest_others
from pneumosearch.data.audit.features import MEASURED_SIZE, Reading, read_all
from pneumosearch.data.audit.shift import Histogram, ShiftComparison, compare_all, histograms
from pneumosearch.data.cache import Progress
from pneumosearch.data.manifest import SPLITS, ImageFile, Manifest, ManifestPart
from pneumosearch.data.names import storable_path
from pneumosearch.data.protocols import SPLIT_SEED
from pneumosearch.data.spans import summarised
from pneumosearch.data.splits import holdout_split
from pneumosearch.errors import DataError
from pneumosearch.intervals import wilson_interval
from pneumosearch.records.classes import PUBLISHED_CLASSES, Classes

#: What every form of the audit says of the seal.
SEAL_NOTE: Final = (
    "This audit read the images of the test folder. It trained nothing that a search uses and chose nothing by them, "
    "and no network saw them: it does not count as an opening of the test set."
)

#: What is said wherever one patient is found in several splits.
NUMBERING_NOTE: Final = (
    "Patients are identified by file names. Whether each folder numbers them anew is not published, so that "
    "one name in two splits need not be one patient."
)

_COLOURED: Final = 0.001  # share of pixels with differing channels from which an image counts as coloured
_ODD_FACTOR: Final = 1.5  # from the median, and
_ODD_DEVIATIONS: Final = 5.0  # robust deviations of the logarithm
_N_NEAREST: Final = 6  # pairs beyond the threshold that are listed


class _Finding(BaseModel):
    model_config = ConfigDict(frozen=True, allow_inf_nan=False)


class UnreadableImage(_Finding):
    """An image that cannot be decoded, and why."""

    name: str
    reason: str


class OddImage(_Finding):
    """An image whose size or aspect ratio is far from the rest."""

    name: str
    width: int
    height: int
    odd: Literal["aspect ratio", "size"]


class ColouredImage(_Finding):
    """An image whose channels differ, in this share of its pixels."""

    name: str
    share: float


class IdenticalFiles(_Finding):
    """Files with the same bytes."""

    names: list[str]
    several_splits: bool
    several_patients: bool
    several_classes: bool


class NearPair(_Finding):
    """Two images, not the same file, whose perceptual hashes differ in `distance` bits."""

    first: str
    second: str
    distance: int
    one_patient: bool
    one_class: bool
    one_split: bool
    straddles: bool  # the validation split: one image trains, the other judges


class NearDuplicates(_Finding):
    """The pairs of images that count as one film, and the next ones that do not."""

    threshold: int
    bits: int
    pairs: list[NearPair]
    beyond: list[NearPair]  # the nearest pairs of different patients that are not counted
    other_patients_in_development: int  # pairs of different patients in train and val
    straddling: int | None  # pairs on both sides of the validation split; None where it cannot be made


class PatientOverlap(_Finding):
    """Patients whose name occurs in two splits."""

    splits: tuple[str, str]
    patients: list[str]
    n_images: int  # of these patients in the two splits


class SplitBalance(_Finding):
    """The classes of one split, with the 95 % Wilson interval of the share of the positive class."""

    split: str
    normal: int | None  # of the published classes; None where the classes are a user's own
    pneumonia: int | None
    counts: dict[str, int] = {}  # by class
    share: float
    share_low: float
    share_high: float


class ClassBalance(_Finding):
    """The classes by split, and the chi-square test that all splits have them in one proportion."""

    splits: list[SplitBalance]
    chi_square: float
    freedom: int
    p: float


class PassedOverFiles(_Finding):
    """Files and folders that are not read for one reason."""

    reason: str
    n: int
    example: str


class UnlikeImage(_Finding):
    """An image that lies far outside of what the training images look like."""

    name: str
    remarks: list[str]


class Audit(_Finding):
    """Everything that was found in a data folder."""

    folder: str  # as `names.storable_path` writes it
    kind: Literal["images", "phantoms"]
    classes: Classes = PUBLISHED_CLASSES
    note: str
    n_images: int
    median_width: float | None
    median_height: float | None
    unreadable: list[UnreadableImage]
    odd: list[OddImage]
    coloured: list[ColouredImage]
    identical: list[IdenticalFiles]
    near: NearDuplicates
    overlaps: list[PatientOverlap]
    balance: ClassBalance
    comparisons: list[ShiftComparison]
    histograms: list[Histogram]
    passed_over: list[PassedOverFiles] = []
    unlike: list[UnlikeImage] = []
    unknown_patients: int = 0  # images whose names tell no patient


def audit(manifest: Manifest, progress: Progress | None = None) -> Audit:
    """Read every image of a data folder and report what is wrong with it.

    Args:
        manifest: The folder. Images that cannot be decoded are reported and left out of the rest.
        progress: Called now and then while images are decoded.
    """
    readings, unreadable = read_all(manifest, progress)
    readable = _Readable(manifest, readings)
    sizes = [(r.width, r.height) for r in readings]
    return Audit(
        folder=storable_path(manifest.folder),
        kind=manifest.kind,
        classes=manifest.classes,
        note=SEAL_NOTE,
        n_images=len(manifest.images),
        median_width=float(np.median([w for w, _ in sizes])) if sizes else None,
        median_height=float(np.median([h for _, h in sizes])) if sizes else None,
        unreadable=[UnreadableImage(name=found.image.name, reason=found.reason) for found in unreadable],
        odd=_odd_images(readings),
        coloured=[ColouredImage(name=r.image.name, share=r.coloured) for r in readings if r.coloured > _COLOURED],
        identical=[_identical([readable.images[i] for i in g]) for g in identical_groups(readable.digests)],
        near=_near_duplicates(readable),
        overlaps=_overlaps(manifest.images),
        balance=_balance(manifest),
        comparisons=compare_all(readings, manifest.classes),
        histograms=histograms(readings, manifest.classes),
        passed_over=[PassedOverFiles(**each._asdict()) for each in manifest.passed_over],
        unlike=_unlike_images(readings),
        unknown_patients=manifest.n_unknown_patients,
    )


class _Readable:
    """The images that can be decoded, in the order of the manifest, with what the search for duplicates needs."""

    def __init__(self, manifest: Manifest, readings: Sequence[Reading]) -> None:
        self.images = [reading.image for reading in readings]
        self.hashes = np.array([r.bits for r in readings], dtype=np.bool_).reshape(len(readings), N_BITS)
        names = {image.name for image in self.images}
        self.parts = [
            part.without(image.name for image in part.images if image.name not in names)
            for part in (manifest.part("development"), manifest.part("test"))
        ]
        digest_of = {i.name: digest for part in self.parts for i, digest in zip(part.images, part.digests, strict=True)}
        self.digests = [digest_of[image.name] for image in self.images]


def _odd_images(readings: Sequence[Reading]) -> list[OddImage]:
    ratios = _far_from_rest([r.width / r.height for r in readings])
    sizes = _far_from_rest([r.width * r.height for r in readings])
    found: list[OddImage] = []
    for reading, ratio, size in zip(readings, ratios, sizes, strict=True):
        if ratio or size:
            what: Literal["aspect ratio", "size"] = "aspect ratio" if ratio else "size"
            found.append(OddImage(name=reading.image.name, width=reading.width, height=reading.height, odd=what))
    return found


def _unlike_images(readings: Sequence[Reading]) -> list[UnlikeImage]:
    train = [reading for reading in readings if reading.image.split == "train"]
    if not train:
        return []
    appearance = appearance_of([r.small for r in train], [(r.width, r.height) for r in train])
    spans = summarised((r.features.plain for r in train), appearance.aspect_ratio, MEASURED_SIZE, "area")
    appearance = appearance.model_copy(update={"spans": spans})
    each = [(r.image.name, differences(r.small, (r.width, r.height), appearance, r.features.plain)) for r in readings]
    return [UnlikeImage(name=name, remarks=list(remarks)) for name, remarks in each if remarks]


def _far_from_rest(values: Sequence[float]) -> list[bool]:
    """Tell which positive values are off the median by a factor of 1.5 and by 5 robust deviations."""
    if not values:
        return []
    logs = np.log(values)
    distances = np.abs(logs - np.median(logs))
    limit = max(math.log(_ODD_FACTOR), _ODD_DEVIATIONS * 1.4826 * float(np.median(distances)))
    return [bool(distance > limit) for distance in distances]


def _identical(images: Sequence[ImageFile]) -> IdenticalFiles:
    return IdenticalFiles(
        names=[image.name for image in images],
        several_splits=len({image.split for image in images}) > 1,
        several_patients=len({image.patient for image in images}) > 1,
        several_classes=len({image.label for image in images}) > 1,
    )


def _near_duplicates(readable: _Readable) -> NearDuplicates:
    side = _validation_sides(readable.parts[0])

    def described(pair: HashPair) -> NearPair:
        first, second = readable.images[pair.first], readable.images[pair.second]
        return NearPair(
            first=first.name,
            second=second.name,
            distance=pair.distance,
            one_patient=first.patient == second.patient,
            one_class=first.label == second.label,
            one_split=first.split == second.split,
            straddles={side.get(first.name), side.get(second.name)} == {"train", "validation"},
        )

    different = [p for p in near_pairs(readable.hashes) if readable.digests[p.first] != readable.digests[p.second]]
    pairs = [described(pair) for pair in different]
    development = {image.name for image in readable.parts[0].images}
    patients = [image.patient for image in readable.images]
    return NearDuplicates(
        threshold=THRESHOLD,
        bits=N_BITS,
        pairs=pairs,
        beyond=[described(pair) for pair in nearest_others(readable.hashes, patients, _N_NEAREST)],
        other_patients_in_development=sum(not p.one_patient and {p.first, p.second} <= development for p in pairs),
        straddling=sum(pair.straddles for pair in pairs) if side else None,
    )


def _validation_sides(development: ManifestPart) -> dict[str, Literal["train", "validation"]]:
    """Return the side of the validation split for each development image; nothing where no split can be made."""
    try:
        split = holdout_split(development, seed=SPLIT_SEED)
    except DataError:
        return {}
    validation = set(split.validation.tolist())
    return {image.name: "validation" if i in validation else "train" for i, image in enumerate(development.images)}


def _overlaps(images: Sequence[ImageFile]) -> list[PatientOverlap]:
    patients_of = {split: {image.patient for image in images if image.split == split} for split in SPLITS}
    found = []
    for splits in combinations(SPLITS, 2):
        shared = patients_of[splits[0]] & patients_of[splits[1]]
        n_images = sum(image.patient in shared and image.split in splits for image in images)
        if shared:
            found.append(PatientOverlap(splits=splits, patients=sorted(shared), n_images=n_images))
    return found


def _balance(manifest: Manifest) -> ClassBalance:
    from scipy.stats import chi2_contingency

    counts = {split: found for split, found in manifest.counts().items() if any(found)}  # val may be empty
    test = chi2_contingency(np.array(list(counts.values())), correction=False)
    return ClassBalance(
        splits=[_split_balance(split, manifest.classes, found) for split, found in counts.items()],
        chi_square=float(test.statistic),
        freedom=int(test.dof),
        p=float(test.pvalue),
    )


def _split_balance(split: str, classes: Classes, found: tuple[int, int]) -> SplitBalance:
    low, high = wilson_interval(found[1], sum(found))
    normal, pneumonia = found if classes == PUBLISHED_CLASSES else (None, None)
    return SplitBalance(
        split=split,
        normal=normal,
        pneumonia=pneumonia,
        counts=dict(zip(classes, found, strict=True)),
        share=found[1] / sum(found),
        share_low=low,
        share_high=high,
    )
