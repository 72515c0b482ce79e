"""Writing files so that a reader never meets a half-written one."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from uuid import uuid4

from pneumosearch.errors import PneumosearchError

#: More than any X-ray's file has.
MOST_BYTES: Final = 200_000_000


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary name beside `path` to write to; rename it to `path` on success, remove it on failure."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{uuid4().hex[:8]}{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read_whole(path: Path, most: int = MOST_BYTES) -> bytes:
    """Return the content of a file; only of a regular one, as a device or a pipe may never end.

    Raises:
        OSError: It cannot be read, is no regular file, or has more than `most` bytes.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    if status.st_size > most:
        raise OSError(errno.EFBIG, f"{status.st_size} bytes, more than {most}", str(path))
    return path.read_bytes()


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8 to `path`, whole or not at all; folders on the way are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_output(path: Path, text: str) -> None:
    """Write what a user asked for, as `write_text`. Raises `PneumosearchError` where it cannot be written."""
    try:
        write_text(path, text)
    except OSError as error:
        raise PneumosearchError(f"{path}: cannot be written ({error.strerror})") from error


def writable_folder(folder: Path) -> bool:
    """Tell whether files can be made in `folder`, which is made if need be."""
    probe = folder / f".probe-{uuid4().hex[:8]}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError:
        return False
    return True
