"""Pixels decoded once: a `uint8` file of one channel that every epoch, trial and worker maps."""

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

import cv2
import numpy as np
from filelock import FileLock
from platformdirs import user_cache_path

from pneumosearch._utils.atomic import replacing, writable_folder, write_text
from pneumosearch.config import Equalization
from pneumosearch.data.decoding import PixelArray, decode, deep_bits
from pneumosearch.data.dicom import NoDicomSupportError
from pneumosearch.data.manifest import ImageFile, ManifestPart
from pneumosearch.errors import DataError
from pneumosearch.records.dataset import Interpolation

Progress = Callable[[int, int], None]  # (images done, images in all)
Result = TypeVar("Result")

#: Pillow samples the nearest pixel at its centre, as `INTER_NEAREST_EXACT` does; `INTER_NEAREST` is off by half.
_CV2_INTERPOLATION: Final = {"nearest": cv2.INTER_NEAREST_EXACT, "area": cv2.INTER_AREA}
_VERSION: Final = 1  # of what is written; raise it when the same images would give other pixels
_BITS_OF_OLD: Final = 16  # with which deep images were read before their bits were judged
_STANDARD_MEAN: Final = 127.5  # grey levels
_STANDARD_DEVIATION: Final = 51.0
_CHUNK: Final = 256  # decoded images that are in memory at a time
_REPORT: Final = 16  # images decoded between two progress reports


class _Form(NamedTuple):
    """How a decoded image becomes the input of a network."""

    size: int
    interpolation: Interpolation
    equalization: Equalization
    bits: int | None = None  # of deep images; None where there are none

    def __str__(self) -> str:
        equalized = "" if self.equalization == "none" else f"-{self.equalization}"
        bits = "" if self.bits in (None, _BITS_OF_OLD) else f"-{self.bits}bit"
        return f"{self.size}-{self.interpolation}{equalized}{bits}"

    def of(self, image: PixelArray) -> PixelArray:
        shrunk = shrink(image, self.size, self.interpolation)
        return equalized(shrunk, self.equalization)


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
    bits: int | None = None,
    progress: Progress | None = None,
) -> Pixels:
    """Map the pixels of `part`, decoding and shrinking its images first where no cache file has them.

    Args:
        part: The images; their content is the key, so a changed file is decoded anew.
        size: Side of the square images, in pixels. The aspect ratio is not kept, as in the study.
        interpolation: "nearest" as the published script, or "area" (the mean of the covered pixels).
        equalization: Of the contrast of the shrunk image: "none" as published, or another (see `equalized`).
        cache_dir: Where the file is kept; the user's own cache folder serves where it cannot be written.
        skip_unreadable: Leave out images that cannot be decoded instead of raising.
        bits: Fewest that the levels of deep images (more than 8 bits a pixel) have; the part's own may need more.
        progress: Called now and then while decoding.

    Raises:
        DataError: An image cannot be decoded (its name is in the message), or there is no room for the file.
    """
    skipped = tuple(part.unreadable) if skip_unreadable else ()
    readable = part.without(skipped) if skipped else part
    folder = cache_folder(cache_dir)
    form = _Form(size, interpolation, equalization, _more_bits(part_bits(readable, folder, progress), bits))
    array, bad = _decoded_once(readable, form, folder, progress)
    if array is not None:
        return Pixels(readable, array, skipped)
    if not skip_unreadable:
        raise DataError(_unreadable_message(readable, bad))
    remaining = readable.without(bad)
    rest = load_pixels(
        remaining, size, interpolation, cache_dir, equalization=equalization, bits=form.bits, progress=progress
    )
    return Pixels(rest.part, rest.array, (*skipped, *bad))


def _decoded_once(
    part: ManifestPart, form: _Form, folder: Path, progress: Progress | None
) -> tuple[PixelArray | None, list[str]]:
    """Map the cache file of `part`, which is written first if need be; None where images cannot be decoded: these."""
    path = folder / f"{part.part}-{part.fingerprint}-{form}-v{_VERSION}.npy"
    array, bad = _look_up(path, part)
    if array is None and not bad:
        with _alone(path):  # of the processes that start at once, one decodes
            array, bad = _look_up(path, part)
            if array is None and not bad:
                bad = _write_cache(part, form, path, progress)
                array = _open_cache(path)
    if array is None and not bad:
        raise DataError(f"{path}: removed while it was made; the same command makes it again")
    return array, bad


def _more_bits(own: int | None, given: int | None) -> int | None:
    return None if own is None else max(own, given or 0)


def cache_folder(wanted: Path) -> Path:
    """Return `wanted`, or the user's own cache folder where that cannot be written."""
    return wanted if writable_folder(wanted) else user_cache_path("pneumosearch")


def network_input(
    path: Path, size: int, interpolation: Interpolation, equalization: Equalization, bits: int | None = None
) -> PixelArray:
    """Decode a file into the same pixels as `load_pixels`, (size, size); arguments and errors as of `decode`."""
    return formed(decode(path, bits), size, interpolation, equalization)


