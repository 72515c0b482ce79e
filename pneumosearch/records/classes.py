"""The two classes of a study: names of folders. The only place that knows the published ones and their words."""

import unicodedata
from collections.abc import Sequence
from typing import Final, Literal

from pneumosearch.errors import ConfigError, printable

#: Names of the two class folders. The position is the label: the second is the positive class.
Classes = tuple[str, str]

#: The folders of the published images. Only results on these stand beside published figures.
PUBLISHED_CLASSES: Final[Classes] = ("NORMAL", "PNEUMONIA")

#: What the images of a result are: published figures stand beside "images" only, a warning above "phantoms".
Shown = Literal["images", "own images", "phantoms"]

_WANTED: Final = "wanted two folder names, the second the positive class, such as HEALTHY,TUBERCULOSIS"
_MOST: Final = 100  # characters of a name


def checked_classes(names: Sequence[str], source: str) -> Classes:
    """Return the two names in Unicode's composed form (NFC), without spaces around them; the published ones as such.

    Args:
        names: As a user gave them.
        source: Begins the message of an error.

    Raises:
        ConfigError: Not two names, two equal ones (upper and lower case are equal), or a name that no folder can have.
    """
    given = [unicodedata.normalize("NFC", name.strip()) for name in names]
    shown = printable(",".join(names))
    if len(given) != 2 or not all(given):
        raise ConfigError(f"{source} '{shown}': {_WANTED}")
    for name in given:
        if "/" in name or "\\" in name or name.startswith(".") or len(name) > _MOST or not name.isprintable():
            raise ConfigError(f"{source} '{shown}': '{printable(name)}' is no name of a class folder; {_WANTED}")
    if folded(given[0]) == folded(given[1]):
        raise ConfigError(f"{source} '{shown}': the two names are equal; {_WANTED}")
    classes = given[0], given[1]
    return PUBLISHED_CLASSES if same_classes(classes, PUBLISHED_CLASSES) else classes


def own_classes(classes: Classes) -> Classes | None:
    """Return classes of a user's own; None for the published ones, of which study files and records say nothing."""
    return None if classes == PUBLISHED_CLASSES else classes


def folded(name: str) -> str:
    """Return what is equal for two names that differ in case or in Unicode's form only, as file systems may treat."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def same_classes(first: Classes, second: Classes) -> bool:
    """Tell whether two pairs of names are the same folders in the same order."""
    return [folded(name) for name in first] == [folded(name) for name in second]


def class_words(classes: Classes) -> Classes:
    """Return the classes as words in a sentence: names of one's own as they are, the published ones in lower case."""
    return ("normal", "pneumonia") if classes == PUBLISHED_CLASSES else classes
