"""Which patient an image shows, by its file name: the published names, Mendeley's, or a rule of the user's."""

import re
from pathlib import PurePosixPath
from typing import Final

#: `person12_bacteria_34.jpeg`, `IM-0115-0001.jpeg`, `NORMAL2-IM-0115-0001.jpeg`.
_PUBLISHED: Final = re.compile(r"(person\d+|IM-\d+)")

#: `NORMAL-1049278-0001.jpeg`, `BACTERIA-1008087-0001.jpeg`, `VIRUS-...`: class, number of the patient, of the image.
_MENDELEY: Final = re.compile(r"(?:NORMAL|BACTERIA|VIRUS|PNEUMONIA)-(\d+)-\d+")


def patient_of(name: str, pattern: str | None = None) -> str | None:
    """Return the patient that an image's name tells, or None where it tells none.

    `IM-0115-0001` and `NORMAL2-IM-0115-0001` count as one patient: whether the two series share their numbering is not
    published, and grouping too much cannot leak.

    Args:
        name: Path of the image below the data folder, with forward slashes.
        pattern: The user's rule, searched in the whole of `name`; the one group is the patient. Without it the
            published names count, then Mendeley's.
    """
    if pattern is not None:
        match = re.search(pattern, name)
        return (match.group(1) or None) if match else None
    stem = PurePosixPath(name).stem
    match = _PUBLISHED.search(stem) or _MENDELEY.match(stem)
    return match.group(1) if match else None


def published_patient(name: str) -> str:
    """Return the patient of an image by the published names alone; the whole name where they tell none."""
    match = _PUBLISHED.search(PurePosixPath(name).stem)
    return match.group(1) if match else name
