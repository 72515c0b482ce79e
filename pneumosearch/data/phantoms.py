"""Folders of generated chest X-rays (phantoms) for users without real ones; they teach nothing medical."""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Final
from uuid import uuid4

import cv2
import numpy as np
import numpy.typing as npt

from pneumosearch.data.phantom_drawing import GENERATOR, Generator, Image, Patient, film
from pneumosearch.data.planted_shifts import PLANTED, SHIFTS, Planting, checked_shifts, plant
from pneumosearch.errors import DataError

#: File that says a folder holds phantoms.
MARKER: Final = "PHANTOMS.json"

#: Fewest images of a tree. It gives ten healthy patients for training even if each of them has four images.
MIN_IMAGES: Final = 150

_NOTE: Final = "Procedural drawings in the shape of chest X-rays. No patient was imaged; results on them prove nothing."

_TEST_SHARE: Final = 0.20
_VAL_SHARE: Final = 0.04
_NORMAL_SHARE: Final = 0.35
_IMAGES_OF_PATIENT: Final = (0.5, 0.25, 0.15, 0.1)  # chances of 1, 2, 3 and 4 images
_PATIENTS_OF_CLASS: Final = 10  # at least so many in a split that has the images for it
_SECOND_SERIES_SHARE: Final = 0.4
_PLANTED_NOTE: Final = "Whose look each image has. It follows the class in train and val, and not in the test folder."


@dataclass(frozen=True)
class _Series:
    """The images of one patient, to be drawn. `rng` has made the draws that decide how many they are."""

    patient: Patient
    rng: np.random.Generator
    paths: tuple[Path, ...]
    ill: bool
    planting: Planting


@dataclass(frozen=True)
class _Drawing:
    """What decides how patient after patient looks."""

    seed: int
    generator: Generator
    shifts: Mapping[str, float]  # {planted shift: strength}


def write_phantoms(
    folder: Path,
    *,
    n_images: int = 600,
    seed: int = 232,
    generator: Generator = GENERATOR,
    shifts: Mapping[str, float] | None = None,
) -> None:
    """Write phantoms as train, val and test, each with NORMAL and PNEUMONIA, and the marker file.

    The tree is built beside `folder` and renamed at the end, so `folder` is whole or not there. No patient is
    in two splits. On one kind of processor the same arguments give the same bytes; others round some pixels otherwise.

    Args:
        folder: Must not exist, or be an empty folder; parents are made.
        n_images: In all splits together, at least `MIN_IMAGES`.
        seed: 0 or more.
        generator: Version of the drawing; 1 repeats the phantoms of earlier versions.
        shifts: {name of `planted_shifts.SHIFTS`: strength, 0 to 1}, planted in train and val. The file
            `planted_shifts.PLANTED` in the folder then says which image has which look. The patients stay the same.

    Raises:
        ConfigError: There is no such shift, or its strength is out of range.
        DataError: `folder` holds something, an argument is out of range, or the disk refuses.
    """
    if n_images < MIN_IMAGES:
        raise DataError(f"{n_images} phantoms: too few to split by patient, wanted at least {MIN_IMAGES}")
    if seed < 0:
        raise DataError(f"seed {seed}: wanted 0 or more")
    drawing = _Drawing(seed, generator, checked_shifts(shifts or {}))
    folder = folder.absolute()
    temporary = folder.with_name(f".{folder.name}.{uuid4().hex[:8]}")
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise DataError(f"{folder}: exists and is not empty; name another folder for the phantoms")
        _write_tree(temporary, n_images, drawing)
        if folder.exists():  # Windows does not rename onto a folder, not even an empty one
            folder.rmdir()
        os.replace(temporary, folder)
    except OSError as error:
        raise DataError(f"{folder}: phantoms cannot be written here ({error})") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_tree(folder: Path, n_images: int, drawing: _Drawing) -> None:
    patients, films = count(1), count(1)  # over all splits and classes, so that no number comes twice
    series: list[_Series] = []
    for (split, label), size in _class_sizes(n_images).items():
        directory = folder / split / label
        directory.mkdir(parents=True)
        series += _class_series(directory, size, drawing, patients, films)
    with ThreadPoolExecutor() as pool:  # NumPy and OpenCV draw without Python's lock
        for _ in pool.map(_draw, series):
            pass
    marker = {"kind": "phantoms", "images": n_images, "seed": drawing.seed, "generator": drawing.generator}
    if drawing.shifts:
        marker["shifts"] = dict(drawing.shifts)
        _write_json(folder / PLANTED, _planted(folder, series, drawing.shifts))
    _write_json(folder / MARKER, {**marker, "note": _NOTE})


