"""A data folder as a table: which images it has, of which split, class and patient."""

import errno
import hashlib
import os
import stat
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final, Literal

from pneumosearch._utils.atomic import MAX_BYTES, read_whole
from pneumosearch._utils.patterns import one_group
from pneumosearch.data.depth import may_be_deep
from pneumosearch.data.names import printable_name
from pneumosearch.data.patients import patient_of, published_patient
from pneumosearch.data.phantoms import MARKER
from pneumosearch.data.planted_shifts import PLANTED
from pneumosearch.data.scan import SUFFIXES, PassedOver, Tally, find_images, is_root, roots_below, tally_outside
from pneumosearch.errors import DataError
from pneumosearch.records.classes import PUBLISHED_CLASSES, Classes, Shown, checked_classes, folded
from pneumosearch.records.dataset import shown_as

Split = Literal["train", "val", "test"]
Part = Literal["development", "test"]

SPLITS: Final[tuple[Split, ...]] = ("train", "val", "test")
SOURCE_NOTE: Final = "SOURCE.txt"  # says where fetched images come from, their licence, and whom to cite

_MOST_UNKNOWN: Final = 0.5  # share of images of unknown patients from which a warning says so


@dataclass(frozen=True)
class ImageFile:
    """One image of a data folder: `name` is its path below the folder, with forward slashes, in printable UTF-8."""

    name: str
    split: Split
    label: int  # position of its class: 1 is the positive one
    file: str = ""  # the same path as the file system has it, where that differs from `name`
    patient_pattern: str | None = None  # the user's rule for `patient`

    @property
    def patient(self) -> str:
        """The patient that the file name tells (see `patient_of`); the whole name where it tells none."""
        return patient_of(self.name, self.patient_pattern) or self.name

    @property
    def path(self) -> str:
        """The path below the data folder by which the file opens."""
        return self.file or self.name


@dataclass(frozen=True)
class Manifest:
    """The images of a data folder, sorted by split, class and name."""

    folder: Path
    kind: Literal["images", "phantoms"]
    images: tuple[ImageFile, ...]
    patient_pattern: str | None = None  # the user's rule for patients
    given: Path | None = None  # the folder that was asked for, where `folder` was found below it
    passed_over: tuple[PassedOver, ...] = ()
    classes: Classes = PUBLISHED_CLASSES

    def counts(self) -> dict[Split, tuple[int, int]]:
        """Return {split: (images of the first class, of the second)}."""
        return {split: (self._count(split, 0), self._count(split, 1)) for split in SPLITS}

    def _count(self, split: Split, label: int) -> int:
        return sum(image.split == split and image.label == label for image in self.images)

    @property
    def shown_as(self) -> Shown:
        """What the images are, for what may stand beside their results."""
        return shown_as(self.kind, self.classes)

    @property
    def patient_rule(self) -> str | None:
        """What tells patients apart: None where the published names alone give the same, else "mendeley" or a pattern.

        A study's validation split depends on it.
        """
        if all(image.patient == published_patient(image.name) for image in self.images):
            return None
        return self.patient_pattern or "mendeley"

    @property
    def n_unknown_patients(self) -> int:
        """The number of images whose names tell no patient."""
        return sum(patient_of(image.name, self.patient_pattern) is None for image in self.images)

    def unopenable(self) -> Counter[str]:
        """Count, by reason, the images that cannot even be opened; looks at no content."""
        return Counter(reason for image in self.images if (reason := _why_unopenable(self.folder / image.path)))

    def remarks(self) -> list[str]:
        """Return what a user should know before the images are used, a sentence each."""
        found = []
        if self.given is not None:
            found.append(f"{self.given}: the images are read from {self.folder}")
        if not any(self.counts()["val"]):
            found.append(f"{self.folder}: no val folder, or no image in it; validation images come from train")
        found += [passed.remark() for passed in self.passed_over]
        return found + self._patient_remarks()

    def _patient_remarks(self) -> list[str]:
        n_unknown = self.n_unknown_patients
        if n_unknown <= _MOST_UNKNOWN * len(self.images):
            return []
        rule = "--patient-pattern" if self.patient_pattern else "no known rule"
        advice = "mend it" if self.patient_pattern else "give one as --patient-pattern REGEX"
        return [
            f"warning: {rule} finds a patient in the names of {n_unknown:,} of {len(self.images):,} images; they are "
            "split as if each were another patient's, so that a patient may be both in training and in validation; "
            f"{advice}"
        ]

    def part(self, part: Part) -> "ManifestPart":
        """Return the images that may be looked at (train and val), or those of the sealed test folder."""
        return self._test if part == "test" else self._development

    @cached_property  # once, because a part remembers what it read of its files
    def _development(self) -> "ManifestPart":
        return ManifestPart(self.folder, "development", tuple(i for i in self.images if i.split != "test"))

    @cached_property
    def _test(self) -> "ManifestPart":
        return ManifestPart(self.folder, "test", tuple(i for i in self.images if i.split == "test"))


