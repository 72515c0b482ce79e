"""What a configuration does to the pixels of training images, shown at the two ends of each change."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from pneumosearch.config import TrialConfig
from pneumosearch.data.augmentation import Change
from pneumosearch.data.cache import equalized
from pneumosearch.data.decoding import PixelArray
from pneumosearch.data.families import FAMILY_OF, off_value
from pneumosearch.data.transform import mixed, transform

_NOTHING: Final = Change()
_COVER: Final = 128  # grey level of the patch that is shown; training draws it


class End(NamedTuple):
    """One end of a change: the image there, (size, size), and the end in words."""

    words: str
    image: PixelArray


Range = tuple[tuple[str, Change], tuple[str, Change]]


def _until(words: str, change: Change) -> Range:
    return ("as it is", _NOTHING), (words, change)


def _central(area: float, aspect: float = 1.0) -> tuple[float, float, float, float]:
    """Return top, left, height and width of a part about the centre, in shares of the sides."""
    height, width = (area / aspect) ** 0.5, (area * aspect) ** 0.5
    return (1 - height) / 2, (1 - width) / 2, height, width


def _brightness(most: float) -> Range:
    return (f"{-most:+.2f}", Change(brightness=-most)), (f"{most:+.2f}", Change(brightness=most))


def _contrast(most: float) -> Range:
    flat, steep = 1 - most, 1 + most
    return (f"times {flat:.2f}", Change(contrast=flat)), (f"times {steep:.2f}", Change(contrast=steep))


def _gamma(most: float) -> Range:
    bright, dark = 1 / (1 + most), 1 + most
    return (f"to the power {bright:.2f}", Change(gamma=bright)), (f"to the power {dark:.2f}", Change(gamma=dark))


def _zoom(most: float) -> Range:
    near, far = 1 - most, 1 + most
    return (f"sides times {near:.2f}", Change(zoom=(near, near))), (f"sides times {far:.2f}", Change(zoom=(far, far)))


def _shift(most: float) -> Range:
    up, down = Change(shift=(-most, -most)), Change(shift=(most, most))
    return (f"up and left by {most:.2f}", up), (f"down and right by {most:.2f}", down)


def _rotation(most: float) -> Range:
    return (f"{-most:+g} degrees", Change(rotation=-most)), (f"{most:+g} degrees", Change(rotation=most))


def _aspect(most: float) -> Range:
    tall, wide = (Change(crop=_central(1 / most, aspect)) for aspect in (1 / most, most))
    return (f"width by height {1 / most:.2f}", tall), (f"width by height {most:.2f}", wide)


def _jpeg(most: float) -> Range:
    lowest = 100 - int(most)
    return ("quality 100", Change(jpeg=100)), (f"quality {lowest}", Change(jpeg=lowest))


#: The changes at the two ends of a field, and the ends in words.
_ENDS: Final[Mapping[str, Callable[[float], Range]]] = {
    "brightness": _brightness,
    "contrast": _contrast,
    "gamma": _gamma,
    "zoom": _zoom,
    "vertical_flip": lambda _: _until("flipped", Change(vertical_flip=True)),
    "horizontal_flip": lambda _: _until("flipped", Change(horizontal_flip=True)),
    "shift": _shift,
    "rotation": _rotation,
    "crop_area": lambda least: _until(f"area {least:.2f}", Change(crop=_central(least))),
    "crop_aspect": _aspect,
    "blur": lambda most: _until(f"deviation {most:.3f}", Change(blur=most)),
    "sharpen": lambda most: _until(f"strength {most:.2f}", Change(sharpen=most)),
    "resolution_loss": lambda most: _until(f"sides times {1 - most:.2f}", Change(lost_resolution=1 / (1 - most))),
    "noise": lambda most: _until(f"deviation {most:.3f}", Change(noise=most)),
    "jpeg_loss": _jpeg,
    "erase": lambda most: _until(f"area {most:.2f}", Change(erased=_central(most), erased_level=_COVER)),
}


def extremes(config: TrialConfig, plain: PixelArray, other: PixelArray) -> dict[str, tuple[End, End]]:
    """Return the two ends of each change that `config` makes, by field.

    Args:
        config: The configuration; fields at the value that does nothing are left out.
        plain: An image of (size, size) before its contrast is equalised.
        other: Another one, for mixtures.
    """
    image = equalized(plain, config.equalization)
    found: dict[str, tuple[End, End]] = {}
    if config.equalization != "none":
        found["equalization"] = End("as it is", plain), End(config.equalization, image)
    for name in FAMILY_OF:
        value = getattr(config, name)
        if value != off_value(name):
            first, second = (End(words, transform(image, change)) for words, change in _ENDS[name](float(value)))
            found[name] = first, second
    if config.mixup:
        half = mixed(image, equalized(other, config.equalization), 0.5)
        found["mixup"] = End("as it is", image), End("half another image", half)
    return found


def strongest(configs: Sequence[TrialConfig]) -> TrialConfig:
    """Return the baseline with each change of pixels at its strongest value among `configs`, of which there is one."""
    values: dict[str, object] = {
        name: max((getattr(each, name) for each in configs), key=lambda value: abs(value - off_value(name)))
        for name in FAMILY_OF
    }
    equalizations = [each.equalization for each in configs if each.equalization != "none"]
    values |= {
        "mixup": max(each.mixup for each in configs),
        "equalization": equalizations[0] if equalizations else "none",
    }
    return TrialConfig.model_validate(values)
