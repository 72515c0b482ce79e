"""From an archive, as it comes, to train, val and test: only what belongs there, and never out of the folder."""

import lzma
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PureWindowsPath
from typing import Final, NamedTuple

from pneumosearch.data.fetch.download import need_space
from pneumosearch.data.manifest import SPLITS
from pneumosearch.data.scan import COPY, HIDDEN, OUTSIDE, PassedOver, Tally, is_hidden
from pneumosearch.errors import DataError
from pneumosearch.records.classes import PUBLISHED_CLASSES

#: Called with the images that are unpacked and all of them.
Progress = Callable[[int, int], None]

ESCAPES: Final = "names that lead out of the folder"
NO_FILE: Final = "links and other entries that are no files"

_LAYOUT: Final = "wanted train and test, each with NORMAL and PNEUMONIA"


class ArchiveError(DataError):
    """A file is no archive of the data set; asking for it again may help, unpacking it again does not."""


class _Entry(NamedTuple):
    """One entry of an archive, or one file below a folder."""

    name: str  # as the archive has it
    size: int
    write: Callable[[Path], None] | None  # to a new file; None for what is no file


def unpack(archive: Path, folder: Path, progress: Progress) -> tuple[PassedOver, ...]:
    """Write the images of an archive to `folder` as train, val (if there is one) and test.

    The data set may lie at any depth; a second copy inside of it is passed over. Names are checked one by one, so
    that nothing is written outside of `folder`.

    Args:
        archive: A zip or tar file, or a folder, whose files are linked where the disk allows it, else copied.
        folder: Is made.
        progress: Called after each image.

    Returns:
        What is passed over, by reason.

    Raises:
        ArchiveError: The archive is damaged, is none, or holds no such data set.
        DataError: The disk refuses.
    """
    tally = Tally()
    try:
        with _open(archive) as entries:
            chosen = _choose(archive, entries, tally)
            folder.mkdir(parents=True, exist_ok=True)
            need_space(folder, 0 if archive.is_dir() else sum(entry.size for _, entry in chosen))
            for n, (name, entry) in enumerate(chosen, start=1):
                target = folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                if entry.write is not None:
                    entry.write(target)
                progress(n, len(chosen))
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError) as error:
        raise ArchiveError(f"{archive}: a damaged archive ({error})") from error
    except (RuntimeError, NotImplementedError) as error:  # a password, or an unknown compression
        raise ArchiveError(f"{archive}: cannot be unpacked ({error})") from error
    except OSError as error:
        raise DataError(f"{folder}: cannot be written ({error.strerror or error})") from error
    return tally.summary()


@contextmanager
def _open(archive: Path) -> Iterator[Iterable[_Entry]]:
    if archive.is_dir():
        yield _files_below(archive)
    elif zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as zipped:
            yield [_zipped(zipped, info) for info in zipped.infolist() if not info.filename.endswith("/")]
    elif tarfile.is_tarfile(archive):
        with tarfile.open(archive) as tar:
            yield [_tarred(tar, member) for member in tar.getmembers() if not member.isdir()]
    else:
        raise ArchiveError(f"{archive}: neither a zip nor a tar archive{_hint(archive)}")


def _hint(archive: Path) -> str:
    with archive.open("rb") as file:
        begin = file.read(512).lstrip().lower()
    return "; it is a web page" if begin.startswith((b"<!doctype", b"<html")) else ""


def _files_below(folder: Path) -> Iterator[_Entry]:
    for path in sorted(folder.rglob("*")):
        if not path.is_dir():
            write = partial(_link, path) if path.is_file() and not path.is_symlink() else None
            yield _Entry(path.relative_to(folder).as_posix(), 0, write)


def _link(path: Path, target: Path) -> None:
    try:
        os.link(path, target)
    except OSError:  # another disk, or one that has no links
        shutil.copyfile(path, target)


def _zipped(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> _Entry:
    def write(target: Path) -> None:
        with archive.open(info) as content, target.open("wb") as file:
            shutil.copyfileobj(content, file)

    mode = info.external_attr >> 16
    is_file = not stat.S_IFMT(mode) or stat.S_ISREG(mode)
    return _Entry(info.filename, info.file_size, write if is_file else None)


def _tarred(archive: tarfile.TarFile, member: tarfile.TarInfo) -> _Entry:
    def write(target: Path) -> None:
        content = archive.extractfile(member)
        if content is not None:  # as of every regular file
            with content, target.open("wb") as file:
                shutil.copyfileobj(content, file)

    return _Entry(member.name, member.size, write if member.isreg() else None)


def _choose(archive: Path, entries: Iterable[_Entry], tally: Tally) -> list[tuple[str, _Entry]]:
    """Return the images of the outermost data set with their paths below it; count all else."""
    sets: dict[tuple[str, ...], dict[str, _Entry]] = defaultdict(dict)
    for entry in entries:
        parts = _parts(entry.name)
        begin = _begin(parts)
        if parts is None:
            tally.add(ESCAPES, entry.name)
        elif any(is_hidden(part) for part in parts):
            tally.add(HIDDEN, entry.name)
        elif entry.write is None:
            tally.add(NO_FILE, entry.name)
        elif begin is None:
            tally.add(OUTSIDE, entry.name)
        else:
            sets[parts[:begin]]["/".join(parts[begin:])] = entry
    root = _outermost(archive, sets)
    for other in sets.keys() - {root}:
        for entry in sets[other].values():
            tally.add(COPY, entry.name)
    return sorted(sets[root].items())


def _parts(name: str) -> tuple[str, ...] | None:
    """Return the steps to an entry below the archive's top; None where they could lead elsewhere."""
    path = PureWindowsPath(name)  # knows both slashes, drives and shares
    if path.drive or path.root or ".." in path.parts or ":" in name:
        return None
    return path.parts


def _begin(parts: tuple[str, ...] | None) -> int | None:
    """Return where the split's name stands in the path of an image."""
    steps = range(len(parts) - 2) if parts else range(0)
    return next((i for i in steps if parts and parts[i] in SPLITS and parts[i + 1] in PUBLISHED_CLASSES), None)


def _outermost(archive: Path, sets: dict[tuple[str, ...], dict[str, _Entry]]) -> tuple[str, ...]:
    wanted = {f"{split}/{label}" for split in ("train", "test") for label in PUBLISHED_CLASSES}
    whole = [root for root, found in sets.items() if wanted <= {"/".join(n.split("/")[:2]) for n in found}]
    if not whole:
        raise ArchiveError(f"{archive}: no data set in it; {_LAYOUT}")
    depth = min(len(root) for root in whole)
    outermost = [root for root in whole if len(root) == depth]
    if len(outermost) > 1:
        names = ", ".join("/".join(root) for root in sorted(outermost))
        raise ArchiveError(f"{archive}: holds several data sets ({names}); unpack the one that you want")
    return outermost[0]