def formed(image: PixelArray, size: int, interpolation: Interpolation, equalization: Equalization) -> PixelArray:
    """Turn decoded grey levels, (height, width), into the input of a network, (size, size)."""
    return _Form(size, interpolation, equalization).of(image)


def shrink(image: PixelArray, size: int, interpolation: Interpolation) -> PixelArray:
    """Resize (height, width) to (size, size) without keeping the aspect ratio."""
    enlarges = interpolation == "area" and min(image.shape) < size
    flag = cv2.INTER_LINEAR if enlarges else _CV2_INTERPOLATION[interpolation]
    return np.asarray(cv2.resize(image, (size, size), interpolation=flag), dtype=np.uint8)


def equalized(image: PixelArray, equalization: Equalization) -> PixelArray:
    """Return a shrunk image, (height, width), with its contrast equalised as the network is shown it."""
    if equalization == "none":
        return image
    return (equalize if equalization == "clahe" else standardize)(image)


def equalize(image: PixelArray) -> PixelArray:
    """Equalise contrast within an 8 x 8 grid of tiles, limited to twice the mean (CLAHE); (height, width) stays."""
    return np.asarray(cv2.createCLAHE(clipLimit=2.0, tileGridSize=(8, 8)).apply(image), dtype=np.uint8)


def standardize(image: PixelArray) -> PixelArray:
    """Bring (height, width) to mean 127.5 and standard deviation 51, a fifth of the range; what lies outside is cut."""
    levels = (image - image.mean()) * (_STANDARD_DEVIATION / max(float(image.std()), 1.0)) + _STANDARD_MEAN
    return np.asarray(np.rint(levels.clip(0, 255)), dtype=np.uint8)


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
    """Return the names of the images that an earlier start found unreadable.

    The key is the content, so they still are, unless this version reads more: then all are decoded again.
    """
    try:
        known = set(map(str, json.loads(path.with_suffix(".unreadable.json").read_text(encoding="utf-8"))))
    except (OSError, ValueError):
        return []
    images = [image for image in part.images if image.name in known]
    return [image.name for image in images] if all(_problem(part.path(image)) for image in images) else []


def _problem(path: Path) -> str:
    """Return why a file cannot be decoded; empty where it can."""
    try:
        decode(path)
    except DataError as error:
        reason = str(error).removeprefix(f"{path}: ")
        return reason.removeprefix("cannot be decoded (").removesuffix(")") if "cannot be decoded" in reason else reason
    return ""


def part_bits(part: ManifestPart, folder: Path, progress: Progress | None = None) -> int | None:
    """Return how many bits the levels of the deep images of a part need; None where it has none.

    Args:
        part: All its files must be readable; those that cannot be decoded do not count.
        folder: Where the answer is kept.
        progress: Called now and then while deep images are decoded.
    """
    images = [image for image in part.images if image.name in part.maybe_deep]
    if not images:
        return None
    path = folder / f"{part.part}-{part.fingerprint}-bits-v{_VERSION}.json"
    with suppress(OSError, ValueError):
        kept = json.loads(path.read_text())
        return None if kept is None else int(kept)

    def bits(image: ImageFile) -> int:
        with suppress(DataError):
            return deep_bits(part.path(image)) or 0
        return 0

    most = max(found for _, found in in_threads(images, bits, progress)) or None
    with suppress(OSError):  # no room: it is found again the next time
        write_text(path, json.dumps(most))
    return most


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
            return form.of(decode(part.path(image), form.bits))
        except NoDicomSupportError:  # which no leaving out of images would mend
            raise
        except DataError:
            return None

    return in_threads(part.images, read, progress)


def in_threads(
    images: Sequence[ImageFile], work: Callable[[ImageFile], Result], progress: Progress | None
) -> Iterator[tuple[ImageFile, Result]]:
    """Yield each image with the result of `work`, in order; a few hundred are in memory at a time."""
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(images), _CHUNK):
            chunk = images[start : start + _CHUNK]
            for done, result in enumerate(zip(chunk, pool.map(work, chunk), strict=True), start + 1):
                yield result
                if progress and (done % _REPORT == 0 or done == len(images)):
                    progress(done, len(images))


def _check_room(folder: Path, n_bytes: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < n_bytes:
        raise DataError(
            f"{folder}: {n_bytes / 1e6:.0f} MB are needed for the pixel cache and {free / 1e6:.0f} MB are free; "
            "make room or choose another folder with --results"
        )


def _unreadable_message(part: ManifestPart, bad: list[str]) -> str:
    more = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
    first = next(image for image in part.images if image.name == bad[0])
    reason = _problem(part.path(first))
    return f"{part.folder / bad[0]}: cannot be decoded ({reason}){more}; mend or remove it, or pass --skip-unreadable"
