import hashlib
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pneumosearch.config import TrialConfig
from pneumosearch.data import operations
from pneumosearch.data.augmentation import Augmentation, Change
from pneumosearch.data.decoding import PixelArray
from pneumosearch.data.transform import transform

PUBLISHED = Augmentation(TrialConfig())

#: Each kind of change that has draws of its own: its fields at some value, and the fields of `Change` that they draw.
LATER: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "crop": ({"crop_area": 0.5, "crop_aspect": 1.3}, ("crop",)),
    "gamma": ({"gamma": 0.5}, ("gamma",)),
    "sharpness": ({"blur": 0.02, "sharpen": 1.0}, ("blur", "sharpen")),
    "resolution": ({"resolution_loss": 0.5}, ("lost_resolution",)),
    "noise": ({"noise": 0.1}, ("noise", "noise_place")),
    "jpeg": ({"jpeg_loss": 60}, ("jpeg",)),
    "patch": ({"erase": 0.2}, ("erased", "erased_level")),
    "mixup": ({"mixup": 0.4}, ("mix",)),
}


def drawn(seed: int = 5, n: int = 5_000, **config: Any) -> list[Change]:
    return Augmentation(TrialConfig(**config)).draw(np.random.default_rng(seed), n)


def values(changes: list[Change], *names: str) -> list[list[Any]]:
    return [[getattr(change, name) for name in names] for change in changes]


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
        assert min(values) == pytest.approx(least, rel=0.02)
        assert max(values) == pytest.approx(most, rel=0.01)
    shifts = np.array([change.shift for change in changes])
    assert np.abs(shifts).max(axis=0) == pytest.approx([0.1, 0.1], rel=0.02)
    published = PUBLISHED.draw(np.random.default_rng(5), 20_000)
    assert [c.zoom for c in changes] == [c.zoom for c in published]
    assert [c.vertical_flip for c in changes] == [c.vertical_flip for c in published]


def test_draws_of_the_first_fields_are_those_of_earlier_versions() -> None:
    """Digest by commit 7c54c67, before later fields came: trainings of its stores repeat."""
    ranges: dict[str, object] = {
        "horizontal_flip": True,
        "shift": 0.1,
        "rotation": 15.0,
        "brightness": 0.2,
        "contrast": 0.4,
    }
    later = {name: value for fields, _ in LATER.values() for name, value in fields.items()}
    first = ("zoom", "vertical_flip", "horizontal_flip", "shift", "rotation", "brightness", "contrast")
    for config in (ranges, ranges | later):
        changes = Augmentation(TrialConfig.checked(config, "test")).draw(np.random.default_rng([232, 3]), 50)
        digest = hashlib.sha256(json.dumps(values(changes, *first)).encode()).hexdigest()
        assert digest == "5e604e1eab172e3ac99b3d5ff92df63ad43824f4d5a7d16958ae547e5854b305"


@given(st.sets(st.sampled_from(sorted(LATER))), st.sampled_from(sorted(LATER)), st.integers(0, 2**32 - 1))
def test_a_field_draws_the_same_whatever_others_are_on(others: set[str], name: str, seed: int) -> None:
    fields, names = LATER[name]
    config = {key: value for other in others - {name} for key, value in LATER[other][0].items()}
    without, alone, together = (drawn(seed, 5, **each) for each in (config, fields, {**config, **fields}))
    assert values(together, *names) == values(alone, *names)
    assert values(without, *names) == values([Change()] * 5, *names)
    kept = [each for each in Change._fields if each not in names]
    assert values(together, *kept) == values(without, *kept)


def test_later_ranges_are_drawn_to_their_ends() -> None:
    changes = drawn(**{name: value for fields, _ in LATER.values() for name, value in fields.items()})
    ends = {
        "gamma": (1 / 1.5, 1.5),
        "blur": (0.0, 0.02),
        "sharpen": (0.0, 1.0),
        "lost_resolution": (1.0, 2.0),
        "noise": (0.0, 0.1),
        "jpeg": (40, 100),
        "erased_level": (0, 255),
        "mix": (0.0, 0.5),
    }
    for name, (least, most) in ends.items():
        (found,) = np.array(values(changes, name)).T
        assert found.min() == pytest.approx(least, abs=0.01)
        assert found.max() == pytest.approx(most, rel=0.02)
    blurred, sharpened = np.array(values(changes, "blur", "sharpen")).T
    assert not (blurred * sharpened).any()
    assert np.mean(blurred > 0) == pytest.approx(0.5, abs=0.02)


def test_crops_lie_within_the_image_and_have_the_wanted_areas_and_aspects() -> None:
    top, left, height, width = np.array(values(drawn(crop_area=0.25, crop_aspect=2.0), "crop"))[:, 0].T
    assert min(top.min(), left.min()) >= 0
    assert max((top + height).max(), (left + width).max()) <= 1 + 1e-12
    aspect, area = width / height, height * width
    assert (aspect.min(), aspect.max()) == (pytest.approx(0.5, rel=0.02), pytest.approx(2.0, rel=0.02))
    assert area.min() == pytest.approx(0.25, rel=0.02)
    assert np.log(aspect).mean() == pytest.approx(0.0, abs=0.01)
    square = np.array(values(drawn(crop_area=0.25), "crop"))[:, 0].T
    assert np.allclose(square[2], square[3])
    assert (square[2] * square[3]).mean() == pytest.approx(0.625, abs=0.01)


def test_patches_have_areas_up_to_the_wanted_one_and_may_reach_beyond_the_image() -> None:
    top, left, height, width = np.array(values(drawn(erase=0.3), "erased"))[:, 0].T
    assert (height * width).max() == pytest.approx(0.3, rel=0.02)
    assert (width / height).max() == pytest.approx(3.0, rel=0.02)
    assert (top.min() < 0, left.min() < 0) == (True, True)
    assert (top + height / 2).mean() == pytest.approx(0.5, abs=0.01)


def test_crop_is_part_of_the_one_warp_and_shows_the_part_alone() -> None:
    image = ramp(60)
    cropped = transform(image, Change(crop=(0.2, 0.4, 0.5, 0.5)))
    assert np.abs(cropped.astype(int) - operations.crop(image, 0.2, 0.4, 0.5, 0.5)).max() <= 1
    turned = transform(image, Change(crop=(0.2, 0.4, 0.5, 0.5), vertical_flip=True))
    assert np.array_equal(turned, cropped[::-1])


def test_other_changes_are_the_operations_of_their_names() -> None:
    image = ramp(60)
    expected = {
        Change(gamma=0.5): operations.gamma(image, 0.5),
        Change(blur=0.03): operations.blur(image, 0.03),
        Change(sharpen=1.5): operations.sharpen(image, 1.5),
        Change(lost_resolution=3.0): operations.lose_resolution(image, 3.0),
        Change(jpeg=20): operations.jpeg(image, 20),
        Change(erased=(0.1, 0.2, 0.3, 0.4), erased_level=9): operations.erase(image, 0.1, 0.2, 0.3, 0.4, level=9),
    }
    for change, result in expected.items():
        assert np.array_equal(transform(image, change), result)
        assert not np.array_equal(result, image)


def test_noise_has_the_wanted_deviation_and_another_pattern_at_another_place() -> None:
    grey = np.full((100, 100), 128, np.uint8)
    first, again, other = (transform(grey, Change(noise=0.1, noise_place=(x, 0.4))) for x in (0.1, 0.1, 0.7))
    assert first.std() == pytest.approx(25.5, rel=0.05)
    assert np.array_equal(first, again)
    assert abs(np.corrcoef(first.ravel(), other.ravel())[0, 1]) < 0.05
