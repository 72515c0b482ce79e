"""One file from a web server, resumed where it broke off, and held to its checksum by pooch."""

import hashlib
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from pneumosearch import __version__
from pneumosearch.errors import DataError

if TYPE_CHECKING:
    import requests

#: Called with the bytes that have come and those of the whole file, None where the server does not say.
Progress = Callable[[int, int | None], None]

#: Some servers refuse what does not name a browser; this is how programs say who they are all the same.
HEADERS: Final = {
    "User-Agent": f"Mozilla/5.0 (compatible; pneumosearch/{__version__})",
    "Accept-Encoding": "identity",  # or else the bytes on the way are not those of the file
}
TIMEOUT: Final = (10, 60)  # to connect, and between two pieces, s

_PIECE: Final = 1 << 16  # bytes; what came of a piece before a break is lost


class UnreachableError(DataError):
    """A server gave no answer, or not the file; the message says why."""


class InterruptedDownloadError(DataError):
    """A download broke off; what has come is kept, and the next call asks for the rest."""


class ChecksumError(DataError):
    """A downloaded file is not the one that was asked for; it is deleted."""


def download(url: str, folder: Path, *, sha256: str | None, progress: Progress) -> Path:
    """Bring the file at `url` into `folder`. Call again after an interruption: only the rest is asked for.

    Args:
        url: http or https.
        folder: Keeps the file, and what has come of it, under names that depend on the address.
        sha256: What the file must have; None takes it as it comes.
        progress: Called after each piece.

    Returns:
        The path of the whole file.

    Raises:
        UnreachableError: The server gives no answer, or an error.
        InterruptedDownloadError: The connection broke off, and could not be made again.
        ChecksumError: The file is another one.
        DataError: The disk has too little room.
    """
    import pooch
    import requests

    pooch.get_logger().setLevel("WARNING")
    name = "archive-" + hashlib.sha256(url.encode()).hexdigest()[:12]
    resuming = _Resuming(folder / f"{name}.part", progress)
    try:
        return Path(pooch.retrieve(url, known_hash=sha256, fname=name, path=folder, downloader=resuming))
    except requests.exceptions.RequestException as error:
        kept = resuming.kept
        if kept and not isinstance(error, requests.exceptions.HTTPError):
            raise InterruptedDownloadError(
                f"{host(url)} broke off after {kept / 1e6:,.1f} MB ({reason(error)})"
            ) from error
        raise UnreachableError(f"{host(url)} gives no file ({reason(error)})") from error
    except ValueError as error:  # pooch's answer to a wrong checksum
        what = f"{host(url)}: what came is not the file with sha256 {sha256}"
        raise ChecksumError(f"{what}; it is deleted, and the same command asks for it anew") from error


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def host(url: str) -> str:
    """Return who serves `url`, without user and password."""
    return urlsplit(url).netloc.rpartition("@")[2]


class _Resuming:
    """A downloader for pooch, which has none that keeps what has come and asks for the rest."""

    def __init__(self, part: Path, progress: Progress) -> None:
        self._part, self._tag, self._progress = part, part.with_suffix(".tag"), progress
        self._farthest = 0

    @property
    def kept(self) -> int:
        """The number of bytes that the next call need not ask for."""
        return self._part.stat().st_size if self._part.exists() else 0

    def __call__(self, url: str, output_file: str, _pooch: Any) -> None:
        import requests

        with requests.Session() as session:
            session.headers.update(HEADERS)
            while not self._receive(session, url):
                pass
        os.replace(self._part, output_file)
        self._tag.unlink(missing_ok=True)

    def _receive(self, session: "requests.Session", url: str) -> bool:
        """Ask once for what is missing; tell whether the file is whole now. Raises where asking again is no use."""
        begin = self.kept
        wanted = {"Range": f"bytes={begin}-"} if begin else {}
        with session.get(url, headers=wanted, stream=True, timeout=TIMEOUT) as response:
            if begin and response.status_code == 416:  # nothing lies behind what has come
                return self._is_whole(response, begin)
            response.raise_for_status()
            if begin and not self._continues(response, begin):
                begin = 0
                if response.status_code == 206:
                    self._forget()
                    return False
            return self._append(response, begin)

    def _append(self, response: "requests.Response", begin: int) -> bool:
        from requests import exceptions

        length = response.headers.get("Content-Length")
        total = begin + int(length) if length else None
        need_space(self._part.parent, total - begin if total else 0)
        self._tag.write_text(_tag(response), encoding="utf-8")
        try:
            with self._part.open("ab" if begin else "wb") as file:
                for piece in response.iter_content(_PIECE):
                    file.write(piece)
                    self._progress(file.tell(), total)
        except (exceptions.ChunkedEncodingError, exceptions.ConnectionError, exceptions.Timeout):
            if self.kept <= self._farthest:  # the last attempt came as far
                raise
            self._farthest = self.kept
            return False
        return True

    def _continues(self, response: "requests.Response", begin: int) -> bool:
        """Tell whether an answer is the rest of the same file."""
        found = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
        same = not self._tag.exists() or self._tag.read_text(encoding="utf-8") == _tag(response)
        return response.status_code == 206 and same and found is not None and int(found[1]) == begin

    def _is_whole(self, response: "requests.Response", begin: int) -> bool:
        if response.headers.get("Content-Range") == f"bytes */{begin}":
            return True
        self._forget()
        return False

    def _forget(self) -> None:
        self._part.unlink(missing_ok=True)
        self._tag.unlink(missing_ok=True)


def need_space(folder: Path, n_bytes: int) -> None:
    """Raise `DataError` where the disk of `folder` has less than `n_bytes` free."""
    free = shutil.disk_usage(folder).free
    if free < n_bytes:
        raise DataError(f"{folder}: the disk has {free / 1e9:.1f} GB free, {n_bytes / 1e9:.1f} GB are needed")


def _tag(response: "requests.Response") -> str:
    """What a server says of a file that changes with it."""
    return response.headers.get("ETag") or response.headers.get("Last-Modified") or ""


def reason(error: "requests.exceptions.RequestException") -> str:
    """Return the reason in a few words; the text of requests names objects and addresses in memory."""
    from requests.exceptions import HTTPError, SSLError, Timeout

    if isinstance(error, HTTPError) and error.response is not None:
        return f"HTTP {error.response.status_code} {error.response.reason}"
    if isinstance(error, SSLError):
        return "its certificate is not accepted"
    if isinstance(error, Timeout):
        return "no answer in time"
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror and cause is not error:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    return "the connection was lost"