@dataclass(frozen=True)
class ManifestPart:
    """The images of one side of the seal. Only asking for `digests` reads their content."""

    folder: Path
    part: Part
    images: tuple[ImageFile, ...]
    _contents: dict[str, "_Content"] = field(default_factory=dict, compare=False, repr=False)  # by name, once read

    def path(self, image: ImageFile) -> Path:
        """Return where `image` lies on this machine."""
        return self.folder / image.path

    @cached_property
    def digests(self) -> tuple[str, ...]:
        """BLAKE2 digest of each file's bytes, in order. Raises `DataError` for a file that cannot be read."""
        if self.unreadable:
            first, *others = self.unreadable.values()
            more = f" and {len(others)} more" if others else ""
            raise DataError(f"{first}{more}; mend or remove it, or pass --skip-unreadable")
        return tuple(self._content(image).digest for image in self.images)

    @cached_property
    def unreadable(self) -> dict[str, str]:
        """The names of the files that cannot be read, each with the reason; all the others are read."""
        contents = ((image.name, self._content(image)) for image in self.images)
        return {name: content.problem for name, content in contents if content.problem}

    @cached_property
    def maybe_deep(self) -> frozenset[str]:
        """The names of the files that may hold more than 8 bits a pixel, by their first bytes."""
        return frozenset(image.name for image in self.images if self._content(image).maybe_deep)

    def _content(self, image: ImageFile) -> "_Content":
        if image.name not in self._contents:
            self._contents[image.name] = _read_content(self.path(image))
        return self._contents[image.name]

    @cached_property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that change when a name or a byte of this part changes."""
        lines = (f"{image.path}\0{digest}\n" for image, digest in zip(self.images, self.digests, strict=True))
        return _hash(line.encode("utf-8", "surrogateescape") for line in lines)[:16]

    def without(self, names: Iterable[str]) -> "ManifestPart":
        """Return this part without the images of these names."""
        dropped = set(names)
        return ManifestPart(
            self.folder, self.part, tuple(i for i in self.images if i.name not in dropped), self._contents
        )


@dataclass(frozen=True)
class _Content:
    """What was read of a file."""

    digest: str = ""
    problem: str = ""  # why it cannot be read
    maybe_deep: bool = False  # see `depth.may_be_deep`


def read_manifest(folder: Path, patient_pattern: str | None = None, classes: Classes | None = None) -> Manifest:
    """List the images below `folder`, which holds train, test and perhaps val, each with the two class folders.

    Where only a folder inside of it does, such as the `chest_xray` of an archive, that one is read.

    Args:
        folder: Class folders are read with their sub-folders; hidden files are no images.
        patient_pattern: Regular expression, searched in each image's path below the data folder; its one group is the
            patient. Without it the published names and Mendeley's count.
        classes: Names of the class folders; NORMAL and PNEUMONIA by default. Case and Unicode's form do not matter
            where only one folder fits.

    Raises:
        ConfigError: The pattern or the classes cannot be used.
        DataError: The folder, a split or a class folder is missing (but in val), or has no image.
    """
    classes = checked_classes(classes or PUBLISHED_CLASSES, "classes")
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; {_layout(classes)}")
    if patient_pattern is not None:
        one_group(patient_pattern, "patient_pattern")
    root = _root(folder)
    tally = Tally()
    try:
        found = [image for split in SPLITS for image in _split_images(root, split, classes, tally)]
        tally_outside(root, (*SPLITS, MARKER, PLANTED, SOURCE_NOTE), tally)
    except OSError as error:
        raise DataError(f"{error.filename}: cannot be listed ({error.strerror})") from error
    kind: Literal["images", "phantoms"] = "phantoms" if (root / MARKER).exists() else "images"
    images = (_image_file(name, split, label, patient_pattern) for name, split, label in found)
    given = folder if root != folder else None
    return Manifest(root, kind, tuple(images), patient_pattern, given, tally.summary(), classes)


def _root(folder: Path) -> Path:
    """Return the folder that holds the splits: `folder`, or the only one below it that does."""
    if is_root(folder):
        return folder
    roots = roots_below(folder)
    if len(roots) > 1:
        names = ", ".join(str(root.relative_to(folder)) for root in roots)
        raise DataError(f"{folder}: holds several data sets ({names}); name one of them")
    return roots[0] if roots else folder


def _split_images(root: Path, split: Split, classes: Classes, tally: Tally) -> list[tuple[str, Split, int]]:
    """Return (path below the root, split, label) of a split's images; "val" may be missing or empty."""
    if split == "val" and not (root / split).is_dir():
        return []
    found: list[tuple[str, Split, int]] = []
    there = class_folders(root / split, classes)
    for label, name in enumerate(there):
        if name is None:
            if split == "val":
                continue
            directory = root / split / classes[label]
            raise DataError(f"{directory}: no such folder ({_hint(root, directory.parent)}); {_layout(classes)}")
        directory, below = root / split / name, f"{split}/{name}/"
        names = find_images(directory, tally, below)
        if not names and split != "val":
            raise DataError(f"{directory}: no image in this folder (wanted {', '.join(SUFFIXES)})")
        found += [(below + image, split, label) for image in names]
    tally_outside(root / split, [name for name in there if name], tally, f"{split}/")
    return found


