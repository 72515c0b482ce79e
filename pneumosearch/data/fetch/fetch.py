"""The published images on this machine: downloaded, verified, unpacked, with their licence beside them."""

import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit, urlunsplit

from filelock import FileLock, Timeout

from pneumosearch import __version__
from pneumosearch.data.fetch import sources
from pneumosearch.data.fetch.download import (
    ChecksumError,
    InterruptedDownloadError,
    UnreachableError,
    download,
    file_sha256,
)
from pneumosearch.data.fetch.sources import CITATION, LICENCE, Archive, Source
from pneumosearch.data.fetch.unpack import ArchiveError, unpack
from pneumosearch.data.manifest import SOURCE_NOTE, Manifest, read_manifest
from pneumosearch.data.scan import PassedOver, is_root
from pneumosearch.errors import ConfigError, DataError
from pneumosearch.published import PUBLISHED_COUNTS

Step = Literal["download", "unpack"]
#: Called with the step, what is done of it (bytes; images) and all of it, if that is known.
Progress = Callable[[Step, int, int | None], None]

#: For the folder that was asked for and that of downloads: an archive, or a folder of its content, and its origin.
_Bring = Callable[[Path, Path, Progress], tuple[Path, str]]

_SHA256: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Fetched:
    """The images that a folder holds after `fetch`."""

    manifest: Manifest
    origin: str  # one line: from where, and whether a checksum was held to
    already: bool = False  # they were there before; nothing was fetched
    passed_over: tuple[PassedOver, ...] = ()  # what the archive held besides

    @property
    def as_published(self) -> bool:
        """Whether there are as many images as published; those of train and val may be parted otherwise."""
        found = self.manifest.counts()
        return _pooled(found["train"], found["val"], found["test"]) == _pooled(*PUBLISHED_COUNTS.values())


def _pooled(train: tuple[int, int], val: tuple[int, int], test: tuple[int, int]) -> tuple[int, ...]:
    return (train[0] + val[0], train[1] + val[1], *test)


def fetch(
    folder: Path,
    *,
    progress: Progress,
    source: Source = "mendeley",
    url: str | None = None,
    sha256: str | None = None,
) -> Fetched:
    """Bring the images into `folder`, which is whole afterwards or not there.

    Downloads are kept beside it in `.NAME.fetch` until then, so that another call resumes them.

    Args:
        folder: Must not exist, be empty, or hold the images already.
        progress: Called again and again.
        source: Who is asked.
        url: Address or file of an archive that is taken instead.
        sha256: Checksum of that archive.

    Raises:
        ConfigError: An argument cannot be used.
        DataError: The images cannot be had, or not be written; the message says what to do.
    """
    target = folder.absolute()
    if sha256 is not None and (url is None or not _SHA256.fullmatch(sha256)):
        raise ConfigError(f"--sha256 {sha256}: wanted 64 hexadecimal digits, lower case, beside --url")
    there = _already(target)
    if there is not None:
        return there
    work = target.with_name(f".{target.name}.fetch")
    try:
        work.mkdir(parents=True, exist_ok=True)
        with FileLock(work / "lock", timeout=0):
            try:
                archive, origin = _bring(source, url, sha256)(folder, work, progress)
                return _lay_out(archive, origin, target, work, progress)
            finally:
                _clean(work, keep=not is_root(target))
    except Timeout as error:
        raise DataError(f"{folder}: another process fetches into this folder") from error
    except OSError as error:
        raise DataError(f"{folder}: cannot be written ({error.strerror or error})") from error


def _clean(work: Path, *, keep: bool) -> None:
    """Remove what is not needed any more; keep what has been downloaded where it may be needed again."""
    if keep and any(work.glob("archive-*")):
        shutil.rmtree(work / "unpacked", ignore_errors=True)
    else:
        shutil.rmtree(work, ignore_errors=True)


