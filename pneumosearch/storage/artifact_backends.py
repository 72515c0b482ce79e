"""A folder, a bucket or an SFTP server as an artifact store of Optuna whose folders can be listed and removed.

fsspec reads and writes buckets and SFTP servers. Folders of this machine are written here, because fsspec leaves a
half-written file where a process dies.
"""

import errno
import logging
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeVar, cast
from urllib.parse import urlsplit
from uuid import uuid4

from optuna.artifacts import FileSystemArtifactStore
from optuna.artifacts.exceptions import ArtifactNotFound

from pneumosearch._utils.atomic import replacing

#: File or object that marks an artifact store: a folder without it is a mount point whose disk is not mounted.
MARKER: Final = "pneumosearch-artifacts.txt"

#: The package and class of each kind of URL. fsspec's own class for SFTP trusts the key of any host.
FILE_SYSTEMS: Final = {
    "s3": ("s3fs", "S3FileSystem"),
    "gs": ("gcsfs", "GCSFileSystem"),
    "az": ("adlfs", "AzureBlobFileSystem"),
    "sftp": ("sshfs", "SSHFileSystem"),
}

_WORD: Final = r"[A-Za-z0-9~%][A-Za-z0-9._~%-]*"  # no dot first: neither "..", nor a temporary file
_KEY: Final = re.compile(rf"{_WORD}(/{_WORD})*")
_CHUNK: Final = 2**20  # bytes
_BLOCK: Final = 2**24  # bytes that are read at a time

# One attempt, as `Artifacts` retries: so there is one time limit.
_S3: Final = {"config_kwargs": {"connect_timeout": 10, "read_timeout": 60, "retries": {"total_max_attempts": 1}}}
_SFTP: Final = {"known_hosts": (), "connect_timeout": 10, "keepalive_interval": 20}  # (): the user's
_Result = TypeVar("_Result")


class Folder(FileSystemArtifactStore):
    """A folder of artifacts.

    Args:
        root: The folder.
        marked: Whether it is shared between machines; then nothing is written while its marker is missing.
    """

    def __init__(self, root: Path, *, marked: bool = False) -> None:
        super().__init__(root)
        self._root, self._marked = root, marked

    def open_reader(self, artifact_id: str) -> BinaryIO:
        """Open an artifact. Raises `ArtifactNotFound`."""
        return super().open_reader(checked_key(artifact_id))

    def read(self, artifact_id: str, take: Callable[[BinaryIO], _Result]) -> _Result:
        """Return what `take` makes of an artifact. Raises `ArtifactNotFound`."""
        with self.open_reader(artifact_id) as file:
            return take(file)

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        """Write an artifact, whole or not at all."""
        if self._marked and artifact_id != MARKER and not (self._root / MARKER).exists():
            raise FileNotFoundError(errno.ENOENT, "its marker is not there: is it mounted?", str(self._root / MARKER))
        path = self._root / checked_key(artifact_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary, temporary.open("wb") as file:
            shutil.copyfileobj(content_body, file, _CHUNK)

    def remove(self, artifact_id: str) -> None:
        """Remove an artifact. Raises `ArtifactNotFound`."""
        super().remove(checked_key(artifact_id))

    def names(self, folder: str) -> list[str]:
        """Return the names of the folders in `folder`, sorted."""
        path = self._root / checked_key(folder)
        return sorted(child.name for child in path.iterdir() if child.is_dir()) if path.is_dir() else []

    def remove_folder(self, folder: str) -> None:
        """Remove a folder, with temporary files of processes that died."""
        with suppress(FileNotFoundError):
            shutil.rmtree(self._root / checked_key(folder))


class Bucket:
    """The objects of a bucket, or the files of an SFTP server, below a URL that fsspec understands.

    Address and credentials are those of the environment, as the file system's own package finds them.

    Args:
        url: Such as s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, az://CONTAINER/PREFIX or sftp://HOST/FOLDER.

    Raises:
        ImportError: The package for this kind of URL is not installed.
    """

    def __init__(self, url: str) -> None:
        self._url = urlsplit(url)
        package, name = FILE_SYSTEMS[self._url.scheme]
        self._kind = getattr(import_module(package), name)
        logging.getLogger(package).setLevel(logging.CRITICAL)  # errors are also raised, and shown in one line
        self._connected: Any = None

    def open_reader(self, artifact_id: str) -> BinaryIO:
        """Open an artifact. Raises `ArtifactNotFound`."""
        path = self._path(artifact_id)
        with _not_found(artifact_id):
            return cast(BinaryIO, self._files.open(path, "rb", block_size=_BLOCK))

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        """Write an artifact, whole or not at all."""
        path, content = self._path(artifact_id), b"".join(iter(lambda: content_body.read(_CHUNK), b""))
        if self._url.scheme != "sftp":  # an object of a bucket is there when all of it is
            self._files.pipe_file(path, content)
            return
        folder, _, name = path.rpartition("/")
        temporary = f"{folder}/.{name}.{uuid4().hex[:8]}"
        self._files.pipe_file(temporary, content)
        self._files.mv(temporary, path)

    def remove(self, artifact_id: str) -> None:
        """Remove an artifact. May raise `ArtifactNotFound` where there is none."""
        path = self._path(artifact_id)
        with _not_found(artifact_id):
            self._files.rm_file(path)

    def names(self, folder: str) -> list[str]:
        """Return the names of the folders in `folder`, sorted."""
        path = self._path(folder)
        try:
            entries = self._files.ls(path, detail=True)
        except FileNotFoundError:
            return []
        return sorted(entry["name"].rstrip("/").rpartition("/")[2] for entry in entries if entry["type"] == "directory")

    def remove_folder(self, folder: str) -> None:
        """Remove the objects whose key begins with `folder` and a slash."""
        path = self._path(folder)
        with suppress(FileNotFoundError):
            self._files.rm(path, recursive=True)

    def reconnect(self) -> None:
        """Let the next call make a connection of its own, as that of the last one may be broken."""
        self._connected = None

    @property
    def _files(self) -> Any:
        """The file system of fsspec, connected at the first call, which may be repeated."""
        if self._connected is None:
            options: dict[str, Any] = {"use_listings_cache": False} | (_S3 if self._url.scheme == "s3" else {})
            if self._url.scheme == "sftp":
                address = {"host": self._url.hostname, "port": self._url.port, "username": self._url.username}
                options = _SFTP | {key: value for key, value in address.items() if value is not None}
            self._connected = self._kind(skip_instance_cache=True, **options)
        return self._connected

    def _path(self, artifact_id: str) -> str:
        bucket = "" if self._url.scheme == "sftp" else self._url.netloc
        return bucket + "/".join((self._url.path.rstrip("/"), checked_key(artifact_id)))


@contextmanager
def _not_found(key: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise ArtifactNotFound(f"no artifact {key!r}") from error


def is_key(text: str) -> bool:
    """Tell whether a key, or a prefix of keys, stays below the root."""
    return _KEY.fullmatch(text) is not None


def checked_key(key: str) -> str:
    """Return a key, which may come from a store. Raises `ArtifactNotFound` for one that would leave the root."""
    if not is_key(key):
        raise ArtifactNotFound(f"no artifact can have the key {key!r}")
    return key