def class_folders(directory: Path, classes: Classes) -> tuple[str | None, str | None]:
    """Return the names of the class folders in `directory` as the file system has them; None for one that is missing.

    Raises:
        DataError: Several folders fit one class, and none exactly.
    """
    names = [path.name for path in directory.iterdir() if path.is_dir()] if directory.is_dir() else []
    return _fitting(directory, names, classes[0]), _fitting(directory, names, classes[1])


def _fitting(directory: Path, names: list[str], wanted: str) -> str | None:
    if wanted in names:
        return wanted
    fitting = sorted(name for name in names if folded(name) == folded(wanted))
    if len(fitting) > 1:
        raise DataError(f"{directory}: several folders fit the class {wanted}: {', '.join(fitting)}; rename one")
    return fitting[0] if fitting else None


def _layout(classes: Classes) -> str:
    known = classes == PUBLISHED_CLASSES
    advice = "; or name two classes of your own with --classes NEGATIVE,POSITIVE" if known else ""
    return f"wanted train, test and perhaps val, each with {classes[0]} and {classes[1]}{advice}"


def _hint(root: Path, directory: Path) -> str:
    there = directory if directory.is_dir() else root
    return f"{there} holds " + (", ".join(sorted(path.name for path in there.glob("*/"))) or "no folder")


def _image_file(path: str, split: Split, label: int, patient_pattern: str | None) -> ImageFile:
    name = printable_name(path)
    return ImageFile(name, split, label, path if path != name else "", patient_pattern)


def _why_unopenable(path: Path) -> str | None:
    try:
        status = path.stat()
    except OSError as error:
        return str(error.strerror)
    if not stat.S_ISREG(status.st_mode):
        return "not a regular file"
    if status.st_size > MAX_BYTES:
        return f"more than {MAX_BYTES:,} bytes"
    return None if os.access(path, os.R_OK) else os.strerror(errno.EACCES)


def _read_content(path: Path) -> _Content:
    try:
        content = read_whole(path)
        return _Content(_hash([content]), maybe_deep=may_be_deep(content))
    except OSError as error:
        return _Content(problem=f"{path}: cannot be read ({error.strerror})")


def _hash(chunks: Iterable[bytes]) -> str:
    state = hashlib.blake2b(digest_size=16)
    for chunk in chunks:
        state.update(chunk)
    return state.hexdigest()
