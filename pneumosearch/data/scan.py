"""What lies in a folder: the images, and what is passed over, by reason."""

import filecmp
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from pneumosearch.data.names import printable_name

#: Endings of the files that are read. A file without any ending is read where it begins as DICOM does.
SUFFIXES: Final = (".jpeg", ".jpg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".dcm", ".dicom")

HIDDEN: Final = "hidden files and folders"
OTHER_FORMAT: Final = "files of no image format that is read"
REPEATED_FOLDER: Final = "links to folders that are read already"
UNLISTED: Final = "folders that cannot be listed"
OUTSIDE: Final = "entries outside of the class folders"
COPY: Final = "second copies of the data set"
COPY_OF_FILE: Final = "copies inside of a second copy of the folder"

_DICOM_OFFSET, _DICOM_MARK = 128, b"DICM"


class PassedOver(NamedTuple):
    """Files and folders that are not read for one reason."""

    reason: str  # one of the constants above
    n: int
    example: str  # printable name of the first

    def remark(self) -> str:
        """Return the line for the user."""
        return f"passed over: {self.reason}: {self.n:,} (such as {self.example})"


@dataclass
class Tally:
    """Counts what is passed over."""

    _names: dict[str, list[str]] = field(default_factory=dict)

    def add(self, reason: str, name: str) -> None:
        """Count `name`, a path as the file system has it."""
        self._names.setdefault(reason, []).append(printable_name(name))

    def summary(self) -> tuple[PassedOver, ...]:
        """Return the counts in a fixed order."""
        return tuple(PassedOver(reason, len(names), min(names)) for reason, names in sorted(self._names.items()))


def is_hidden(name: str) -> bool:
    """Tell whether a file or folder of this name is hidden, or holds what macOS packs beside each file."""
    return name.startswith(".") or name == "__MACOSX"


def find_images(folder: Path, tally: Tally, below: str = "") -> list[str]:
    """Return the images in `folder` and its sub-folders, as paths below it with forward slashes, sorted.

    Args:
        folder: Must be there. Links to folders are followed, each folder once.
        tally: Counts what is passed over.
        below: Begins the names that the tally gets.

    Raises:
        OSError: The folder cannot be listed.
    """
    return sorted(_walk(folder, "", tally, below, {_identity(folder)}))


def _walk(folder: Path, prefix: str, tally: Tally, below: str, seen: set[tuple[int, int]]) -> Iterator[str]:
    for entry in _entries(folder):
        name = prefix + entry.name
        if is_hidden(entry.name):
            tally.add(HIDDEN, below + name)
        elif not _is_folder(entry):
            if _may_be_image(Path(entry.path)):
                yield name
            else:
                tally.add(OTHER_FORMAT, below + name)
        elif (identity := _identity(Path(entry.path))) in seen:
            tally.add(REPEATED_FOLDER, below + name)
        else:
            seen.add(identity)
            try:
                yield from _walk(Path(entry.path), f"{name}/", tally, below, seen)
            except OSError:
                tally.add(UNLISTED, below + name)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: entry.name)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # such as a loop of links, which is an image that cannot be read
        return False


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _may_be_image(path: Path) -> bool:
    if path.suffix:
        return path.suffix.lower() in SUFFIXES
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return file.read(_DICOM_OFFSET + len(_DICOM_MARK))[_DICOM_OFFSET:] == _DICOM_MARK
    except OSError:
        return False


def tally_outside(folder: Path, read: Iterable[str], tally: Tally, below: str = "") -> None:
    """Count the entries of `folder` that are not among `read`; none of them is looked into."""
    wanted = set(read)
    for entry in _entries(folder):
        if entry.name not in wanted:
            tally.add(_why_outside(entry), below + entry.name)


def _why_outside(entry: os.DirEntry[str]) -> str:
    if is_hidden(entry.name):
        return HIDDEN
    return COPY if _is_folder(entry) and is_root(Path(entry.path)) else OUTSIDE


def is_root(folder: Path) -> bool:
    """Tell whether `folder` holds `train` and `test`."""
    return all((folder / split).is_dir() for split in ("train", "test"))


def roots_below(folder: Path, depth: int = 2) -> list[Path]:
    """Return the nearest folders below `folder`, at most so deep, that hold `train` and `test`."""
    try:
        entries = [entry for entry in _entries(folder) if not is_hidden(entry.name) and _is_folder(entry)]
    except OSError:
        return []
    children = [Path(entry.path) for entry in entries]
    roots = [child for child in children if is_root(child)]
    if roots or depth == 1:
        return roots
    return [root for child in children for root in roots_below(child, depth - 1)]


def is_copy(folder: Path, name: str, there: set[str]) -> bool:
    """Tell whether a file lies once more with the same content further out: `x/test/a.png` as `test/a.png`."""
    parts = name.split("/")
    outer = ("/".join(parts[i:]) for i in range(1, len(parts)))
    return any(other in there and _same_content(folder / name, folder / other) for other in outer)


def _same_content(first: Path, second: Path) -> bool:
    try:
        return filecmp.cmp(first, second, shallow=False)
    except OSError:  # reading the file reports it
        return False
