"""Families of changes: what may differ from hospital to hospital, and which hyperparameters train against it.

A configuration that trained on the changes of a family says little about other families by being steady under it. So
who judges by changed images asks `trained_families` which of them may not judge alone.
"""

from collections.abc import Mapping
from typing import Final, Literal, get_args

from pneumosearch.config import TrialConfig

Family = Literal["exposure", "tone", "geometry", "resolution", "compression", "borders"]

#: All families: exposure; tone (gamma, contrast); geometry and field of view; resolution and sharpness; compression
#: and noise; borders and covered parts.
FAMILIES: Final[tuple[Family, ...]] = get_args(Family)

#: The family of each field of `TrialConfig` that changes pixels in training; `mixup` imitates no change of exposure,
#: machine or file, and has none.
FAMILY_OF: Final[Mapping[str, Family]] = {
    "brightness": "exposure",
    "contrast": "tone",
    "gamma": "tone",
    "zoom": "geometry",
    "vertical_flip": "geometry",
    "horizontal_flip": "geometry",
    "shift": "geometry",
    "rotation": "geometry",
    "crop_area": "geometry",
    "crop_aspect": "geometry",
    "blur": "resolution",
    "sharpen": "resolution",
    "resolution_loss": "resolution",
    "noise": "compression",
    "jpeg_loss": "compression",
    "erase": "borders",
}

_OFF_AT_1: Final = ("crop_area", "crop_aspect")


def trained_families(config: TrialConfig) -> frozenset[Family]:
    """Return the families that `config` trains on: those of its fields that are not at the value that does nothing."""
    return frozenset(family for name, family in FAMILY_OF.items() if getattr(config, name) != off_value(name))


def off_value(name: str) -> float | bool:
    """Return the value of a field of `FAMILY_OF` at which it changes nothing."""
    return 1.0 if name in _OFF_AT_1 else 0.0
