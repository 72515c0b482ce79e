"""A folder, or a bucket of S3, as an artifact store of Optuna whose folders can be listed and removed."""

import errno
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol, TypeVar

from optuna.artifacts import FileSystemArtifactStore
from optuna.artifacts.exceptions import ArtifactNotFound

from pneumosearch._utils.atomic import replacing

#: File or object by which a place is known: a folder without it is a mount point whose disk is not there.
MARKER: Final = "pneumosearch-artifacts.txt"

_WORD: Final = r"[A-Za-z0-9~%][A-Za-z0-9._~%-]*"  # no dot first: neither "..", nor what is being written
_KEY: Final = re.compile(rf"{_WORD}(/{_WORD})*")
_CHUNK: Final = 2**20  # bytes
_Result = TypeVar("_Result")


class Place(Protocol):
    """What keeps artifacts by their keys: an artifact store of Optuna whose folders can be listed and removed."""

    def open_reader(self, artifact_id: str) -> BinaryIO:
        """Open an artifact. Raises `ArtifactNotFound`."""

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        """Write an artifact, whole or not at all, over the one that has this key."""

    def remove(self, artifact_id: str) -> None:
        """Remove an artifact. May raise `ArtifactNotFound` where there is none."""

    def names(self, folder: str) -> list[str]:
        """Return the names of the folders in `folder`, sorted."""

    def remove_folder(self, folder: str) -> None:
        """Remove all artifacts whose key begins with `folder` and a slash."""


class Folder(FileSystemArtifactStore):
    """A folder of artifacts.

    Args:
        root: The folder.
        marked: Whether it is one that was made to be shared, and is not written to while its marker is missing.
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
        """Remove a folder, and what was being written there when its process died."""
        with suppress(FileNotFoundError):
            shutil.rmtree(self._root / checked_key(folder))


class Bucket:
    """The objects of a bucket of S3, or of what speaks its protocol, whose keys begin with a prefix.

    Address and credentials are those of the environment, as boto3 finds them.

    Raises:
        ImportError: boto3 is not installed.
        ValueError: The environment names no usable endpoint.
    """

    def __init__(self, bucket: str, prefix: str) -> None:
        from optuna.artifacts import Boto3ArtifactStore

        self._bucket, self._prefix = bucket, prefix
        self._client = _s3_client()
        self._store = Boto3ArtifactStore(bucket, self._client)  # copies what it sends: a failed body can be sent again

    def open_reader(self, artifact_id: str) -> BinaryIO:
        """Open an artifact. Raises `ArtifactNotFound`."""
        return self._store.open_reader(self._key(artifact_id))

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        """Write an artifact, whole or not at all."""
        self._store.write(self._key(artifact_id), content_body)

    def remove(self, artifact_id: str) -> None:
        """Remove an artifact, where there is one."""
        self._store.remove(self._key(artifact_id))

    def names(self, folder: str) -> list[str]:
        """Return the names of the folders in `folder`, sorted."""
        pages = self._pages(folder, Delimiter="/")
        found = (entry["Prefix"] for page in pages for entry in page.get("CommonPrefixes", ()))
        return sorted(prefix.rstrip("/").rpartition("/")[2] for prefix in found)

    def remove_folder(self, folder: str) -> None:
        """Remove the objects whose key begins with `folder` and a slash."""
        for page in self._pages(folder):
            for entry in page.get("Contents", ()):
                self._client.delete_object(Bucket=self._bucket, Key=entry["Key"])

    def _pages(self, folder: str, **options: str) -> Iterator[dict[str, Any]]:
        pages = self._client.get_paginator("list_objects_v2")
        yield from pages.paginate(Bucket=self._bucket, Prefix=self._key(folder) + "/", **options)

    def _key(self, artifact_id: str) -> str:
        return "/".join(filter(None, (self._prefix, checked_key(artifact_id))))


def is_key(text: str) -> bool:
    """Tell whether a key, or a prefix of keys, stays in its place."""
    return _KEY.fullmatch(text) is not None


def checked_key(key: str) -> str:
    """Return a key, which may come from a store. Raises `ArtifactNotFound` for one that would leave the place."""
    if not is_key(key):
        raise ArtifactNotFound(f"no artifact can have the key {key!r}")
    return key


def _s3_client() -> Any:
    import boto3
    from botocore.config import Config

    # Only our own patience repeats, so that it is the one bound.
    times = {"connect_timeout": 10, "read_timeout": 60, "retries": {"total_max_attempts": 1}}
    return boto3.client("s3", config=Config(**times))
