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

#: The family of each field of `TrialConfig` that changes pixels in training.
FAMILY_OF: Final[Mapping[str, Family]] = {
    "brightness": "exposure",
    "contrast": "tone",
    "zoom": "geometry",
    "vertical_flip": "geometry",
    "horizontal_flip": "geometry",
    "shift": "geometry",
    "rotation": "geometry",
}


def trained_families(config: TrialConfig) -> frozenset[Family]:
    """Return the families that `config` trains on: those of its fields that are not at the value that does nothing."""
    return frozenset(family for name, family in FAMILY_OF.items() if getattr(config, name) != _off(name))


def _off(name: str) -> object:
    return type(getattr(TrialConfig(), name))(0)
