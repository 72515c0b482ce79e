"""Pixels decoded once: a `uint8` file of one channel that every epoch, trial and worker maps."""

import io
import json
import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Final, Literal, NamedTuple, TypeVar

import cv2
import numpy as np
import numpy.typing as npt
from filelock import FileLock
from PIL import Image, UnidentifiedImageError
from platformdirs import user_cache_path

from pneumosearch._utils.atomic import read_whole, replacing, writable_folder, write_text
from pneumosearch._utils.foreign_warnings import foreign_warnings
from pneumosearch.config import Equalization
from pneumosearch.data.manifest import ImageFile, ManifestPart
from pneumosearch.errors import DataError, as_message
from pneumosearch.records.dataset import Interpolation

PixelArray = npt.NDArray[np.uint8]
Progress = Callable[[int, int], None]  # (images done, images in all)
Result = TypeVar("Result")

#: Pillow samples the nearest pixel at its centre, as `INTER_NEAREST_EXACT` does; `INTER_NEAREST` is off by half.
_CV2_INTERPOLATION: Final = {"nearest": cv2.INTER_NEAREST_EXACT, "area": cv2.INTER_AREA}
_FORMATS: Final = ("JPEG", "PNG", "BMP", "TIFF", "WEBP")
_VERSION: Final = 1  # of what is written; raise it when the same images would give other pixels
_CHUNK: Final = 256  # images decoded between two progress reports
_DECODING_ERRORS: Final = (
    *(OSError, SyntaxError, ValueError, ArithmeticError, MemoryError, cv2.error),
    *(Image.DecompressionBombError, Image.DecompressionBombWarning),
)

_log = logging.getLogger(__name__)


class _Form(NamedTuple):
    """What is made of each decoded image."""

    size: int
    interpolation: Interpolation
    equalization: Equalization

    def __str__(self) -> str:
        return f"{self.size}-{self.interpolation}" + ("" if self.equalization == "none" else f"-{self.equalization}")

    def of(self, image: PixelArray) -> PixelArray:
        shrunk = shrink(image, self.size, self.interpolation)
        return shrunk if self.equalization == "none" else equalize(shrunk)


@dataclass(frozen=True)
class Pixels:
    """The decoded images of one part, in the order of its images."""

    part: ManifestPart
    array: PixelArray  # (n, size, size), a read-only map of the cache file
    skipped: tuple[str, ...] = ()  # names of unreadable images that were left out, on request


def load_pixels(
    part: ManifestPart,
    size: int,
    interpolation: Interpolation,
    cache_dir: Path,
    *,
    equalization: Equalization = "none",
    skip_unreadable: bool = False,
    progress: Progress | None = None,
) -> Pixels:
    """Map the pixels of `part`, decoding and shrinking its images first where no cache file has them.

    Args:
        part: The images; their content is the key, so a changed file is decoded anew.
        size: Side of the square images, in pixels. The aspect ratio is not kept, as in the study.
        interpolation: "nearest" as the published script, or "area" (the mean of the covered pixels).
        equalization: Of the contrast of the shrunk image: "none" as published, or "clahe" (see `equalize`).
        cache_dir: Where the file is kept; the user's own cache folder serves where it cannot be written.
        skip_unreadable: Leave out images that cannot be decoded instead of raising.
        progress: Called now and then while decoding.

    Raises:
        DataError: An image cannot be decoded (its name is in the message), or there is no room for the file.
    """
    if part.unreadable:
        if not skip_unreadable:
            raise DataError(_unreadable_message(part, list(part.unreadable), "read"))
        readable = part.without(part.unreadable)
        found = load_pixels(
            readable, size, interpolation, cache_dir, equalization=equalization, skip_unreadable=True, progress=progress
        )
        return replace(found, skipped=(*part.unreadable, *found.skipped))
    folder = cache_folder(cache_dir)
    form = _Form(size, interpolation, equalization)
    path = folder / f"{part.part}-{part.fingerprint}-{form}-v{_VERSION}.npy"
    array, bad = _look_up(path, part)
    if array is None and not bad:
        with _alone(path):  # of the processes that start at once, one decodes
            array, bad = _look_up(path, part)
            if array is None and not bad:
                bad = _write_cache(part, form, path, progress)
                array = _open_cache(path)
    if array is not None:
        return Pixels(part, array)
    if not bad:
        raise DataError(f"{path}: removed while it was made; the same command makes it again")
    if not skip_unreadable:
        raise DataError(_unreadable_message(part, bad))
    rest = load_pixels(part.without(bad), size, interpolation, cache_dir, equalization=equalization, progress=progress)
    return Pixels(rest.part, rest.array, tuple(bad))


def cache_folder(wanted: Path) -> Path:
    """Return `wanted`, or the user's own cache folder where that cannot be written."""
    return wanted if writable_folder(wanted) else user_cache_path("pneumosearch")


