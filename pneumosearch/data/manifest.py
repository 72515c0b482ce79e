"""A data folder as a table: which images there are, of which split, class and patient."""

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final, Literal

from pneumosearch._utils.atomic import read_whole
from pneumosearch.data.phantoms import MARKER
from pneumosearch.errors import DataError

Split = Literal["train", "val", "test"]
Part = Literal["development", "test"]

SPLITS: Final[tuple[Split, ...]] = ("train", "val", "test")
CLASSES: Final = ("NORMAL", "PNEUMONIA")  # the index is the label
SUFFIXES: Final = (".jpeg", ".jpg", ".png")

_PATIENT = re.compile(r"(person\d+|IM-\d+)")


@dataclass(frozen=True)
class ImageFile:
    """One image of a data folder: `name` is its path below the folder, with forward slashes."""

    name: str
    split: Split
    label: int  # 0 normal, 1 pneumonia

    @property
    def patient(self) -> str:
        """The patient that the file name tells; the whole name where it tells none.

        `IM-0115-0001` and `NORMAL2-IM-0115-0001` count as one patient: whether the two series share their
        numbering is not published, and grouping too much cannot leak.
        """
        match = _PATIENT.search(Path(self.name).stem)
        return match.group(1) if match else self.name


@dataclass(frozen=True)
class Manifest:
    """The images of a data folder, sorted by split, class and name."""

    folder: Path
    kind: Literal["images", "phantoms"]
    images: tuple[ImageFile, ...]

    def counts(self) -> dict[Split, tuple[int, int]]:
        """Return {split: (normal, pneumonia)}."""
        return {split: (self._count(split, 0), self._count(split, 1)) for split in SPLITS}

    def _count(self, split: Split, label: int) -> int:
        return sum(image.split == split and image.label == label for image in self.images)

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

    def path(self, image: ImageFile) -> Path:
        """Return where `image` lies on this machine."""
        return self.folder / image.name

    @cached_property
    def digests(self) -> tuple[str, ...]:
        """BLAKE2 digest of each file's bytes, in order. Raises `DataError` for a file that cannot be read."""
        return tuple(_digest(self.path(image)) for image in self.images)

    @cached_property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that change when a name or a byte of this part changes."""
        lines = (f"{image.name}\0{digest}\n" for image, digest in zip(self.images, self.digests, strict=True))
        return _hash(line.encode("utf-8", "surrogateescape") for line in lines)[:16]

    def without(self, names: Iterable[str]) -> "ManifestPart":
        """Return this part without the images of these names."""
        dropped = set(names)
        return ManifestPart(self.folder, self.part, tuple(i for i in self.images if i.name not in dropped))


def read_manifest(folder: Path) -> Manifest:
    """List the images below `folder`, which holds train, val and test, each with NORMAL and PNEUMONIA.

    Raises:
        DataError: The folder, a split or a class folder is missing, or a class folder has no image.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; it should hold train, val and test, each with NORMAL and PNEUMONIA")
    images = [image for split in SPLITS for label in (0, 1) for image in _class_images(folder, split, label)]
    kind: Literal["images", "phantoms"] = "phantoms" if (folder / MARKER).exists() else "images"
    return Manifest(folder, kind, tuple(images))


def _class_images(folder: Path, split: Split, label: int) -> list[ImageFile]:
    directory = folder / split / CLASSES[label]
    if not directory.is_dir():
        found = sorted(child.name for child in directory.parent.glob("*/")) if directory.parent.is_dir() else None
        hint = f"{folder} holds " + (", ".join(sorted(p.name for p in folder.glob("*/"))) or "no folder")
        hint = f"{directory.parent} holds " + (", ".join(found) or "no folder") if found is not None else hint
        raise DataError(f"{directory}: no such folder ({hint}); wanted train, val, test with NORMAL, PNEUMONIA")
    try:
        names = sorted(child.name for child in directory.iterdir() if child.suffix.lower() in SUFFIXES)
    except OSError as error:
        raise DataError(f"{directory}: cannot be listed ({error.strerror})") from error
    if not names:
        raise DataError(f"{directory}: no image in this folder (wanted {', '.join(SUFFIXES)})")
    return [ImageFile(f"{split}/{CLASSES[label]}/{name}", split, label) for name in names]


def phantom_settings(folder: Path) -> dict[str, object] | None:
    """Return what the marker of a phantom folder says (images, seed, ...); None for a folder of real images."""
    marker = folder / MARKER
    if not marker.exists():
        return None
    try:
        settings = json.loads(marker.read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"{marker}: not a marker of phantoms ({error}); write the folder again") from error
    return dict(settings)


def _digest(path: Path) -> str:
    try:
        return _hash([read_whole(path)])
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error


def _hash(chunks: Iterable[bytes]) -> str:
    state = hashlib.blake2b(digest_size=16)
    for chunk in chunks:
        state.update(chunk)
    return state.hexdigest()
