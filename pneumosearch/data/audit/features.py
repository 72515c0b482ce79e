"""Plain features of an image, such as its brightness. They should not separate the classes or the splits."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import cv2
import numpy as np

from pneumosearch.data.appearance import Plain, plain, small
from pneumosearch.data.audit.duplicates import Bits, perceptual_hash
from pneumosearch.data.cache import Progress, in_threads, shrink
from pneumosearch.data.decoding import PixelArray, decode, opened
from pneumosearch.data.manifest import ImageFile, Manifest
from pneumosearch.errors import DataError, printable

#: Side in pixels at which brightness and structure are measured, so that they do not depend on the file's size.
MEASURED_SIZE: Final = 224

_FRAME: Final = 8  # pixels of `MEASURED_SIZE` that count as the border
_BLACK, _WHITE = 8, 247  # grey levels up to and from which a pixel counts as black or white
_CHANNEL_DIFFERENCE: Final = 16  # grey levels; less is what JPEG makes of grey


class Features(NamedTuple):
    """Twelve figures of one image. All but the last three are of the image shrunk to 224 x 224."""

    brightness: float  # mean grey level, 0 to 255
    contrast: float  # standard deviation of the grey levels
    black: float  # percent of pixels of level 8 or less
    white: float  # percent of pixels of level 247 or more
    border: float  # mean grey level of the outer 8 pixels
    gradient: float  # mean length of the Sobel gradient, levels a pixel
    sharpness: float  # standard deviation of the Laplacian
    entropy: float  # of the grey levels' histogram, bits
    asymmetry: float  # mean difference from the mirror image, levels
    bytes_per_pixel: float  # of the file
    megapixels: float  # of the file
    aspect_ratio: float  # width / height of the file

    @property
    def plain(self) -> Plain:
        """Those by which `predict` tells images unlike those of the training."""
        return Plain(self.brightness, self.contrast, self.sharpness)


@dataclass(frozen=True)
class Reading:
    """What was measured of one image that could be decoded."""

    image: ImageFile
    width: int  # of the file, pixels
    height: int
    coloured: float  # share of pixels whose channels differ
    features: Features
    bits: Bits
    small: PixelArray  # as `appearance.small` makes it


@dataclass(frozen=True)
class Unreadable:
    """An image that could not be decoded."""

    image: ImageFile
    reason: str


def read_all(manifest: Manifest, progress: Progress | None = None) -> tuple[list[Reading], list[Unreadable]]:
    """Decode and measure every image of a folder, those of the test folder too; return the unreadable ones too."""

    def work(image: ImageFile) -> Reading | Unreadable:
        try:
            return read_image(manifest.folder, image)
        except DataError as error:
            return Unreadable(image, printable(str(error).removeprefix(f"{manifest.folder / image.path}: ")))

    results = [result for _, result in in_threads(manifest.images, work, progress)]
    return [r for r in results if isinstance(r, Reading)], [r for r in results if isinstance(r, Unreadable)]


def read_image(folder: Path, image: ImageFile) -> Reading:
    """Decode and measure an image below `folder`; raises as `decode`."""
    path = folder / image.path
    pixels = decode(path)
    height, width = pixels.shape
    features = measure(pixels, path.stat().st_size)
    return Reading(image, width, height, _coloured_share(path), features, perceptual_hash(pixels), small(pixels))


def measure(pixels: PixelArray, n_bytes: int) -> Features:
    """Return the features of an image of (height, width) grey levels whose file has `n_bytes`."""
    height, width = pixels.shape
    grey = shrink(pixels, MEASURED_SIZE, "area")
    levels = np.bincount(grey.ravel(), minlength=256) / grey.size
    look = plain(grey)
    return Features(
        brightness=look.brightness,
        contrast=look.contrast,
        black=100 * float(levels[: _BLACK + 1].sum()),
        white=100 * float(levels[_WHITE:].sum()),
        border=_border(grey),
        gradient=_gradient(grey),
        sharpness=look.sharpness,
        entropy=float(-sum(share * math.log2(share) for share in levels if share > 0)),
        asymmetry=float(cv2.absdiff(grey, cv2.flip(grey, 1)).mean()),
        bytes_per_pixel=n_bytes / (height * width),
        megapixels=height * width / 1e6,
        aspect_ratio=width / height,
    )


def _border(grey: PixelArray) -> float:
    inner = grey[_FRAME:-_FRAME, _FRAME:-_FRAME]
    return (float(grey.sum()) - float(inner.sum())) / (grey.size - inner.size)


def _gradient(grey: PixelArray) -> float:
    across, down = (cv2.Sobel(grey, cv2.CV_32F, dx, 1 - dx, scale=1 / 8) for dx in (1, 0))
    return float(cv2.magnitude(across, down).mean())


def _coloured_share(path: Path) -> float:
    """Return the share of pixels whose channels differ by more than 16 levels; large JPEGs are read reduced."""
    with opened(path) as image:
        if image.mode not in ("RGB", "RGBA", "P", "CMYK"):
            return 0.0
        image.draft("RGB", (MEASURED_SIZE, MEASURED_SIZE))
        red, green, blue = cv2.split(np.asarray(image.convert("RGB")))
    spread = cv2.max(cv2.absdiff(red, green), cv2.max(cv2.absdiff(green, blue), cv2.absdiff(red, blue)))
    return float((spread > _CHANNEL_DIFFERENCE).mean())
