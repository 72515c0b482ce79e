"""The protocols: which images train, which judge, and whether the seal of the test folder is broken."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from pneumosearch.config import Equalization, Fold, Protocol
from pneumosearch.data.appearance import appearance_of, small
from pneumosearch.data.batches import Labels
from pneumosearch.data.battery import battery_copies, judged_images
from pneumosearch.data.cache import Pixels, Progress, cache_folder, load_pixels, part_bits
from pneumosearch.data.decoding import PixelArray, file_size
from pneumosearch.data.manifest import Manifest, ManifestPart, Part
from pneumosearch.data.names import storable_path
from pneumosearch.data.shifts import stressed
from pneumosearch.data.spans import spans_of, with_copies
from pneumosearch.data.splits import (
    Holdout,
    Indices,
    brightness_split,
    kept_fold_split,
    kept_holdout_split,
    leak_groups,
)
from pneumosearch.records.dataset import Appearance, DataDescription, Interpolation

#: Seed of the validation split: one for all studies, so that their validation figures can be compared.
SPLIT_SEED: Final = 232

#: Writes down that the test folder of this fingerprint is about to be read. Where that fails, it is not read.
WritesDown = Callable[[str], None]

_N_SIZES: Final = 256  # files, or a few more, whose size is looked at
_MEASURED_SIZE: Final = 64  # side in pixels at which brightness is measured


@dataclass(frozen=True)
class ImageSet:
    """Images chosen from a mapped array."""

    pixels: PixelArray  # (n_all, size, size)
    labels: Labels  # (n_all,)
    indices: Indices  # (n,) those that belong to the set


@dataclass(frozen=True)
class Dataset:
    """What one training needs; `evaluated` says whether validation or test images judge its epochs."""

    train: ImageSet
    evaluation: ImageSet
    evaluated: Literal["validation", "test"]
    description: DataDescription
    stressed: ImageSet | None = None  # changed copies of the evaluation images, all of one change after the other
    battery: ImageSet | None = None  # copies of some of them under `data.battery.BATTERY`, one after the other


@dataclass(frozen=True)
class DataSource:
    """A data folder and how it is read; `load` and `sealed_test` are the only ways from it to pixels.

    Both come to the pixels of the test folder through one function, which first has the opening written down.
    """

    manifest: Manifest
    cache_dir: Path
    skip_unreadable: bool = False
    progress: Progress | None = None

    def load(
        self,
        protocol: Protocol,
        size: int,
        equalization: Equalization = "none",
        *,
        stress: bool = False,
        battery: bool = False,
        fold: Fold | None = None,
        write_down: WritesDown | None = None,
    ) -> Dataset:
        """Open the images of `protocol` at `size` pixels. Only "original" reads the test folder.

        Args:
            protocol: "original" judges by the test folder, "holdout" by a tenth of the other images, "brightness"
                by the darkest and the brightest of them, with no patient on both sides, and "folds" by `fold`.
            size: Side of the images.
            equalization: Of their contrast.
            stress: Make changed copies of the validation images too.
            battery: Make copies of some validation images under the battery of crafted shifts too.
            fold: Of a cross-validation, which judges instead of the tenth of "holdout".
            write_down: Called before the test folder is read; "original" needs it.

        Raises:
            DataError: Unreadable images, no room for the cache, or too few patients to split.
            ValueError: The test folder would be read without a record, or "folds" lacks its fold.
        """
        if protocol == "original":
            return self._original(size, equalization, write_down)
        dataset = self._validated(protocol, size, equalization, fold)
        if battery:
            dataset = self._with_battery(dataset, size, equalization)
        return replace(dataset, stressed=self._stressed(dataset, size, equalization)) if stress else dataset

    def described(
        self, protocol: Protocol, size: int, equalization: Equalization = "none", fold: Fold | None = None
    ) -> DataDescription:
        """Describe what `load` opens without opening the test folder: its images are counted, and their bytes hashed.

        Raises:
            DataError: As `load`, of the images outside the test folder.
        """
        if protocol != "original":
            return self.load(protocol, size, equalization, fold=fold).description
        pixels, test = self._pixels("development", size, "nearest", equalization), self._files("test")
        n_train = sum(image.split == "train" for image in pixels.part.images)
        return self._describe((n_train, len(test.images)), "nearest", equalization, pixels, test)

    def sealed_test(
        self, size: int, equalization: Equalization = "none", *, write_down: WritesDown | None = None
    ) -> Pixels:
        """Open the sealed test folder at `size` pixels, as `load` opens the images of the "holdout" protocol.

        Only `confirm` may call this, when every network that it judges is trained and kept.

        Args:
            size: Side of the images.
            equalization: Of their contrast.
            write_down: Called before the test folder is read.

        Raises:
            DataError: Unreadable images, or no room for the cache.
            ValueError: The test folder would be read without a record.
        """
        return self._test(size, "area", equalization, write_down)

    def _test(
        self, size: int, interpolation: Interpolation, equalization: Equalization, write_down: WritesDown | None
    ) -> Pixels:
        """The only way to the pixels of the test folder: its opening is written down, and then it is read."""
        if write_down is None:
            raise ValueError("the test folder is sealed: nothing is there to write its opening down")
        write_down(self.fingerprint("test"))
        return self._pixels("test", size, interpolation, equalization)

    @cached_property
    def bits(self) -> int | None:
        """How many bits the levels of the deep development images need; None where there are none.

        Test images count with as many, so that both are equally bright.
        """
        return part_bits(self._files("development"), cache_folder(self.cache_dir), self.progress)

    def fingerprint(self, part: Part) -> str:
        """Return the fingerprint of the files of `part` that can be read; no image is decoded.

        Raises:
            DataError: A file cannot be read, and unreadable files are not skipped.
        """
        return self._files(part).fingerprint

    def _files(self, part: Part) -> ManifestPart:
        files = self.manifest.part(part)
        return files.without(files.unreadable) if self.skip_unreadable else files

    def _validated(self, protocol: Protocol, size: int, equalization: Equalization, fold: Fold | None) -> Dataset:
        pixels = self._pixels("development", size, "area", equalization)
        split = self._split(protocol, pixels.part, fold)
        labels = _labels(pixels.part)
        train = ImageSet(pixels.array, labels, split.train)
        validation = ImageSet(pixels.array, labels, split.validation)
        description = self._describe((len(split.train), len(split.validation)), "area", equalization, pixels)
        if protocol == "brightness":
            description = description.model_copy(update={"split_seed": None})
        return Dataset(train, validation, "validation", description)

    def _split(self, protocol: Protocol, part: ManifestPart, fold: Fold | None) -> Holdout:
        if protocol == "brightness":
            return brightness_split(part, self._brightness())
        folder = cache_folder(self.cache_dir)
        if fold is None and protocol == "folds":
            raise ValueError("folds: which fold judges is not said")
        if fold is None:
            return kept_holdout_split(part, seed=SPLIT_SEED, folder=folder)
        return kept_fold_split(part, fold, seed=SPLIT_SEED, folder=folder)

    def _brightness(self) -> npt.NDArray[np.float64]:
        """Return the mean grey level of each development image, the same at whatever size it is asked for."""
        pixels = self._pixels("development", _MEASURED_SIZE, "area", "none").array
        return np.asarray(pixels.mean(axis=(1, 2)), dtype=np.float64)

    def _stressed(self, dataset: Dataset, size: int, equalization: Equalization) -> ImageSet:
        images = dataset.evaluation
        plain = self._pixels("development", size, "area", "none").array[images.indices]
        pixels = stressed(plain, equalization=equalization)
        labels = np.tile(images.labels[images.indices], len(pixels) // len(plain))
        return ImageSet(pixels, labels, np.arange(len(pixels)))

    def _with_battery(self, dataset: Dataset, size: int, equalization: Equalization) -> Dataset:
        """Add the copies that judge, and to the description what they span."""
        plain, labels = self._pixels("development", size, "area", "none"), dataset.evaluation.labels
        groups, n_train = leak_groups(plain.part), len(dataset.train.indices)
        judged = judged_images(labels, groups, dataset.evaluation.indices, n_train, seed=SPLIT_SEED)
        pixels = battery_copies(plain.array[judged], equalization)
        copies = ImageSet(pixels, np.tile(labels[judged], len(pixels) // len(judged)), np.arange(len(pixels)))
        before = pixels if equalization == "none" else battery_copies(plain.array[judged], "none")
        return replace(dataset, battery=copies, description=_judged_by(dataset.description, before))

    def _original(self, size: int, equalization: Equalization, write_down: WritesDown | None) -> Dataset:
        pixels = self._pixels("development", size, "nearest", equalization)
        test_pixels = self._test(size, "nearest", equalization, write_down)
        in_train = np.array([image.split == "train" for image in pixels.part.images])
        train = ImageSet(pixels.array, _labels(pixels.part), np.flatnonzero(in_train))
        test = ImageSet(test_pixels.array, _labels(test_pixels.part), np.arange(len(test_pixels.array)))
        description = self._describe(
            (len(train.indices), len(test.indices)), "nearest", equalization, pixels, test_pixels.part
        )
        return Dataset(train, test, "test", description.with_skipped(pixels.skipped + test_pixels.skipped))

    def _pixels(self, part: Part, size: int, interpolation: Interpolation, equalization: Equalization) -> Pixels:
        return load_pixels(
            self.manifest.part(part),
            size,
            interpolation,
            self.cache_dir,
            equalization=equalization,
            skip_unreadable=self.skip_unreadable,
            bits=self.bits,
            progress=self.progress,
        )

    def _describe(
        self,
        sizes: tuple[int, int],
        interpolation: Interpolation,
        equalization: Equalization,
        development: Pixels,
        test: ManifestPart | None = None,
    ) -> DataDescription:
        """Describe the data of a training; `sizes` are those of the images that train, and that judge."""
        description = DataDescription(
            kind=self.manifest.kind,
            folder=storable_path(self.manifest.folder.resolve()),
            fingerprint=development.part.fingerprint,
            test_fingerprint=test.fingerprint if test else None,
            counts={str(split): n for split, n in self.manifest.counts().items()},
            n_train=sizes[0],
            n_evaluation=sizes[1],
            interpolation=interpolation,
            split_seed=None if test else SPLIT_SEED,
            skipped=(),
            patient_rule=self.manifest.patient_rule,
            bits=self.bits,
            appearance=self._appearance(development, interpolation, equalization),
            classes=self.manifest.classes,
        )
        return description.with_skipped(development.skipped)

    def _appearance(self, development: Pixels, interpolation: Interpolation, equalization: Equalization) -> Appearance:
        """Summarise the images outside the test folder, before equalization; the sizes are of some of their files."""
        pixels, part = development.array, development.part
        if equalization != "none":
            side, interpolation = min(pixels.shape[1], _MEASURED_SIZE), "area"
            pixels = self._pixels("development", side, interpolation, "none").array
        some = part.images[:: max(1, len(part.images) // _N_SIZES)]
        sizes = [size for image in some if (size := file_size(part.path(image))) is not None]
        found = appearance_of([small(image) for image in pixels], sizes)
        return found.model_copy(update={"spans": spans_of(pixels, found.aspect_ratio, interpolation)})


def _judged_by(description: DataDescription, copies: PixelArray) -> DataDescription:
    """Return the description with what the battery's copies, before any equalization, span."""
    appearance = description.appearance
    if appearance is None or appearance.spans is None:
        return description
    found = appearance.model_copy(update={"spans": with_copies(appearance.spans, copies)})
    return description.model_copy(update={"appearance": found})


def _labels(part: ManifestPart) -> Labels:
    return np.array([image.label for image in part.images], dtype=np.float32)
