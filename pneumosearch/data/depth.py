"""How many bits the levels of an image have that is stored in more than 8: what is declared, and what is there.

Detectors give 10 to 14 bits, which formats store in 16. Taking the upper byte would make such images nearly black.
"""

import struct
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Levels = npt.NDArray[Any]  # (height, width), integers or floats

#: Bits that detectors and formats have; content is counted in the fewest of them that hold it.
_USUAL: Final = (8, 10, 12, 14, 16)
_PNG: Final = b"\x89PNG\r\n\x1a\n"
_DEPTH_BYTE: Final = 24  # of a PNG file: bits of each sample


def needed_bits(levels: Levels, declared: int | None = None) -> int:
    """Return how many bits the levels of an image have.

    Args:
        levels: Below zero counts as zero. Floats up to 1 are fractions: they have 8 bits, as `reduced` makes of them.
        declared: What the file says. A file that says 12 bits, but has larger levels, has scaled them to all 16, as
            PNG wants it.
    """
    most = _most(levels)
    if levels.dtype.kind == "f" and most <= 1:
        return 8
    if declared is not None:
        return declared if most < 2**declared else max(16, int(most).bit_length())
    return next((bits for bits in _USUAL if most < 2**bits), int(most).bit_length())


def reduced(levels: Levels, bits: int) -> npt.NDArray[np.uint8]:
    """Return levels of that many bits as grey levels of 0 to 255; for 16 bits, the upper byte."""
    if levels.dtype.kind == "f":
        finite = np.nan_to_num(levels, nan=0.0)
        factor = 255.0 if _most(levels) <= 1 else 255.0 / (2**bits - 1)
        return np.asarray((finite * factor).round().clip(0, 255), dtype=np.uint8)
    positive = np.asarray(levels, dtype=np.int64).clip(0)
    return np.asarray((positive >> max(0, bits - 8)).clip(0, 255), dtype=np.uint8)


def _most(levels: Levels) -> float:
    finite = levels[np.isfinite(levels)] if levels.dtype.kind == "f" else levels
    return max(0.0, float(finite.max())) if finite.size else 0.0


def may_be_deep(content: bytes) -> bool:
    """Tell, by a file's first bytes, whether it may be a deep image whose bits the rest of its folder helps to tell."""
    return png_is_deep(content) or content[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def png_is_deep(content: bytes) -> bool:
    """Tell whether a file is a PNG of 16 bits a sample."""
    return content[:8] == _PNG and content[_DEPTH_BYTE : _DEPTH_BYTE + 1] == b"\x10"


def png_declares(content: bytes) -> int | None:
    """Return the significant bits that a PNG declares, its chunk sBIT."""
    for name, data in _chunks(content):
        if name == b"sBIT" and data:
            return max(data)
        if name == b"IDAT":
            break
    return None


def _chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = len(_PNG)
    while at + 8 <= len(content):
        (length,), name = struct.unpack(">I", content[at : at + 4]), content[at + 4 : at + 8]
        yield name, content[at + 8 : at + 8 + length]
        at += length + 12