def _already(folder: Path) -> Fetched | None:
    if not folder.exists():
        return None
    if not folder.is_dir():
        raise DataError(f"{folder}: is a file; name a folder")
    if is_root(folder):
        manifest = read_manifest(folder)
        if manifest.kind == "phantoms":
            raise DataError(f"{folder}: holds phantoms; name another folder")
        return Fetched(manifest, "", already=True)
    if any(folder.iterdir()):
        raise DataError(f"{folder}: exists and is not empty; name another folder")
    return None


def _lay_out(archive: Path, origin: str, folder: Path, work: Path, progress: Progress) -> Fetched:
    unpacked = work / "unpacked"
    shutil.rmtree(unpacked, ignore_errors=True)  # of a process that was killed
    try:
        passed_over = unpack(archive, unpacked, lambda done, n: progress("unpack", done, n))
    except ArchiveError:
        if archive.parent == work:
            archive.unlink()  # or else the next call would meet it again
        raise
    read_manifest(unpacked)
    (unpacked / SOURCE_NOTE).write_text(_note(origin, passed_over), encoding="utf-8")
    if folder.exists():
        folder.rmdir()
    os.replace(unpacked, folder)
    return Fetched(read_manifest(folder), origin, passed_over=passed_over)


def _bring(source: Source, url: str | None, sha256: str | None) -> _Bring:
    if url is not None:
        return partial(_given, url, sha256)
    return _from_kaggle if source == "kaggle" else _from_mendeley


def _from_kaggle(folder: Path, work: Path, progress: Progress) -> tuple[Path, str]:
    try:
        return sources.kaggle_folder(), f"Kaggle, {sources.KAGGLE_PAGE}, verified by kagglehub"
    except DataError as error:
        raise DataError(f"{error}; {sources.by_hand('kaggle', folder)}") from error


def _from_mendeley(folder: Path, work: Path, progress: Progress) -> tuple[Path, str]:
    archive = sources.mendeley_archive()
    try:
        path = _downloaded(archive, work, progress)
    except (UnreachableError, ChecksumError) as error:
        raise DataError(f"{error}; {sources.by_hand('mendeley', folder)}") from error
    return path, f"Mendeley Data, {archive.url}, verified: sha256 {archive.sha256}"


def _given(url: str, sha256: str | None, folder: Path, work: Path, progress: Progress) -> tuple[Path, str]:
    scheme = urlsplit(url).scheme
    if scheme in ("http", "https"):
        path, shown = _downloaded(Archive(url, sha256), work, progress), _public(url)
    elif (path := Path(url).expanduser()).is_file():
        shown = path.name
    elif "://" in url:
        raise ConfigError(f"--url {url}: wanted https://, http:// or a file")
    else:
        raise DataError(f"--url {url}: no such file")
    try:
        found = file_sha256(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    if sha256 is not None and found != sha256:
        raise DataError(f"{path}: its sha256 is {found}, wanted {sha256}")
    known = found in (sha256, sources.MENDELEY_ARCHIVE.sha256)
    return path, f"{shown}, {'verified' if known else 'not verified, as no checksum was given'}: sha256 {found}"


def _downloaded(archive: Archive, work: Path, progress: Progress) -> Path:
    try:
        return download(
            archive.url, work, sha256=archive.sha256, progress=lambda done, n: progress("download", done, n)
        )
    except InterruptedDownloadError as error:
        raise DataError(f"{error}; the same command resumes it") from error


def _public(url: str) -> str:
    """Return an address without user, password and query, which may be secrets."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _note(origin: str, passed_over: tuple[PassedOver, ...]) -> str:
    lines = [
        "Chest X-Ray Images (Pneumonia)",
        "",
        f"Fetched on {datetime.now(UTC):%Y-%m-%d} by pneumosearch {__version__} from",
        origin,
        "",
        "The images are as they came; folders were laid out as train, val (if there was one) and test.",
        *(passed.remark() for passed in passed_over),
        "",
        f"Licence of the published data set: {LICENCE}",
        "To be cited:",
        *CITATION,
    ]
    return "\n".join(lines) + "\n"
