import numpy as np
import pytest

from pneumosearch.config import TrialConfig
from pneumosearch.data.augmentation import Augmentation, Change, transform
from pneumosearch.data.decoding import PixelArray

PUBLISHED = Augmentation(TrialConfig())


def ramp(size: int = 51) -> PixelArray:
    """Brightness that rises by 2 a row and 1 a column."""
    rows, columns = np.arange(size)[:, None], np.arange(size)
    return (2 * rows + columns).astype(np.uint8)


def test_zoom_scales_about_the_centre_each_axis_by_its_own_factor() -> None:
    image, centre = ramp(), 25
    zoomed = transform(image, Change(zoom=(0.8, 0.7))).tolist()
    for row, column in ((25, 25), (5, 40), (45, 10)):
        expected = 2 * (centre + 0.8 * (row - centre)) + centre + 0.7 * (column - centre)
        assert zoomed[row][column] == pytest.approx(expected, abs=1)
    assert zoomed[25][25] == image[25, 25]


def test_zooming_out_fills_the_edges_with_the_nearest_pixel() -> None:
    image = ramp()
    small = transform(image, Change(zoom=(1.3, 1.3)))
    assert small[0, 0] == image[0, 0]
    assert small[-1, -1] == image[-1, -1]
    assert np.array_equal(small[0], small[1])


def test_flips_turn_upside_down_and_sideways_and_nothing_else() -> None:
    assert np.array_equal(transform(ramp(), Change(vertical_flip=True)), ramp()[::-1])
    assert np.array_equal(transform(ramp(), Change(horizontal_flip=True)), ramp()[:, ::-1])
    assert np.array_equal(transform(ramp(), Change()), ramp())


def test_shift_moves_down_and_right_by_shares_of_the_side() -> None:
    moved = transform(ramp(50), Change(shift=(0.1, 0.2)))
    assert np.array_equal(moved[5:, 10:], ramp(50)[:-5, :-10])
    assert np.array_equal(moved[0, 10:], ramp(50)[0, :-10])


def test_a_quarter_turn_is_clockwise_about_the_centre() -> None:
    assert np.array_equal(transform(ramp(), Change(rotation=90.0)), np.rot90(ramp(), k=-1))


def test_brightness_adds_and_contrast_scales_about_mid_grey() -> None:
    grey = np.array([[0, 100, 128, 200, 255]], dtype=np.uint8)
    assert transform(grey, Change(brightness=0.2)).tolist() == [[51, 151, 179, 251, 255]]
    assert transform(grey, Change(contrast=0.5)).tolist() == [[64, 114, 128, 164, 191]]


def test_published_ranges_are_drawn_evenly_and_independently() -> None:
    changes = PUBLISHED.draw(np.random.default_rng(5), 20_000)
    factors = np.array([change.zoom for change in changes])
    assert 0.7 <= factors.min() < 0.701
    assert 1.299 < factors.max() <= 1.3
    assert factors.mean(axis=0) == pytest.approx([1, 1], abs=0.005)
    assert abs(np.mean((factors[:, 0] - 1) * (factors[:, 1] - 1))) < 0.001
    assert np.mean([change.vertical_flip for change in changes]) == pytest.approx(0.5, abs=0.02)
    others = {change._replace(zoom=(1.0, 1.0), vertical_flip=False) for change in changes}
    assert others == {Change()}


def test_other_ranges_are_drawn_to_their_ends_and_leave_the_published_draws() -> None:
    wide = Augmentation(TrialConfig(horizontal_flip=True, shift=0.1, rotation=15.0, brightness=0.2, contrast=0.4))
    changes = wide.draw(np.random.default_rng(5), 20_000)
    for name, least, most in (("rotation", -15, 15), ("brightness", -0.2, 0.2), ("contrast", 0.6, 1.4)):
        values = [getattr(change, name) for change in changes]
        assert min(values) == pytest.approx(least, rel=0.01)
        assert max(values) == pytest.approx(most, rel=0.01)
    shifts = np.array([change.shift for change in changes])
    assert np.abs(shifts).max(axis=0) == pytest.approx([0.1, 0.1], rel=0.01)
    published = PUBLISHED.draw(np.random.default_rng(5), 20_000)
    assert [c.zoom for c in changes] == [c.zoom for c in published]
    assert [c.vertical_flip for c in changes] == [c.vertical_flip for c in published]
