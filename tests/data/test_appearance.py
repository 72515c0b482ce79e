from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from pneumosearch.data.appearance import INVERTED, NO_XRAY, appearance_of, differences, small
from pneumosearch.data.decoding import decode
from pneumosearch.data.manifest import read_manifest
from pneumosearch.records.dataset import Appearance

Grey = npt.NDArray[Any]
SIZE = (224, 224)


@pytest.fixture(scope="module")
def images(phantoms: Path) -> list[Grey]:
    part = read_manifest(phantoms).part("development")
    return [decode(part.path(image)) for image in part.images]


@pytest.fixture(scope="module")
def appearance(images: list[Grey]) -> Appearance:
    return appearance_of([small(image) for image in images], [SIZE])


def _differences(image: Grey, appearance: Appearance, size: tuple[int, int] = SIZE) -> tuple[str, ...]:
    return differences(small(np.asarray(image, dtype=np.uint8)), size, appearance)


def test_training_images_have_no_remark(images: list[Grey], appearance: Appearance) -> None:
    assert sum(bool(_differences(image, appearance)) for image in images) <= len(images) / 50


def test_negatives_are_named(images: list[Grey], appearance: Appearance) -> None:
    assert all(INVERTED in _differences(255 - image, appearance) for image in images[:20])


def _pictures() -> dict[str, Grey]:
    rng = np.random.default_rng(1)
    rows, columns = np.mgrid[0:128, 0:128]
    return {
        "noise": rng.integers(0, 256, (128, 128)),
        "checkers": 255 * ((rows // 16 + columns // 16) % 2),
        "gradient": 2 * columns,
        "flat": np.full((128, 128), 128),
        "stripes": np.where(rows % 14 < 6, 20, 245),
    }


@pytest.mark.parametrize("name", list(_pictures()))
def test_pictures_that_are_no_xrays_are_marked(appearance: Appearance, name: str) -> None:
    assert NO_XRAY in _differences(_pictures()[name], appearance)


def test_image_far_too_dark_or_too_bright_is_told(images: list[Grey], appearance: Appearance) -> None:
    dark = _differences(images[0] // 16, appearance)
    assert any(remark.startswith("brightness") for remark in dark)
    assert any(remark.startswith("contrast") for remark in dark)
    assert any(remark.startswith("brightness") for remark in _differences(255 - images[0] // 16, appearance))


@pytest.mark.parametrize(("size", "word"), [((60, 60), "size"), ((448, 150), "aspect ratio"), ((1857, 1317), "")])
def test_size_far_from_the_training_is_told(
    images: list[Grey], appearance: Appearance, size: tuple[int, int], word: str
) -> None:
    found = _differences(images[0], appearance, size)
    assert bool(found) == bool(word)
    assert all(word in remark for remark in found)


def test_summary_survives_storing_and_is_small(images: list[Grey], appearance: Appearance) -> None:
    text = appearance.model_dump_json()
    assert len(text) < 2000
    assert Appearance.model_validate_json(text) == appearance
    assert appearance_of([small(images[0])], []).pixels is None


def test_false_alarms_on_real_xrays_of_new_patients_are_few(real_images: Path) -> None:
    part = read_manifest(real_images).part("development")
    chosen = part.images[::8]
    each = [small(decode(part.path(image))) for image in chosen]
    even = [int("".join(filter(str.isdigit, image.patient)) or 0) % 2 == 0 for image in chosen]
    appearance = appearance_of([image for image, first in zip(each, even, strict=True) if first], [SIZE])
    others = [image for image, first in zip(each, even, strict=True) if not first]
    assert sum(bool(differences(image, SIZE, appearance)) for image in others) <= len(others) * 0.02
    negatives = [INVERTED in differences(np.asarray(255 - image), SIZE, appearance) for image in others]
    assert np.mean(negatives) > 0.95
