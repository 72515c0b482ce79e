"""What training images and the battery's copies span, and the remarks on images outside."""

from pathlib import Path

import numpy as np
import pytest

from pneumosearch.data import operations
from pneumosearch.data.appearance import appearance_of, differences, small, spanned
from pneumosearch.data.battery import BATTERY, battery_copies
from pneumosearch.data.cache import shrink
from pneumosearch.data.decoding import PixelArray, decode
from pneumosearch.data.manifest import read_manifest
from pneumosearch.data.protocols import DataSource
from pneumosearch.data.spans import measured, spans_of, with_copies
from pneumosearch.records.dataset import Appearance

SIDE = 48
SIZES = [(300, 250), (280, 200), (320, 240)]


@pytest.fixture(scope="module")
def images(phantoms: Path) -> list[PixelArray]:
    part = read_manifest(phantoms).part("development")
    return [decode(part.path(image)) for image in part.images[:60]]


@pytest.fixture(scope="module")
def shrunk(images: list[PixelArray]) -> PixelArray:
    return np.stack([shrink(image, SIDE, "area") for image in images])


@pytest.fixture(scope="module")
def trained(images: list[PixelArray], shrunk: PixelArray) -> Appearance:
    """Of a network that the battery did not judge."""
    found = appearance_of([small(image) for image in images], SIZES)
    return found.model_copy(update={"spans": spans_of(shrunk, found.aspect_ratio, "area")})


@pytest.fixture(scope="module")
def judged(trained: Appearance, shrunk: PixelArray) -> Appearance:
    assert trained.spans
    return trained.model_copy(update={"spans": with_copies(trained.spans, battery_copies(shrunk[::4], "none"))})


def remarks(image: PixelArray, appearance: Appearance, size: tuple[int, int] = SIZES[0]) -> list[str]:
    assert appearance.spans
    found = differences(small(image), size, appearance, measured(image, appearance.spans))
    return [remark for remark in found if remark.split(":")[0] in ("exposure", "tone", "resolution", "geometry")]


def test_copies_span_more_than_the_training_images_in_every_family(judged: Appearance) -> None:
    families = [family for family, _, _ in spanned(judged)]
    assert families == ["exposure", "tone", "resolution", "geometry"]
    for _, feature, span in spanned(judged):
        assert span.copies, feature
        assert span.copies[0] < span.training[0] < span.training[1] < span.copies[1], feature


def test_training_images_and_copies_have_no_remark(
    images: list[PixelArray], shrunk: PixelArray, trained: Appearance, judged: Appearance
) -> None:
    assert not any(remarks(image, trained) for image in images)
    copies = battery_copies(shrunk[::4], "none")
    beyond = [bool(remarks(copy, judged)) for copy in copies]
    assert sum(beyond) <= len(copies) // 30  # one at each end of the range of three features, where copies are few


@pytest.mark.parametrize("name", ["dimmed", "steeper", "coarser"])
def test_what_the_battery_judged_is_no_strange_image_to_its_network_only(
    name: str, shrunk: PixelArray, trained: Appearance, judged: Appearance
) -> None:
    changed = [BATTERY[name].change(image) for image in shrunk[::4]]
    told, told_of_judged = (sum(bool(remarks(image, each)) for image in changed) for each in (trained, judged))
    assert told > 2 >= told_of_judged  # of 15, of which two are at the ends of the range


def test_image_beyond_both_is_told_with_family_value_and_ranges(
    images: list[PixelArray], trained: Appearance, judged: Appearance
) -> None:
    dark = operations.contrast(images[0], 0.1, about=0.0)
    (exposure, *_) = remarks(dark, judged)
    assert exposure.startswith(f"exposure: brightness {dark.mean():.3g}, training images ")
    assert ", copies that judged " in exposure
    assert "copies" not in remarks(dark, trained)[0]
    for image, family in (
        (operations.contrast(images[0], 0.1), "tone"),
        (operations.blur(images[0], 0.08), "resolution"),
    ):
        assert family in [remark.split(":")[0] for remark in remarks(image, judged)]


def test_aspect_ratio_counts_where_the_films_differ_in_it(images: list[PixelArray], judged: Appearance) -> None:
    assert remarks(images[0], judged, (330, 200)) == []  # 1.65, of films up to 1.4 and copies up to 1.68
    assert remarks(images[0], judged, (200, 300)) == [
        "geometry: aspect ratio 0.667, training images 1.2 to 1.4, copies that judged 1 to 1.68"
    ]
    assert judged.spans
    square = spans_of(np.zeros((3, 8, 8), np.uint8), (1.0, 1.0), "area")
    assert square.aspect_ratio is None


def test_spans_survive_storing_and_are_small(judged: Appearance) -> None:
    text = judged.model_dump_json()
    assert Appearance.model_validate_json(text) == judged
    assert len(text) < 3000


def test_description_has_the_span_of_the_copies_where_the_battery_judges(phantoms: Path, tmp_path: Path) -> None:
    source = DataSource(read_manifest(phantoms), tmp_path / "cache")
    without = source.load("holdout", 32).description.appearance
    assert {span.copies for _, _, span in spanned(without)} == {None}
    having, equalized = (
        source.load("holdout", 32, equalization, battery=True).description.appearance
        for equalization in ("none", "standardize")
    )
    assert having == equalized  # the copies are measured as they are before equalization
    spans = {feature: span for _, feature, span in spanned(having)}
    assert set(spans) == {"brightness", "contrast", "sharpness", "aspect ratio"}
    low, high = spans["brightness"].training
    copies = spans["brightness"].copies
    assert copies
    assert copies[0] < 0.7 * low < high + 10 < copies[1]
