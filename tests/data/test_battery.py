"""The battery of crafted shifts: its copies, and the images that it is judged on."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pneumosearch.data.battery import BATTERY, FAMILY_OF_COPY, battery_copies, judged_images
from pneumosearch.data.cache import equalize, shrink
from pneumosearch.data.decoding import PixelArray
from pneumosearch.data.families import FAMILIES
from pneumosearch.data.phantom_drawing import draw_phantom
from pneumosearch.data.protocols import DataSource
from pneumosearch.data.splits import leak_groups
from tests.conftest import ROOT


def a_phantom(size: int) -> PixelArray:
    return shrink(draw_phantom(np.random.default_rng(3), 0.5), size, "area")


def test_each_family_has_as_many_copies_side_by_side() -> None:
    families = list(FAMILY_OF_COPY.values())
    assert families == sorted(families, key=FAMILIES.index)
    assert {families.count(family) for family in FAMILIES} == {3}
    assert len({copy.words for copy in BATTERY.values()}) == len(BATTERY) == 18


@pytest.mark.parametrize("size", [32, 150])
def test_each_copy_is_another_image_of_the_same_form_and_the_same_each_time(size: int) -> None:
    image = a_phantom(size)
    before = image.copy()
    copies = battery_copies(image[None], "none")
    assert copies.shape == (len(BATTERY), size, size)
    assert copies.dtype == np.uint8
    for name, copy in zip(BATTERY, copies, strict=True):
        distance = np.abs(copy.astype(int) - image).mean()
        assert 0.1 < distance < 100, name
        assert copy.std() > 5, name  # something is still to be seen
    assert np.array_equal(image, before)
    assert np.array_equal(battery_copies(image[None], "none"), copies)
    assert len({copy.tobytes() for copy in copies}) == len(copies)


def test_copies_are_what_their_names_say() -> None:
    image = a_phantom(96)
    made = dict(zip(BATTERY, battery_copies(image[None], "none"), strict=True))
    assert made["darker"].mean() < image.mean() < made["brighter"].mean()
    assert made["flatter"].std() < image.std() < made["steeper"].std()
    sharpness = {name: np.abs(np.diff(copy.astype(int))).mean() for name, copy in {**made, "": image}.items()}
    assert sharpness["coarser"] < sharpness["blurred"] < sharpness[""] < sharpness["sharpened"]
    assert (made["black-frame"][0] == 0).all()
    assert (made["white-frame"][:, -1] == 255).all()
    assert np.array_equal(made["marker"][20:], image[20:])


def test_copies_come_one_after_the_other_and_are_equalized_after_the_change() -> None:
    images = np.stack([a_phantom(40), a_phantom(40)[:, ::-1]])
    plain, clahe = battery_copies(images, "none"), battery_copies(images, "clahe")
    for i, copy in enumerate(BATTERY.values()):
        assert np.array_equal(plain[2 * i + 1], copy.change(images[1]))
        assert np.array_equal(clahe[2 * i + 1], equalize(copy.change(images[1])))


_SIZES = st.lists(st.integers(1, 5), min_size=3, max_size=80)


@settings(max_examples=30)
@given(_SIZES, _SIZES, st.integers(50, 20_000), st.integers(0, 1000))
def test_judged_images_are_whole_patients_and_as_many_of_each_class(
    normal: list[int], ill: list[int], n_train: int, seed: int
) -> None:
    groups = np.repeat(np.arange(len(normal) + len(ill)), [*normal, *ill])
    labels = np.repeat([0.0, 1.0], [sum(normal), sum(ill)]).astype(np.float32)
    indices = np.flatnonzero(groups % 3 > 0)  # the other patients train
    judged = judged_images(labels, groups, indices, n_train, seed=seed)
    assert np.array_equal(judged, np.unique(judged))
    assert np.array_equal(judged, judged_images(labels, groups, indices, n_train, seed=seed))
    assert np.array_equal(judged, indices[np.isin(groups[indices], groups[judged])])
    wanted = min(max(32, round(n_train / 48)), 128)
    for label in (0, 1):
        there, chosen = (labels[indices] == label).sum(), (labels[judged] == label).sum()
        assert chosen <= wanted
        assert chosen >= min(there, wanted - 4)  # a patient has at most five images
    assert len(BATTERY) * len(judged) <= max(0.75 * n_train + 18, len(BATTERY) * 64)


def test_one_patient_with_all_images_is_judged_in_part() -> None:
    labels = np.repeat([0.0, 1.0], [100, 100]).astype(np.float32)
    judged = judged_images(labels, np.zeros(200, np.int64), np.arange(200), 100, seed=1)
    assert [(labels[judged] == label).sum() for label in (0, 1)] == [32, 32]


def test_data_source_makes_the_battery_of_validation_images_only_when_asked(source: DataSource) -> None:
    assert source.load("holdout", 32).battery is None
    dataset = source.load("holdout", 32, battery=True)
    assert dataset.battery is not None
    assert dataset.stressed is None
    n = len(dataset.battery.labels) // len(BATTERY)
    assert set(dataset.battery.labels[:n]) == {0.0, 1.0}
    assert np.array_equal(dataset.battery.labels, np.tile(dataset.battery.labels[:n], len(BATTERY)))
    validation = dataset.evaluation
    part = source.manifest.part("development")
    groups = leak_groups(part)
    judged = judged_images(validation.labels, groups, validation.indices, len(dataset.train.indices), seed=232)
    assert np.array_equal(dataset.battery.pixels, battery_copies(np.asarray(validation.pixels[judged]), "none"))
    assert not set(groups[judged]) & set(groups[dataset.train.indices])


def test_documents_list_the_copies_as_they_are() -> None:
    rows = [f"| {copy.family} | {name} | {copy.words} |" for name, copy in BATTERY.items()]
    assert "\n".join(rows) in (ROOT / "docs" / "judging.md").read_text(encoding="utf-8")