def _planted(folder: Path, series: list[_Series], shifts: Mapping[str, float]) -> dict[str, object]:
    """Describe what is planted: each shift, and whose look each image has."""
    meanings = {name: {"strength": strength, "meaning": SHIFTS[name].meaning} for name, strength in shifts.items()}
    whose = {path.relative_to(folder).as_posix(): dict(each.planting.whose) for each in series for path in each.paths}
    return {"note": _PLANTED_NOTE, "shifts": meanings, "images": whose}


def _write_json(path: Path, content: dict[str, object]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _class_sizes(n_images: int) -> dict[tuple[str, str], int]:
    """Return {(split, class): number of images}; they add up to `n_images`."""
    n_test, n_val = round(_TEST_SHARE * n_images), round(_VAL_SHARE * n_images)
    sizes = {}
    for split, n in {"train": n_images - n_val - n_test, "val": n_val, "test": n_test}.items():
        n_normal = round(_NORMAL_SHARE * n)
        sizes[split, "NORMAL"], sizes[split, "PNEUMONIA"] = n_normal, n - n_normal
    return sizes


def _class_series(
    directory: Path, size: int, drawing: _Drawing, patients: Iterator[int], films: Iterator[int]
) -> Iterator[_Series]:
    """Yield new patients with `size` images in all; a small class is made of patients with few images."""
    most, left = max(1, min(len(_IMAGES_OF_PATIENT), size // _PATIENTS_OF_CLASS)), size
    while left > 0:
        series = _series(directory, next(patients), drawing, films, most=min(most, left))
        yield series
        left -= len(series.paths)


def _series(directory: Path, number: int, drawing: _Drawing, films: Iterator[int], *, most: int) -> _Series:
    """Return patient `number` with names for its images, `most` of them at the most."""
    rng = np.random.default_rng([drawing.seed, number])
    patient, ill = Patient.draw(rng, drawing.generator), directory.name == "PNEUMONIA"
    prefix = "NORMAL2-IM" if rng.random() < _SECOND_SERIES_SHARE else "IM"
    n_images = 1 + int(rng.choice(len(_IMAGES_OF_PATIENT), p=_IMAGES_OF_PATIENT))
    films_of_patient = [next(films) for _ in range(min(most, n_images))]
    names = (
        f"person{number}_{patient.kind}_{film}" if ill else f"{prefix}-{number:04d}-{k:04d}"
        for k, film in enumerate(films_of_patient, 1)
    )
    own = np.random.default_rng([drawing.seed, number, 1])  # so that what is planted moves nothing else
    planting = plant(drawing.shifts, ill=ill, development=directory.parent.name != "test", rng=own)
    return _Series(patient, rng, tuple(directory / f"{name}.jpeg" for name in names), ill, planting)


def _draw(series: _Series) -> None:
    """Draw and write the images of a patient, all of about one size."""
    rng, look = series.rng, series.planting.look
    patient = replace(series.patient, zoom=series.patient.zoom * look.zoom)
    height, width = int(rng.integers(192, 240)), int(rng.integers(240, 296))
    for path in series.paths:
        rows, columns = height + int(rng.integers(-6, 7)), width + int(rng.integers(-6, 7))
        image = film(patient, patient.severity if series.ill else 0.0, rng, rows, look.width(rows, columns))
        path.write_bytes(_jpeg(look.on(image), round(look.quality)))


def _jpeg(pixels: Image, quality: int) -> bytes:
    encoded: npt.NDArray[np.uint8] = cv2.imencode(".jpeg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return encoded.tobytes()
