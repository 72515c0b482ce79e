"""The mistakes pneumosearch can explain. The library raises them; only the command line prints them."""

import re
from typing import Final

_ABSENT: Final = object()


class PneumosearchError(Exception):
    """A mistake that the user can correct: the message names it and the correction, in one line."""


class ConfigError(PneumosearchError):
    """A hyperparameter, a study file or an option has a value that cannot be used."""


class DataError(PneumosearchError):
    """A data folder or an image cannot be used."""


class StoreError(PneumosearchError):
    """The storage cannot be opened, or lacks what was asked for."""


class ArtifactsError(StoreError):
    """The artifacts that machines share cannot be read or written."""


class TrainingError(PneumosearchError):
    """A training cannot go on: its loss or a metric is not a finite number."""


def as_message(text: str) -> str:
    """Return a line for the terminal: without control characters, and without the user and password of any URL."""
    return printable(re.sub(r"(:/+)[^/\s@:]*:(?!\*\*\*@)[^/\s@]*@", r"\1***@", text))


def printable(text: str) -> str:
    """Replace control characters, which file names may contain, so that a message cannot control the terminal."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def first_difference(key: str, before: object, now: object) -> str:
    """Return "key (before, now after)" of the first setting that differs, dotted inside tables."""
    if isinstance(before, dict) and isinstance(now, dict):
        name = next(name for name in {**before, **now} if before.get(name, _ABSENT) != now.get(name, _ABSENT))
        return first_difference(f"{key}.{name}", before.get(name, _ABSENT), now.get(name, _ABSENT))
    was, is_now = ("absent" if value is _ABSENT else repr(value) for value in (before, now))
    return f"{key} ({was}, now {is_now})"
