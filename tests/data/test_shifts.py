"""Changed copies of validation images, the split by brightness, and a search that judges by them."""

import tempfile
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pneumosearch.config import Equalization
from pneumosearch.data.cache import equalize, standardize
from pneumosearch.data.decoding import PixelArray
from pneumosearch.data.protocols import DataSource
from pneumosearch.data.shifts import CHANGES, stressed
from pneumosearch.data.splits import brightness_split, leak_groups
from pneumosearch.errors import DataError
from pneumosearch.metrics import score, stress_score
from tests.data.test_splits import a_part

GREY = np.random.default_rng(0).integers(60, 180, (40, 40)).astype(np.uint8)


def changed(name: str, image: PixelArray = GREY) -> PixelArray:
    return CHANGES[name](image)


def test_changes_are_what_their_names_say() -> None:
    assert np.array_equal(changed("darker"), np.maximum(GREY.astype(int) - 51, 0))
    assert np.array_equal(changed("brighter"), GREY + 51)
    assert changed("flatter").std() == pytest.approx(0.7 * GREY.std(), rel=0.01)
    assert changed("steeper").std() == pytest.approx(1.3 * GREY.std(), rel=0.01)
    assert changed("flatter").mean() == pytest.approx(GREY.mean(), abs=0.5)
    framed = np.full((40, 40), 200, np.uint8)
    framed[3:-3, 3:-3] = 50
    assert (changed("cropped", framed) == 50).all()
    assert changed("blurred").std() < GREY.std()


def test_copies_are_ordered_by_change_and_equalized_after_it() -> None:
    images = np.stack([GREY, GREY[::-1]])
    plain, clahe, standard = (stressed(images, equalization=how) for how in get_args(Equalization))
    assert plain.shape == clahe.shape == standard.shape == (2 * len(CHANGES), 40, 40)
    for i, change in enumerate(CHANGES.values()):
        assert np.array_equal(plain[2 * i + 1], change(images[1]))
        assert np.array_equal(clahe[2 * i + 1], equalize(change(images[1])))
        assert np.array_equal(standard[2 * i + 1], standardize(change(images[1])))


def test_scores_of_copies_are_of_all_together_and_of_the_worst() -> None:
    labels = np.array([0, 0, 1, 1])
    first, second = [0.1, 0.2, 0.8, 0.9], [0.7, 0.8, 0.9, 0.95]  # the second change makes all look ill
    found = stress_score(labels, first + second)
    assert found.stress_worst == 0.5
    assert found.stress_balanced_accuracy == 0.75
    assert found.stress_auc == score(np.tile(labels, 2), first + second).auc < 1.0


_PATIENTS = st.lists(st.integers(1, 4), min_size=12, max_size=60)


@settings(max_examples=25)
@given(_PATIENTS, _PATIENTS, st.integers(0, 1000))
def test_split_by_brightness_keeps_patients_together_and_holds_out_both_ends(
    normal: list[int], ill: list[int], seed: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        part = a_part(Path(folder), [(0, n) for n in normal] + [(1, n) for n in ill])
        groups = leak_groups(part)
    brightness = np.random.default_rng(seed).uniform(0, 255, len(part.images))
    split = brightness_split(part, brightness)
    assert sorted([*split.train, *split.validation]) == list(range(len(part.images)))
    assert not set(groups[split.train]) & set(groups[split.validation])
    assert 0.03 < len(split.validation) / len(part.images) < 0.5
    means = {group: brightness[groups == group].mean() for group in set(groups)}
    labels = np.array([image.label for image in part.images])
    for label in (0, 1):
        trained = [means[g] for g in set(groups[split.train][labels[split.train] == label])]
        held_out = [means[g] for g in set(groups[split.validation][labels[split.validation] == label])]
        assert min(held_out) < min(trained)
        assert max(held_out) > max(trained)
        assert not [level for level in held_out if min(trained) < level < max(trained)]
    assert np.array_equal(brightness_split(part, brightness).validation, split.validation)


def test_split_by_brightness_needs_patients(tmp_path: Path) -> None:
    part = a_part(tmp_path, [(0, 1)] * 12 + [(1, 1)] * 2)
    with pytest.raises(DataError, match="class 1 has 2 patients"):
        brightness_split(part, np.zeros(len(part.images)))


def test_data_source_makes_copies_of_the_validation_images_only_when_asked(source: DataSource) -> None:
    assert source.load("holdout", 32).stressed is None
    dataset = source.load("holdout", 32, "clahe", stress=True)
    assert dataset.stressed is not None
    validation = source.load("holdout", 32).evaluation
    plain = validation.pixels[validation.indices]
    assert np.array_equal(dataset.stressed.pixels, stressed(np.asarray(plain), equalization="clahe"))
    assert np.array_equal(dataset.stressed.labels[: len(plain)], validation.labels[validation.indices])


def test_split_by_brightness_is_the_same_at_all_sizes(source: DataSource) -> None:
    small, large = (source.load("brightness", size).evaluation.indices for size in (32, 96))
    assert np.array_equal(small, large)
    assert not np.array_equal(small, source.load("holdout", 32).evaluation.indices)
    assert source.load("brightness", 32).description.split_seed is None
