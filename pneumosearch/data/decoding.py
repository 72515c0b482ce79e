"""From an image file to grey levels of 0 to 255: the formats, and how many bits of deep images count."""

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from pneumosearch._utils.atomic import read_whole
from pneumosearch._utils.foreign_warnings import foreign_warnings
from pneumosearch.data import dicom
from pneumosearch.data.depth import Levels, needed_bits, png_declares, png_is_deep, reduced
from pneumosearch.errors import DataError, as_message

PixelArray = npt.NDArray[np.uint8]

_FORMATS: Final = ("JPEG", "PNG", "BMP", "TIFF", "WEBP")
_DECODING_ERRORS: Final = (
    *(OSError, SyntaxError, ValueError, ArithmeticError, MemoryError, cv2.error),
    *(Image.DecompressionBombError, Image.DecompressionBombWarning),
)
_DEEP_MODES: Final = ("I", "F")  # how those of Pillow begin that have more than 8 bits
_BITS_PER_SAMPLE, _MOST_LEVEL, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 281, 262, 0  # tags of TIFF, and a value

_log = logging.getLogger(__name__)


def decode(path: Path, bits: int | None = None) -> PixelArray:
    """Decode an image file of any size into (height, width) grey levels of 0 to 255.

    Args:
        path: JPEG, PNG, BMP, TIFF, WebP, or DICOM, of which the first picture counts.
        bits: Of the levels of deep images (more than 8 bits a pixel) where it is known, as of the folder. A file whose
            levels need more counts with these; without `bits` its own content decides.

    Raises:
        DataError: Not a whole image of these formats; the message names the file.
    """
    with opened(path) as image:
        found = _deep_levels(image)
        if found is None:
            image.draft("L", image.size)
            return np.asarray(image.convert("L"))
        levels, needed = found
        grey = reduced(levels, max(needed, bits or 0))
        return 255 - grey if _white_is_zero(image) else grey


def deep_bits(path: Path) -> int | None:
    """Return how many bits the levels of a deep image need; None for an ordinary image, and for DICOM, which says it.

    Raises:
        DataError: As `decode`.
    """
    with opened(path) as image:
        found = _deep_levels(image)
    return found[1] if found else None


def file_size(path: Path) -> tuple[int, int] | None:
    """Return (width, height) of an image file, pixels; None where it cannot be read."""
    try:
        with opened(path) as image:
            return image.size
    except DataError:
        return None


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """Open an image file for what is done inside; raises as `decode`.

    What libraries warn meanwhile (damaged notes beside the pixels, EXIF and the like) is logged with the file's name.
    """
    with foreign_warnings("PIL", "pydicom") as heard:
        try:
            content = read_whole(path)
            with _image_of(content) as image:
                _refuse_bomb(heard)
                yield image
        except UnidentifiedImageError as error:
            raise DataError(f"{path}: not a JPEG, PNG, BMP, TIFF, WebP or DICOM image") from error
        except dicom.NoDicomSupportError as error:
            raise dicom.NoDicomSupportError(f"{path}: {error}") from error
        except _DECODING_ERRORS as error:
            raise DataError(f"{path}: cannot be decoded ({error})") from error
    for warning in heard:
        _warn_once(path, " ".join(str(warning).split()))


def _image_of(content: bytes) -> Image.Image:
    if dicom.is_dicom(content):
        return Image.fromarray(dicom.grey_levels(content, Image.MAX_IMAGE_PIXELS))
    image = Image.open(io.BytesIO(content), formats=_FORMATS)
    image.info["content"] = content  # which alone has the levels of deep colour images
    return image


def _refuse_bomb(heard: list[Warning]) -> None:
    """Refuse by its header an image of more than 89 million pixels, four times the largest X-ray."""
    for warning in heard:
        if isinstance(warning, Image.DecompressionBombWarning):
            raise warning


@cache
def _warn_once(path: Path, text: str) -> None:
    """Log what a library says of a file, once in a process, however often the file is read."""
    _log.warning("%s", as_message(f"{path}: {text}"))


def _deep_levels(image: Image.Image) -> tuple[Levels, int] | None:
    """Return the levels of a deep image and how many bits they need; None where it has at most 8 bits."""
    content, declared = image.info.get("content", b""), None
    is_tiff = isinstance(image, TiffImageFile)
    if is_tiff:
        declared = _tiff_declares(image)
    elif png_is_deep(content):
        declared = png_declares(content)
    if image.mode.startswith(_DEEP_MODES):
        levels: Levels = np.asarray(image)
    elif png_is_deep(content) or (is_tiff and max(_tag(image, _BITS_PER_SAMPLE, (8,))) > 8):
        coloured = _deep_colour(content)
        if coloured is None:
            return None
        levels = coloured
    else:
        return None
    return levels, needed_bits(levels, declared)


def _deep_colour(content: bytes) -> Levels | None:
    """Return the grey levels of a colour image of 16 bits where they need fewer; others are as well in Pillow's 8."""
    levels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_ANYDEPTH | cv2.IMREAD_GRAYSCALE)
    return levels if levels is not None and levels.dtype != np.uint8 and needed_bits(levels) < 16 else None


def _tag(image: Image.Image, tag: int, default: tuple[int, ...]) -> tuple[int, ...]:
    value = image.tag_v2.get(tag, default) if isinstance(image, TiffImageFile) else default
    return tuple(value) if isinstance(value, tuple | list) else (int(value),)


def _tiff_declares(image: Image.Image) -> int | None:
    """Return the bits that a TIFF says its levels have: of each sample where it packs them, else of its largest."""
    per_sample, most = max(_tag(image, _BITS_PER_SAMPLE, (8,))), max(_tag(image, _MOST_LEVEL, (0,)))
    if 8 < per_sample < 16:
        return per_sample
    return int(most).bit_length() if most > 255 else None


def _white_is_zero(image: Image.Image) -> bool:
    """Tell whether a deep TIFF counts from white; Pillow turns only shallow ones."""
    return _tag(image, _PHOTOMETRIC, (1,))[0] == _WHITE_IS_ZERO
