"""Changes of one grey image, as cameras, detectors, editors and file formats make them: pure functions of an image.

Each takes (height, width) grey levels of 0 to 255 and returns as many. At the neutral value that its docstring names,
an image stays as it is. Lengths are shares of a side, so that a change means the same at all sizes.
"""

import math
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from pneumosearch.data.decoding import PixelArray

_MID_GREY: Final = 127.5
_KERNEL: Final = 3.0  # standard deviations to either side
_SHARPENED: Final = 0.01  # of the shorter side: standard deviation of the blur that sharpening takes away

Pattern = npt.NDArray[np.float32]


def grey_table(
    *, exponent: float = 1.0, factor: float = 1.0, about: float = _MID_GREY, added: float = 0.0
) -> PixelArray:
    """Return the level, (256,), that each grey level becomes: gamma first, then contrast, then brightness.

    Args:
        exponent: Of the level as a share of 255.
        factor: On distances from `about`.
        about: Grey level that contrast leaves where it is.
        added: Share of 255.
    """
    levels = np.arange(256, dtype=np.float64)
    if exponent != 1.0:
        levels = 255 * (levels / 255) ** exponent
    levels = (levels - about) * factor + about + 255 * added
    return np.asarray(np.rint(np.clip(levels, 0, 255)), dtype=np.uint8)


def gamma(image: PixelArray, exponent: float) -> PixelArray:
    """Raise grey levels, as shares of 255, to a power: below 1 brighter, above darker, black and white stay.

    Args:
        image: (height, width).
        exponent: Above 0; 1 is neutral.
    """
    _require("exponent", exponent, above=0.0)
    return _looked_up(image, grey_table(exponent=exponent))


def brightness(image: PixelArray, added: float) -> PixelArray:
    """Add a share of 255 to all grey levels, in [-1, 1]; 0 is neutral."""
    _require("added", added, least=-1.0, most=1.0)
    return _looked_up(image, grey_table(added=added))


def contrast(image: PixelArray, factor: float, about: float | None = None) -> PixelArray:
    """Scale the distances of grey levels from one of them.

    Args:
        image: (height, width).
        factor: At least 0; 1 is neutral.
        about: Grey level that stays; None: the image's mean.
    """
    _require("factor", factor, least=0.0)
    return _looked_up(image, grey_table(factor=factor, about=float(image.mean()) if about is None else about))


def blur(image: PixelArray, sd: float) -> PixelArray:
    """Blur with a Gaussian of standard deviation `sd`, a share of the shorter side in [0, 0.5]; 0 is neutral."""
    _require("sd", sd, least=0.0, most=0.5)
    return _blurred(image, sd) if sd else image.copy()


def sharpen(image: PixelArray, amount: float) -> PixelArray:
    """Sharpen by an unsharp mask: add `amount` times what a blur of 0.01 of the shorter side takes away.

    Args:
        image: (height, width).
        amount: At least 0, which is neutral; image editors use 0.5 to 2.
    """
    _require("amount", amount, least=0.0)
    return _pixels(cv2.addWeighted(image, 1 + amount, _blurred(image, _SHARPENED), -amount, 0))


def lose_resolution(image: PixelArray, factor: float) -> PixelArray:
    """Shrink both sides by `factor` (mean of the covered pixels) and enlarge them again (bilinear).

    Args:
        image: (height, width).
        factor: At least 1, which is neutral. A side keeps at least 1 pixel.
    """
    _require("factor", factor, least=1.0)
    height, width = image.shape
    small = (max(1, round(width / factor)), max(1, round(height / factor)))
    if small == (width, height):
        return image.copy()
    shrunk = cv2.resize(image, small, interpolation=cv2.INTER_AREA)
    return _pixels(cv2.resize(shrunk, (width, height), interpolation=cv2.INTER_LINEAR))


def jpeg(image: PixelArray, quality: int) -> PixelArray:
    """Compress as JPEG of a quality in [1, 100] and read again. None is neutral; 100 moves some levels by 1 or 2."""
    _require("quality", quality, least=1, most=100)
    _, content = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    read: Any = cv2.imdecode(content, cv2.IMREAD_GRAYSCALE)  # None only of bytes that are no image
    return _pixels(read)


def add_noise(image: PixelArray, sd: float, seed: int | np.random.Generator) -> PixelArray:
    """Add independent Gaussian noise to every pixel.

    Args:
        image: (height, width).
        sd: Standard deviation, a share of 255 in [0, 1]; 0 is neutral.
        seed: Of the noise, or a generator to draw it from.
    """
    _require("sd", sd, least=0.0, most=1.0)
    rng = np.random.default_rng(seed)
    return add_pattern(image, rng.standard_normal(image.shape, dtype=np.float32), sd)


