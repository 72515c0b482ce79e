"""Changes of one image: neutral values, shapes, ranges, and effects that grow with the change."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest

from pneumosearch.data import operations as op
from pneumosearch.data.decoding import PixelArray

_COARSE = np.kron(np.random.default_rng(0).integers(50, 200, (6, 8)), np.ones((10, 10)))
IMAGE: PixelArray = (_COARSE + np.random.default_rng(1).integers(-5, 6, (60, 80))).astype(np.uint8)

#: Each change by one number: the neutral number, then numbers that change more and more.
CHANGES: dict[str, tuple[Callable[[PixelArray, float], PixelArray], tuple[float, ...]]] = {
    "gamma, darker": (op.gamma, (1.0, 1.3, 2.0, 4.0)),
    "gamma, brighter": (op.gamma, (1.0, 0.8, 0.5, 0.2)),
    "brightness": (op.brightness, (0.0, 0.05, 0.2, 0.4)),
    "contrast, flatter": (op.contrast, (1.0, 0.8, 0.5, 0.0)),
    "contrast, steeper": (op.contrast, (1.0, 1.2, 1.6, 3.0)),
    "blur": (op.blur, (0.0, 0.01, 0.03, 0.1)),
    "sharpen": (op.sharpen, (0.0, 0.5, 1.0, 2.0)),
    "lose_resolution": (op.lose_resolution, (1.0, 2.0, 4.0, 16.0)),
    "add_noise": (lambda image, sd: op.add_noise(image, sd, 7), (0.0, 0.02, 0.1, 0.3)),
    "erase": (lambda image, side: op.erase(image, 0.1, 0.1, side, side, level=0), (0.0, 0.2, 0.5, 1.0)),
    "crop": (lambda image, share: op.crop(image, 0.0, 0.0, share, share), (1.0, 0.95, 0.85, 0.5)),
    "border": (op.border, (0.0, 0.05, 0.1, 0.5)),
    "change_aspect, wider": (op.change_aspect, (1.0, 1.05, 1.2, 2.0)),
    "change_aspect, taller": (op.change_aspect, (1.0, 0.95, 0.8, 0.5)),
}


@pytest.mark.parametrize("name", CHANGES)
def test_change_is_neutral_at_its_first_number_and_grows_from_there(name: str) -> None:
    change, numbers = CHANGES[name]
    before = IMAGE.copy()
    copies = [change(IMAGE, number) for number in numbers]
    assert np.array_equal(IMAGE, before)
    assert np.array_equal(copies[0], IMAGE)
    assert {(copy.shape, copy.dtype) for copy in copies} == {(IMAGE.shape, IMAGE.dtype)}
    distances = [np.abs(copy.astype(float) - IMAGE).mean() for copy in copies]
    assert all(less < more for less, more in pairwise(distances))


def test_jpeg_changes_more_at_lower_qualities_and_hardly_at_100() -> None:
    distances = [np.abs(op.jpeg(IMAGE, quality).astype(float) - IMAGE).mean() for quality in (100, 75, 30, 5)]
    assert distances[0] < 0.5
    assert all(less < more for less, more in pairwise(distances))
    assert op.jpeg(IMAGE, 50).shape == IMAGE.shape


def test_grey_levels_change_as_their_names_say() -> None:
    grey = np.array([[0, 64, 128, 255]], dtype=np.uint8)
    assert op.gamma(grey, 0.5).tolist() == [[0, 128, 181, 255]]
    assert op.brightness(grey, -0.2).tolist() == [[0, 13, 77, 204]]
    assert op.contrast(grey, 0.5, about=128).tolist() == [[64, 96, 128, 192]]
    assert op.contrast(IMAGE, 0.7).mean() == pytest.approx(IMAGE.mean(), abs=0.5)
    assert op.contrast(IMAGE, 0.7).std() == pytest.approx(0.7 * IMAGE.std(), rel=0.01)


def test_blur_and_sharpening_move_the_deviation_in_opposite_ways() -> None:
    assert op.blur(IMAGE, 0.02).std() < IMAGE.std() < op.sharpen(IMAGE, 1.0).std()


def test_noise_has_the_wanted_deviation_and_repeats_by_seed() -> None:
    noisy = op.add_noise(np.full((200, 200), 128, np.uint8), 0.05, 3)
    assert noisy.std() == pytest.approx(0.05 * 255, rel=0.03)
    assert np.array_equal(noisy, op.add_noise(np.full((200, 200), 128, np.uint8), 0.05, np.random.default_rng(3)))
    assert not np.array_equal(noisy, op.add_noise(np.full((200, 200), 128, np.uint8), 0.05, 4))


def test_erased_patch_is_where_it_was_wanted_and_may_reach_beyond_the_image() -> None:
    erased = op.erase(IMAGE, 0.5, 0.25, 0.25, 0.5, level=9)
    assert (erased[30:45, 20:60] == 9).all()
    erased[30:45, 20:60] = IMAGE[30:45, 20:60]
    assert np.array_equal(erased, IMAGE)
    corner = op.erase(IMAGE, -0.5, 0.75, 1.0, 1.0)
    assert set(corner[:30, 60:].ravel().tolist()) == {round(float(IMAGE.mean()))}
    assert np.array_equal(corner[30:], IMAGE[30:])
    assert np.array_equal(op.erase(IMAGE, -0.5, 0.0, 0.2, 1.0), IMAGE)


def test_crop_shows_the_part_alone() -> None:
    framed = np.full((40, 40), 200, np.uint8)
    framed[10:30, 20:40] = 50
    assert (op.crop(framed, 0.25, 0.5, 0.5, 0.5) == 50).all()


def test_border_covers_the_four_sides_by_their_share() -> None:
    framed = op.border(np.full((40, 80), 100, np.uint8), 0.1, 255)
    assert (framed[4:-4, 8:-8] == 100).all()
    assert (framed == 255).sum() == 40 * 80 - 32 * 64


def test_aspect_stretches_one_axis_about_the_centre() -> None:
    square = np.zeros((60, 60), np.uint8)
    square[20:40, 20:40] = 255
    wider, taller = op.change_aspect(square, 1.5), op.change_aspect(square, 1 / 1.5)
    assert (wider[30] > 127).sum() == (taller[:, 30] > 127).sum() == pytest.approx(30, abs=1)
    assert (wider[:, 30] > 127).sum() == (taller[30] > 127).sum() == 20


@pytest.mark.parametrize(
    "change",
    [
        lambda: op.gamma(IMAGE, 0.0),
        lambda: op.brightness(IMAGE, 1.5),
        lambda: op.contrast(IMAGE, -0.1),
        lambda: op.blur(IMAGE, -0.1),
        lambda: op.sharpen(IMAGE, -1.0),
        lambda: op.lose_resolution(IMAGE, 0.5),
        lambda: op.jpeg(IMAGE, 0),
        lambda: op.add_noise(IMAGE, float("nan"), 1),
        lambda: op.erase(IMAGE, 0, 0, -0.1, 0.5),
        lambda: op.crop(IMAGE, 0.6, 0, 0.5, 0.5),
        lambda: op.crop(IMAGE, 0, 0, 0.0, 0.5),
        lambda: op.border(IMAGE, 0.6),
        lambda: op.change_aspect(IMAGE, 0.0),
    ],
)
def test_values_out_of_range_are_refused(change: Callable[[], PixelArray]) -> None:
    with pytest.raises(ValueError, match="is out of range; wanted"):
        change()
