"""Names from the file system as text that can be stored and printed everywhere, and the way back to the file.

On Linux a file name is bytes. Python gives bytes that are not UTF-8 as lone surrogates, which no JSON, HTML or terminal
takes. Every name that leaves the file system goes through `printable_name`.
"""

import hashlib
import os
import unicodedata
from pathlib import Path
from typing import Final
from urllib.parse import unquote_to_bytes

_UNPRINTABLE: Final = ("Cc", "Cs", "Zl", "Zp")  # control characters, lone surrogates, separators of lines
_URI: Final = "file://"


def printable_name(name: str) -> str:
    """Return `name`, a path or a part of one, with every part as unique and printable UTF-8.

    A part that is printable stays as it is. In any other the bytes that cannot be printed become %XX, and a digest of
    the whole part follows its stem, so that two files never share a name: `scan_<FF>.png` is `scan_%FF~2b1c7d09.png`.
    """
    return "/".join(map(_printable_part, name.split("/")))


def _printable_part(part: str) -> str:
    if not any(map(_is_unprintable, part)):
        return part
    raw = os.fsencode(part)
    text = "".join(_escaped(char) if _is_unprintable(char) else char for char in part)
    stem, dot, suffix = text.rpartition(".")
    digest = hashlib.blake2b(raw, digest_size=4).hexdigest()
    return f"{stem}~{digest}.{suffix}" if dot else f"{text}~{digest}"


def _is_unprintable(char: str) -> bool:
    return unicodedata.category(char) in _UNPRINTABLE


def _escaped(char: str) -> str:
    return "".join(f"%{byte:02X}" for byte in os.fsencode(char))


def path_below(folder: Path, name: str) -> Path:
    """Return the path below `folder` whose `printable_name` is `name`; `folder / name` where no file has it."""
    if os.path.lexists(folder / name):
        return folder / name
    path = folder
    for part in name.split("/"):
        path /= _listed(path, part) or part
    return path


def _listed(folder: Path, part: str) -> str | None:
    try:
        return next((found for found in os.listdir(folder) if _printable_part(found) == part), None)
    except OSError:
        return None


def storable_path(path: Path) -> str:
    """Return a path as text: itself, or an absolute file: URI where it holds bytes that are not UTF-8."""
    text = str(path)
    return path.absolute().as_uri() if any(unicodedata.category(char) == "Cs" for char in text) else text


def path_of(text: str) -> Path:
    """Return the path that `storable_path` gave as text."""
    return Path(os.fsdecode(unquote_to_bytes(text.removeprefix(_URI)))) if text.startswith(_URI) else Path(text)
