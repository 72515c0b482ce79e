"""Each change of pixels in training at its two ends."""

import numpy as np

from pneumosearch.config import TrialConfig
from pneumosearch.data import operations
from pneumosearch.data.cache import equalize
from pneumosearch.data.extremes import extremes, strongest
from pneumosearch.data.families import FAMILY_OF

IMAGE, OTHER = np.random.default_rng(0).integers(40, 200, (2, 32, 32)).astype(np.uint8)
STRONG = {
    "brightness": 0.2, "contrast": 0.3, "gamma": 0.5, "zoom": 0.3, "shift": 0.1, "rotation": 15.0, "crop_area": 0.5,
    "crop_aspect": 1.4, "blur": 0.05, "sharpen": 2.0, "resolution_loss": 0.6, "noise": 0.1, "jpeg_loss": 80,
    "erase": 0.2, "vertical_flip": True, "horizontal_flip": True,
}  # fmt: skip


def test_every_field_that_changes_pixels_has_two_ends_that_differ() -> None:
    config = TrialConfig.checked({**STRONG, "mixup": 0.4, "equalization": "clahe"}, "test")
    found = extremes(config, IMAGE, OTHER)
    assert list(found) == ["equalization", *FAMILY_OF, "mixup"]
    for first, second in found.values():
        assert not np.array_equal(first.image, second.image)
        assert first.words != second.words
    assert np.array_equal(found["equalization"][0].image, IMAGE)
    assert np.array_equal(found["equalization"][1].image, equalize(IMAGE))


def test_ends_are_those_of_the_range() -> None:
    found = extremes(TrialConfig(zoom=0.0, gamma=0.5, jpeg_loss=80, vertical_flip=False), IMAGE, OTHER)
    assert list(found) == ["gamma", "jpeg_loss"]
    assert np.array_equal(found["gamma"][0].image, operations.gamma(IMAGE, 1 / 1.5))
    assert np.array_equal(found["gamma"][1].image, operations.gamma(IMAGE, 1.5))
    assert np.array_equal(found["jpeg_loss"][1].image, operations.jpeg(IMAGE, 20))
    assert [end.words for end in found["jpeg_loss"]] == ["quality 100", "quality 20"]


def test_strongest_of_several_is_farthest_from_doing_nothing() -> None:
    several = [TrialConfig(zoom=0.1, crop_area=0.8), TrialConfig(zoom=0.2, crop_aspect=1.3, equalization="standardize")]
    found = strongest(several)
    assert found.changes() == {"zoom": 0.2, "crop_area": 0.8, "crop_aspect": 1.3, "equalization": "standardize"}
