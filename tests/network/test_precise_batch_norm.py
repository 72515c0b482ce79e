"""Batch normalisation with statistics of the present weights instead of moving averages."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pneumosearch.config import RunSpec, TrialConfig
from pneumosearch.data.augmentation import Augmentation
from pneumosearch.data.batches import TrainingBatches
from pneumosearch.data.protocols import DataSource
from pneumosearch.network import backend, precise_batch_norm
from pneumosearch.network.model import random_states
from pneumosearch.records.epoch import History
from pneumosearch.training.loop import train
from tests.conftest import TINY

backend.start()

import keras

from pneumosearch.network.model import build_model
from pneumosearch.network.precise_batch_norm import precise_statistics, set_precise_statistics

TINY_CONFIG = TrialConfig.checked({**TINY}, "test")


def some_batches(n: int, batch_size: int = 8) -> TrainingBatches:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (n, 32, 32), dtype=np.uint8)
    labels = rng.integers(0, 2, n).astype(np.float32)
    return TrainingBatches(pixels, labels, np.arange(n), batch_size, Augmentation(TINY_CONFIG), seed=1)


def a_model() -> keras.Model:
    keras.utils.set_random_seed(3)
    return build_model(TINY_CONFIG)


def averages(model: keras.Model) -> list[Any]:
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    return [np.array(value) for layer in norms for value in (layer.moving_mean.value, layer.moving_variance.value)]


def trained(
    source: DataSource, folder: Path, *, config: dict[str, Any] | None = None, precise: bool = False
) -> History:
    values = {**TINY, "epochs": 2, "lr_reduce_patience": 9, **(config or {})}
    run = RunSpec(config=TrialConfig.checked(values, "test"), precise=precise)
    return train(run, source.load("holdout", 32), folder, lambda history: None).history


def without_judgements(history: History) -> list[dict[str, float]]:
    return [{k: v for k, v in epoch.numbers().items() if not k.startswith("validation_")} for epoch in history]


def test_statistics_are_means_over_the_batches_of_what_the_layers_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precise_batch_norm, "IMAGES", 24)
    model, batches = a_model(), some_batches(64)
    first = next(layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization))
    below = keras.Model(model.input, first.input)  # no dropout and no other normalisation is there
    given = [np.asarray(below(pixels), np.float64) for pixels, _ in list(batches.epoch(5))[:3]]
    set_precise_statistics(model, batches, epoch=5)
    mean, variance = averages(model)[:2]
    assert mean == pytest.approx(np.mean([x.mean((0, 1, 2)) for x in given], axis=0), rel=1e-4, abs=1e-6)
    assert variance == pytest.approx(np.mean([x.var((0, 1, 2)) for x in given], axis=0), rel=1e-4, abs=1e-7)


def test_measuring_leaves_momentum_and_random_states_and_can_be_undone() -> None:
    model, batches = a_model(), some_batches(40)
    before, states = averages(model), [np.array(state) for state in map(np.asarray, random_states(model))]
    with precise_statistics(model, batches, epoch=1):
        inside = averages(model)
    assert not any(np.array_equal(a, b) for a, b in zip(before, inside, strict=True))
    assert all(np.array_equal(a, b) for a, b in zip(before, averages(model), strict=True))
    assert all(np.array_equal(a, b) for a, b in zip(states, map(np.asarray, random_states(model)), strict=True))
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert {layer.momentum for layer in norms} == {0.99}


def test_few_images_and_large_batches_are_enough() -> None:
    model = a_model()
    set_precise_statistics(model, some_batches(5, batch_size=32), epoch=1)  # a single, small batch
    assert all(np.isfinite(values).all() for values in averages(model))


def test_judging_precisely_as_well_changes_nothing_else(source: DataSource, tmp_path: Path) -> None:
    plain, judged = trained(source, tmp_path / "a"), trained(source, tmp_path / "b", precise=True)
    added = {"validation_precise_accuracy", "validation_precise_loss", "validation_precise_auc"}
    for epoch, other in zip(plain, judged, strict=True):
        assert other.numbers().keys() - epoch.numbers().keys() == added
        assert {k: v for k, v in other.numbers().items() if k not in added} == epoch.numbers()
    assert judged[0].evaluation("precise_auc") == judged[0].validation_precise_auc


def test_precise_statistics_as_a_choice_are_what_judges_and_is_kept(source: DataSource, tmp_path: Path) -> None:
    moving = trained(source, tmp_path / "a", precise=True)
    precise = trained(source, tmp_path / "b", config={"batch_norm_statistics": "precise"}, precise=True)
    assert without_judgements(moving) == without_judgements(precise)  # training does not use them
    for epoch, other in zip(moving, precise, strict=True):
        assert other.validation_loss == other.validation_precise_loss == epoch.validation_precise_loss
        assert other.validation_auc == epoch.validation_precise_auc
        assert other.validation_loss != epoch.validation_loss


def test_original_protocol_is_judged_as_published() -> None:
    with pytest.raises(ValueError, match="precise: the original protocol judges by the test folder alone"):
        RunSpec(protocol="original", precise=True)