def decode(path: Path) -> PixelArray:
    """Decode an image file of any size into (height, width) grey levels of 0 to 255.

    Raises:
        DataError: Not a whole image of these formats; the message names the file.
    """
    with opened(path) as image:
        if image.mode.startswith("I"):  # 16-bit PNG
            return (np.asarray(image, dtype=np.uint32) >> 8).clip(0, 255).astype(np.uint8)
        image.draft("L", image.size)
        return np.asarray(image.convert("L"))


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """Open an image file for what is done inside; raises as `decode`.

    What Pillow warns meanwhile (damaged notes beside the pixels, EXIF and the like) is logged with the file's name.
    """
    with foreign_warnings("PIL") as heard:
        try:
            with Image.open(io.BytesIO(read_whole(path)), formats=_FORMATS) as image:
                _refuse_bomb(heard)
                yield image
        except UnidentifiedImageError as error:
            raise DataError(f"{path}: not a JPEG, PNG, BMP, TIFF or WebP image") from error
        except _DECODING_ERRORS as error:
            raise DataError(f"{path}: cannot be decoded ({error})") from error
    for warning in heard:
        _warn_once(path, " ".join(str(warning).split()))


def _refuse_bomb(heard: list[Warning]) -> None:
    """Refuse by its header an image of more than 89 million pixels, four times the largest X-ray."""
    for warning in heard:
        if isinstance(warning, Image.DecompressionBombWarning):
            raise warning


@cache
def _warn_once(path: Path, text: str) -> None:
    """Log what a library says of a file, once in a process, however often the file is read."""
    _log.warning("%s", as_message(f"{path}: {text}"))


def network_input(path: Path, size: int, interpolation: Interpolation, equalization: Equalization) -> PixelArray:
    """Decode a file and make of it what `load_pixels` makes, (size, size); raises as `decode`."""
    return _Form(size, interpolation, equalization).of(decode(path))


def shrink(image: PixelArray, size: int, interpolation: Interpolation) -> PixelArray:
    """Resize (height, width) to (size, size) without keeping the aspect ratio."""
    enlarges = interpolation == "area" and min(image.shape) < size
    flag = cv2.INTER_LINEAR if enlarges else _CV2_INTERPOLATION[interpolation]
    return np.asarray(cv2.resize(image, (size, size), interpolation=flag), dtype=np.uint8)


def equalize(image: PixelArray) -> PixelArray:
    """Equalise contrast within an 8 x 8 grid of tiles, limited to twice the mean (CLAHE); (height, width) stays."""
    return np.asarray(cv2.createCLAHE(clipLimit=2.0, tileGridSize=(8, 8)).apply(image), dtype=np.uint8)


def _open_cache(path: Path) -> PixelArray | None:
    try:
        array: PixelArray = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, EOFError):
        path.unlink(missing_ok=True)  # cut short or overwritten: decode again
        return None
    return array


def _look_up(path: Path, part: ManifestPart) -> tuple[PixelArray | None, list[str]]:
    """Return the pixels that are kept, or else the names of images that are known to be unreadable."""
    array = _open_cache(path)
    return array, [] if array is not None else _known_bad(path, part)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keep other processes from writing the file; where the file system has no locks, each writes one and one stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path.with_name(f".{path.name}.lock"))
    with suppress(OSError, NotImplementedError):
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _known_bad(path: Path, part: ManifestPart) -> list[str]:
    """Names of the images that an earlier start found unreadable; the key is the content, so they still are."""
    try:
        known = set(map(str, json.loads(path.with_suffix(".unreadable.json").read_text(encoding="utf-8"))))
    except (OSError, ValueError):
        return []
    return [image.name for image in part.images if image.name in known]


def _write_cache(part: ManifestPart, form: _Form, path: Path, progress: Progress | None) -> list[str]:
    """Write the cache file, or, where images cannot be decoded, the list of their names, and return that list."""
    bad: list[str] = []
    try:
        _check_room(path.parent, len(part.images) * form.size**2)
        with replacing(path) as temporary:
            with temporary.open("wb") as file:
                shape = (len(part.images), form.size, form.size)
                np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
                for image, pixels in _decode_all(part, form, progress):
                    if pixels is None:
                        bad.append(image.name)
                    else:
                        file.write(pixels.tobytes())
            if bad:
                write_text(path.with_suffix(".unreadable.json"), json.dumps(bad))
                raise _UnreadableError
    except _UnreadableError:
        return bad
    except OSError as error:
        raise DataError(f"{path}: the pixel cache cannot be written ({error.strerror})") from error
    return bad


class _UnreadableError(Exception):
    """Leaves the writing of a cache file that would lack images."""


def _decode_all(
    part: ManifestPart, form: _Form, progress: Progress | None
) -> Iterator[tuple[ImageFile, PixelArray | None]]:
    def read(image: ImageFile) -> PixelArray | None:
        try:
            return form.of(decode(part.path(image)))
        except DataError:
            return None

    return in_threads(part.images, read, progress)


def in_threads(
    images: Sequence[ImageFile], work: Callable[[ImageFile], Result], progress: Progress | None
) -> Iterator[tuple[ImageFile, Result]]:
    """Yield each image with what `work` makes of it, in order; a few hundred are in hand at a time."""
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(images), _CHUNK):
            chunk = images[start : start + _CHUNK]
            yield from zip(chunk, pool.map(work, chunk), strict=True)
            if progress:
                progress(start + len(chunk), len(images))


def _check_room(folder: Path, n_bytes: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < n_bytes:
        raise DataError(
            f"{folder}: {n_bytes / 1e6:.0f} MB are needed for the pixel cache and {free / 1e6:.0f} MB are free; "
            "make room or choose another folder with --results"
        )


def _unreadable_message(part: ManifestPart, bad: list[str], verb: Literal["read", "decoded"] = "decoded") -> str:
    more = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
    return f"{part.folder / bad[0]}: cannot be {verb}{more}; mend or remove it, or pass --skip-unreadable"
