"""A labelled folder from anywhere: images below class folders, in groups by the folder that holds these."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, NamedTuple

from pneumosearch._utils.patterns import one_group
from pneumosearch.data.manifest import ImageFile, ManifestPart, class_folders
from pneumosearch.data.names import printable_name
from pneumosearch.data.phantoms import MARKER
from pneumosearch.data.scan import COPY_OF_FILE, HIDDEN, OUTSIDE, PassedOver, Tally, find_images, is_copy, is_hidden
from pneumosearch.errors import DataError
from pneumosearch.records.classes import Classes

_DEPTH: Final = 3  # folders between the one that is named and the class folders


@dataclass(frozen=True)
class LabelledFolder:
    """Images with labels, and the group of each: the path of the folder that holds its class folder, "." at the top."""

    classes: Classes  # as the folders are named
    kind: Literal["images", "phantoms"]
    files: ManifestPart
    groups: tuple[str, ...]  # in the order of `files.images`
    passed_over: tuple[PassedOver, ...] = ()

    def chosen(self, positions: list[int]) -> "LabelledFolder":
        """Return the folder with the images at these positions only."""
        names = {self.files.images[i].name for i in positions}
        left = self.files.without(image.name for image in self.files.images if image.name not in names)
        groups = tuple(self.groups[i] for i in sorted(positions))
        return LabelledFolder(self.classes, self.kind, left, groups, self.passed_over)


def read_labelled(folder: Path, classes: Classes, patient_pattern: str | None = None) -> LabelledFolder:
    """List the images of the two classes in `folder` and in its sub-folders, such as `siteA/NORMAL` or `test/NORMAL`.

    Args:
        folder: It, or folders up to three levels below it, hold class folders; these are read with their sub-folders.
        classes: Names of the class folders, as `read_manifest` takes them.
        patient_pattern: The user's rule for patients, as there.

    Raises:
        ConfigError: The pattern cannot be used.
        DataError: The folder is missing or cannot be listed, or has no image of one of the classes.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    if patient_pattern is not None:
        one_group(patient_pattern, "patient_pattern")
    tally = Tally()
    try:
        found = sorted(_Search(classes, tally).images(folder))
    except OSError as error:
        raise DataError(f"{error.filename}: cannot be listed ({error.strerror})") from error
    there = {each.path for each in found}
    copies = {path for path in there if is_copy(folder, path, there)}
    for path in copies:
        tally.add(COPY_OF_FILE, path)
    found = [each for each in found if each.path not in copies]
    for label, name in enumerate(classes):
        if all(label != each.label for each in found):
            raise DataError(f"{folder}: no image of the class {name} ({_hint(folder)}); {_layout(classes)}")
    images = tuple(_image(each.path, each.label, patient_pattern) for each in found)
    marked = any((holder / MARKER).exists() for holder in (folder, *folder.absolute().parents[:1]))
    kind: Literal["images", "phantoms"] = "phantoms" if marked else "images"
    groups = tuple(printable_name(each.group) for each in found)
    return LabelledFolder(classes, kind, ManifestPart(folder, "test", images), groups, tally.summary())


class _Found(NamedTuple):
    group: str
    path: str  # below the top
    label: int


class _Search:
    """The search for class folders; each folder is looked into once."""

    def __init__(self, classes: Classes, tally: Tally) -> None:
        self.classes, self.tally = classes, tally
        self._seen: set[tuple[int, int]] = set()

    def images(self, folder: Path, below: str = "", depth: int = _DEPTH) -> list[_Found]:
        """Return the images in `folder`, whose path below the top is `below`, and up to `depth` folders further in."""
        status = folder.stat()
        if (status.st_dev, status.st_ino) in self._seen:
            return []
        self._seen.add((status.st_dev, status.st_ino))
        there = class_folders(folder, self.classes)
        found = [
            _Found(below.rstrip("/") or ".", f"{below}{name}/{image}", label)
            for label, name in enumerate(there)
            if name is not None
            for image in find_images(folder / name, self.tally, f"{below}{name}/")
        ]
        outside = []
        for path in sorted(folder.iterdir()):
            if path.name in (*there, MARKER):
                continue
            further = depth and path.is_dir() and not is_hidden(path.name)
            inner = self.images(path, f"{below}{path.name}/", depth - 1) if further else []
            found += inner
            outside += [] if inner else [path.name]
        for name in outside if found or not below else ():
            self.tally.add(HIDDEN if is_hidden(name) else OUTSIDE, below + name)
        return found


def _image(path: str, label: int, patient_pattern: str | None) -> ImageFile:
    name = printable_name(path)
    return ImageFile(name, "test", label, path if path != name else "", patient_pattern)


def _layout(classes: Classes) -> str:
    return f"wanted {classes[0]} and {classes[1]} in it or in its sub-folders, or other names with --classes"


def _hint(folder: Path) -> str:
    return f"{folder} holds " + (", ".join(sorted(path.name for path in folder.glob("*/"))) or "no folder")