def add_pattern(image: PixelArray, pattern: Pattern, strength: float) -> PixelArray:
    """Add `strength`, a share of 255, times a pattern of the image's shape; 0 is neutral."""
    return _pixels(cv2.addWeighted(image, 1.0, pattern, 255 * strength, 0.0, dtype=cv2.CV_8U))


def erase(
    image: PixelArray, top: float, left: float, height: float, width: float, *, level: int | None = None
) -> PixelArray:
    """Cover a patch with one grey level.

    Args:
        image: (height, width).
        top: Of the patch, a share of the image's height. The patch may reach beyond the image.
        left: Of the patch, a share of the image's width.
        height: A share of the image's height; 0 is neutral.
        width: A share of the image's width; 0 is neutral.
        level: Of the patch, 0 to 255; None: the image's mean.
    """
    _require("height", height, least=0.0)
    _require("width", width, least=0.0)
    rows, columns = _span(image.shape[0], top, height), _span(image.shape[1], left, width)
    erased = image.copy()
    erased[rows, columns] = round(float(image.mean())) if level is None else level
    return erased


def crop(image: PixelArray, top: float, left: float, height: float, width: float) -> PixelArray:
    """Cut a part out and enlarge it to the size of the image (bilinear).

    Args:
        image: (height, width).
        top: Of the part, a share of the image's height in [0, 1).
        left: Of the part, a share of the image's width in [0, 1).
        height: A share of the image's height; 1 with `top` 0 is neutral. The part lies within the image.
        width: A share of the image's width; 1 with `left` 0 is neutral.
    """
    for name, start, length in (("height", top, height), ("width", left, width)):
        _require(name, length, above=0.0, most=1.0)
        _require("top" if name == "height" else "left", start, least=0.0, most=1.0 - length + 1e-9)
    part = image[_span(image.shape[0], top, height, least=1), _span(image.shape[1], left, width, least=1)]
    return _pixels(cv2.resize(part, image.shape[::-1], interpolation=cv2.INTER_LINEAR))


def border(image: PixelArray, share: float, level: int = 0) -> PixelArray:
    """Cover a frame at all four borders, `share` of each side wide, in [0, 0.5]; 0 is neutral.

    Args:
        image: (height, width).
        share: Width of the frame.
        level: Its grey level, 0 (black) to 255.
    """
    _require("share", share, least=0.0, most=0.5)
    framed = image.copy()
    for axis in (framed, framed.T):
        n = round(share * axis.shape[0])
        axis[:n] = axis[axis.shape[0] - n :] = level
    return framed


def change_aspect(image: PixelArray, factor: float) -> PixelArray:
    """Make what is shown `factor` times as wide beside its height, by enlarging one axis about the centre.

    Args:
        image: (height, width); what no longer fits is cut away.
        factor: Above 0; above 1 wider, below 1 taller, 1 is neutral.
    """
    _require("factor", factor, above=0.0)
    kept = min(factor, 1 / factor)
    if factor >= 1:
        return crop(image, 0.0, (1 - kept) / 2, 1.0, kept)
    return crop(image, (1 - kept) / 2, 0.0, kept, 1.0)


def _blurred(image: PixelArray, sd: float) -> PixelArray:
    pixels = sd * min(image.shape)
    kernel = cv2.getGaussianKernel(2 * max(1, round(_KERNEL * pixels)) + 1, pixels)
    # Not GaussianBlur, which takes up to four times as long; the two differ by one grey level at most.
    return _pixels(cv2.sepFilter2D(image, -1, kernel, kernel))


def _span(side: int, start: float, length: float, least: int = 0) -> slice:
    """Return the pixels of an axis from `start`, over `length`, both shares of `side`."""
    first = round(start * side)
    last = max(first + least, round((start + length) * side))
    return slice(max(0, min(first, side - least)), max(0, min(last, side)))


def _looked_up(image: PixelArray, table: PixelArray) -> PixelArray:
    return _pixels(cv2.LUT(image, table))


def _pixels(image: npt.ArrayLike) -> PixelArray:
    return np.asarray(image, dtype=np.uint8)


def _require(
    name: str, value: float, *, least: float = -math.inf, above: float = -math.inf, most: float = math.inf
) -> None:
    if not (least <= value <= most and (value > above or above == -math.inf)):
        wanted = f"above {above:g}" if above != -math.inf else f"at least {least:g}"
        raise ValueError(f"{name}: {value:g} is out of range; wanted {wanted}, at most {most:g}")
