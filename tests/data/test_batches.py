from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pneumosearch.config import TrialConfig
from pneumosearch.data.augmentation import Augmentation
from pneumosearch.data.batches import TrainingBatches

N = 10
PUBLISHED = Augmentation(TrialConfig())
ALL_CHANGES = Augmentation(
    TrialConfig(
        gamma=0.5, crop_area=0.5, crop_aspect=1.3, blur=0.02, sharpen=1.0, resolution_loss=0.5, noise=0.1, jpeg_loss=60,
        erase=0.2, mixup=0.4,
    )
)  # fmt: skip
NO_CHANGE = Augmentation(TrialConfig(zoom=0.0, vertical_flip=False))


def some_batches(batch_size: int = 4, augmentation: Augmentation = PUBLISHED, seed: int = 1) -> TrainingBatches:
    pixels = np.random.default_rng(0).integers(0, 256, (2 * N, 16, 16), dtype=np.uint8)
    labels = (np.arange(2 * N) % 2).astype(np.float32)
    return TrainingBatches(pixels, labels, np.arange(0, 2 * N, 2), batch_size, augmentation, seed)


def test_no_augmentation_leaves_the_pixels() -> None:
    batches = some_batches(batch_size=N, augmentation=NO_CHANGE)
    pixels, _ = next(iter(batches.epoch(1)))
    before = {image.tobytes() for image in batches.pixels[batches.indices]}
    assert {image.tobytes() for image in pixels} == before


@given(st.integers(1, 2 * N))
def test_steps_are_whole_batches_of_the_training_images(batch_size: int) -> None:
    batches = some_batches(batch_size)
    shapes = [(pixels.shape, labels.shape) for pixels, labels in batches.epoch(1)]
    n = min(batch_size, N)
    assert shapes == [((n, 16, 16, 1), (n, 1))] * max(1, N // batch_size)


def test_an_epoch_sees_each_image_once_in_another_order() -> None:
    batches = some_batches(batch_size=1, augmentation=NO_CHANGE)
    orders = [[batch[0].tobytes() for batch in batches.epoch(epoch)] for epoch in (1, 2)]
    assert sorted(orders[0]) == sorted(orders[1])
    assert orders[0] != orders[1]
    assert len(set(orders[0])) == N


def test_labels_go_with_their_images() -> None:
    batches = some_batches(augmentation=NO_CHANGE)
    label_of = {image.tobytes(): label for image, label in zip(batches.pixels, batches.labels, strict=True)}
    for pixels, labels in batches.epoch(3):
        assert [label_of[image.tobytes()] for image in pixels] == list(labels[:, 0])


@pytest.mark.parametrize("augmentation", [PUBLISHED, ALL_CHANGES], ids=["published", "all"])
def test_an_epoch_depends_on_seed_and_number_alone(augmentation: Augmentation) -> None:
    def content(batches: TrainingBatches, epoch: int) -> bytes:
        return b"".join(pixels.tobytes() + labels.tobytes() for pixels, labels in batches.epoch(epoch))

    straight = some_batches(augmentation=augmentation)
    list(straight.epoch(1))
    assert content(straight, 2) == content(some_batches(augmentation=augmentation), 2)
    assert content(straight, 2) != content(some_batches(augmentation=augmentation, seed=2), 2)
    assert content(straight, 2) != content(straight, 3)


def test_mixup_mixes_each_image_and_its_label_with_the_next_and_keeps_its_label_the_nearer() -> None:
    still = replace(some_batches(augmentation=NO_CHANGE), indices=np.arange(2 * N))
    mixing = replace(still, augmentation=Augmentation(NO_CHANGE.config.model_copy(update={"mixup": 1.0})))
    drawn = mixing.augmentation.draw(np.random.default_rng([still.seed, 1]), 2 * N)
    pairs = zip(still.epoch(1), mixing.epoch(1), strict=True)
    for step, ((pixels, labels), (mixtures, shares)) in enumerate(pairs):
        changes = drawn[4 * step : 4 * step + 4]
        weights = np.array([change.mix for change in changes])[:, None]
        assert np.allclose(shares, (1 - weights) * labels + weights * np.roll(labels, -1), atol=1e-6)
        assert np.array_equal(shares > 0.5, labels > 0.5)
        for i, mixture in enumerate(mixtures):
            wanted = (1 - weights[i]) * pixels[i] + weights[i] * pixels[(i + 1) % 4]
            assert np.abs(mixture - wanted).max() <= 0.51
    assert shares.dtype == labels.dtype == np.float32
