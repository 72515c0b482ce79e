import io
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pneumosearch.config import Fold
from pneumosearch.data import splits
from pneumosearch.data.manifest import ImageFile, ManifestPart, read_manifest
from pneumosearch.data.splits import (
    FOLDS,
    fold_numbers,
    holdout_split,
    kept_fold_split,
    kept_holdout_split,
    leak_groups,
)
from pneumosearch.errors import DataError


def a_part(folder: Path, images_of: list[tuple[int, int]], same_content: bool = False) -> ManifestPart:
    """One patient per entry, (label, number of images)."""
    images = []
    for patient, (label, n) in enumerate(images_of):
        for k in range(n):
            image = ImageFile(f"person{patient}_virus_{k}.jpeg", "train", label)
            (folder / image.name).write_bytes(b"same" if same_content and k == 0 else image.name.encode())
            images.append(image)
    return ManifestPart(folder, "development", tuple(images))


_PATIENTS = st.lists(st.integers(1, 4), min_size=25, max_size=60)


@settings(max_examples=25)
@given(_PATIENTS, _PATIENTS, st.integers(0, 1000))
def test_no_patient_is_on_both_sides_and_classes_keep_their_share(normal: list[int], ill: list[int], seed: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        part = a_part(Path(folder), [(0, n) for n in normal] + [(1, n) for n in ill])
        split = holdout_split(part, seed=seed)
    patients = np.array([image.patient for image in part.images])
    labels = np.array([image.label for image in part.images])
    assert not set(patients[split.train]) & set(patients[split.validation])
    assert sorted([*split.train, *split.validation]) == list(range(len(part.images)))
    assert 0.03 < len(split.validation) / len(part.images) < 0.2
    assert abs(labels[split.validation].mean() - labels.mean()) < 0.25


@pytest.mark.parametrize("n_folds", [2, 5])
def test_folds_divide_the_patients_with_the_classes_in_proportion(phantoms: Path, tmp_path: Path, n_folds: int) -> None:
    part = read_manifest(phantoms).part("development")
    labels, groups = np.array([image.label for image in part.images]), leak_groups(part)
    splits_of = [kept_fold_split(part, Fold(n, n_folds), seed=3, folder=tmp_path) for n in range(n_folds)]
    judged = np.concatenate([split.validation for split in splits_of])
    assert sorted(judged) == list(range(len(part.images)))  # each image judges once
    for split in splits_of:
        assert sorted([*split.train, *split.validation]) == list(range(len(part.images)))
        assert not set(groups[split.train]) & set(groups[split.validation])
        assert abs(labels[split.validation].mean() - labels.mean()) < 0.1
        assert abs(len(split.validation) - len(labels) / n_folds) <= 0.25 * len(labels) / n_folds


def test_holdout_is_the_first_of_ten_folds(phantoms: Path) -> None:
    part = read_manifest(phantoms).part("development")
    assert np.array_equal(
        np.flatnonzero(fold_numbers(part, FOLDS, seed=3) == 0), holdout_split(part, seed=3).validation
    )


def test_folds_are_made_once_and_made_again_where_their_file_is_no_use(
    phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = read_manifest(phantoms).part("development")
    wanted = kept_fold_split(part, Fold(1, 3), seed=3, folder=tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(splits, "fold_numbers", None)
        assert np.array_equal(kept_fold_split(part, Fold(1, 3), seed=3, folder=tmp_path).train, wanted.train)
    (file,) = tmp_path.iterdir()
    for useless in (b"", _as_file(np.zeros(len(part.images), np.uint8)), _as_file(np.arange(3, dtype=np.uint8))):
        file.write_bytes(useless)
        assert np.array_equal(kept_fold_split(part, Fold(1, 3), seed=3, folder=tmp_path).train, wanted.train)


def test_identical_files_of_two_patients_stay_together(tmp_path: Path) -> None:
    part = a_part(tmp_path, [(0, 2), (0, 2), (1, 1)], same_content=True)
    assert len(set(leak_groups(part))) == 1


def test_one_seed_gives_one_split(phantoms: Path) -> None:
    part = read_manifest(phantoms).part("development")
    first, again = holdout_split(part, seed=3), holdout_split(part, seed=3)
    assert np.array_equal(first.validation, again.validation)
    assert not np.array_equal(first.validation, holdout_split(part, seed=4).validation)


def test_split_is_made_once_and_made_again_where_its_file_is_no_use(
    phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = read_manifest(phantoms).part("development")
    wanted = holdout_split(part, seed=3)

    def kept() -> None:
        split = kept_holdout_split(part, seed=3, folder=tmp_path)
        assert np.array_equal(split.train, wanted.train)
        assert np.array_equal(split.validation, wanted.validation)

    kept()
    with monkeypatch.context() as patch:
        patch.setattr(splits, "holdout_split", None)  # so that making it fails
        kept()
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    others = [np.ones(3, bool), np.ones(len(part.images), int), np.ones(len(part.images), bool)]
    for useless in (b"", whole[:100], whole[:-20], b"not an array", *map(_as_file, others)):
        file.write_bytes(useless)
        kept()
        assert file.read_bytes() == whole


def _as_file(array: npt.NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def test_split_needs_no_room(phantoms: Path, tmp_path: Path) -> None:
    part = read_manifest(phantoms).part("development")
    split = kept_holdout_split(part, seed=3, folder=tmp_path / "missing")
    assert np.array_equal(split.train, holdout_split(part, seed=3).train)


def test_too_few_patients_are_told(tmp_path: Path) -> None:
    few = a_part(tmp_path, [(0, 5)] * 3 + [(1, 1)] * 30)
    assert len(set(fold_numbers(few, 3, seed=1))) == 3
    with pytest.raises(DataError, match="class 0 has 3 patients"):
        fold_numbers(few, 4, seed=1)
    with pytest.raises(DataError, match="class 0 has 3 patients"):
        holdout_split(a_part(tmp_path, [(0, 5)] * 3 + [(1, 1)] * 30), seed=1)


def test_real_validation_is_a_tenth_with_the_real_balance(real_images: Path) -> None:
    part = read_manifest(real_images).part("development")
    split = holdout_split(part, seed=232)
    labels = np.array([image.label for image in part.images])
    assert abs(len(split.validation) / 5232 - 0.1) < 0.01
    assert abs(labels[split.validation].mean() - labels.mean()) < 0.01
