"""Inputs of the live race as files: all sides get the same images, split, space and image size."""

import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.peers import UNDERSTOOD
from pneumosearch._utils.atomic import write_text
from pneumosearch.data.families import FAMILY_OF
from pneumosearch.data.manifest import ImageFile, Manifest, ManifestPart, read_manifest
from pneumosearch.data.protocols import SPLIT_SEED
from pneumosearch.data.splits import holdout_split, leak_groups
from pneumosearch.errors import ConfigError
from pneumosearch.report.reproduce import study_text
from pneumosearch.studyfile import StudySpec, checked_spec

STUDY: Final = "race"  # its name in a store
#: Fields that only pneumosearch's training has; the scripts of the other sides do without.
OURS_ALONE: Final = {"batch_norm_statistics", "lr_schedule", *FAMILY_OF} - UNDERSTOOD


@dataclass(frozen=True)
class Course:
    """The input files of a race, which no side changes.

    Args:
        folder: Folder of the files.
    """

    folder: Path

    @property
    def images(self) -> Path:
        """A data folder of pneumosearch: train, val and test."""
        return self.folder / "images"

    @property
    def train(self) -> Path:
        """Training images of the holdout split of pneumosearch, one folder per class."""
        return self.folder / "split" / "train"

    @property
    def validation(self) -> Path:
        """Validation images of the same split, one folder per class."""
        return self.folder / "split" / "validation"

    @property
    def study(self) -> Path:
        """The study file."""
        return self.folder / "study.toml"

    @property
    def space(self) -> Path:
        """The same space as JSON: {"searched": {field: range}, "baseline": {field: value}}.

        What the study sets in all trials but the baseline is the baseline's value here: the other sides always have it.
        """
        return self.folder / "space.json"


def race_spec(spec: StudySpec, size: int | None) -> StudySpec:
    """Return the study of the race: `spec` at `size` pixels, if given.

    Raises:
        ConfigError: The scripts of the other sides do not support the space.
    """
    fixed = spec.fixed if size is None else {**spec.fixed, "image_size": size}
    raced = checked_spec({**spec.model_dump(mode="json"), "name": STUDY, "fixed": fixed}, "race")
    space = raced.search_space()
    unknown = sorted({*space.dimensions, *fixed, *space.others} - UNDERSTOOD - OURS_ALONE)
    if unknown:
        raise ConfigError(f"race: space: the peers' scripts do not know '{unknown[0]}'; leave it out")
    if space.conditional or "image_size" in space.dimensions:
        raise ConfigError("race: space: the peers' scripts have one image size and no conditional fields")
    return raced


def prepare(data: Path, spec: StudySpec, share: float, folder: Path) -> Course:
    """Write the input files of a race, with links to the images.

    Args:
        data: Folder of X-rays or phantoms.
        spec: As `race_spec` returns it.
        share: Share of the patients in `train`, in (0, 1], equal for both classes; val and test stay complete.
        folder: Folder for the files; those of an earlier race are replaced.
    """
    shutil.rmtree(folder, ignore_errors=True)
    course = Course(folder)
    manifest = read_manifest(data)
    _link_images(manifest, share, course.images)
    part = read_manifest(course.images).part("development")
    split = holdout_split(part, seed=SPLIT_SEED)
    for target, indices in ((course.train, split.train), (course.validation, split.validation)):
        for image in (part.images[i] for i in indices):
            _link(part.path(image), target / manifest.classes[image.label] / linked_name(image))
    write_text(course.study, study_text(spec.model_dump(mode="json")))
    write_text(course.space, json.dumps(_plain_space(spec), indent=1))
    return course


def linked_name(image: ImageFile) -> str:
    """Return the name of an image in the folders `Course.train` and `Course.validation`."""
    return f"{image.split}-{Path(image.name).name}"


def _link_images(manifest: Manifest, share: float, target: Path) -> None:
    for image in _chosen(manifest.part("development"), share):
        _link(manifest.folder / image.name, target / image.name)
    (target / "test").symlink_to((manifest.folder / "test").resolve())  # sealed: only listed
    for marker in manifest.folder.glob("*.json"):  # marks phantoms
        _link(marker, target / marker.name)


def _chosen(part: ManifestPart, share: float) -> Iterable[ImageFile]:
    """Return all images of val and those of a fixed share of the patients in train, stratified by class."""
    labels = np.array([image.label for image in part.images])
    from_train = np.array([image.split == "train" for image in part.images])
    groups, chosen = leak_groups(part), ~from_train
    for label in (0, 1):
        candidates = from_train & (labels == label)
        wanted = share * candidates.sum()
        for group in np.random.default_rng(SPLIT_SEED).permutation(np.unique(groups[candidates])):
            members = candidates & (groups == group)
            if (chosen & candidates).sum() + members.sum() / 2 <= wanted:
                chosen |= members
    return (image for image, is_chosen in zip(part.images, chosen, strict=True) if is_chosen)


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.symlink_to(source.resolve())


def _plain_space(spec: StudySpec) -> dict[str, Any]:
    space = spec.search_space()
    baseline = {**space.centre.model_dump(), **space.others}
    return {
        "searched": {name: each for name, each in space.describe()["space"].items() if name in UNDERSTOOD},
        "baseline": {name: value for name, value in baseline.items() if name in UNDERSTOOD},
    }
