"""Atomic files: a reader sees the old content or the new one, never a part.

This is own code because it is short, and because one library for it would be one more dependency of every room.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from uuid import uuid4

from pneumosearch.errors import PneumosearchError

#: Default limit on the size of a file; more than any X-ray has.
MAX_BYTES: Final = 200_000_000


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder; rename it to `path` on success, delete it on failure."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{uuid4().hex[:8]}{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read_whole(path: Path, limit: int = MAX_BYTES) -> bytes:
    """Return the content of a regular file. Devices and pipes are refused, because they may never end.

    Raises:
        OSError: The file cannot be read, is not a regular file, or has more than `limit` bytes.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    if status.st_size > limit:
        raise OSError(errno.EFBIG, f"{status.st_size} bytes, more than {limit}", str(path))
    return path.read_bytes()


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8 to `path`, completely or not at all. Missing folders are created."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_output(path: Path, text: str) -> None:
    """Write a file that the user asked for, as `write_text` does.

    Raises:
        PneumosearchError: The file cannot be written.
    """
    try:
        write_text(path, text)
    except OSError as error:
        raise PneumosearchError(f"{path}: cannot be written ({error.strerror})") from error


def writable_folder(folder: Path) -> bool:
    """Return whether files can be created in `folder`, which is created if it is missing."""
    probe = folder / f".probe-{uuid4().hex[:8]}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError:
        return False
    return True
