import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pneumosearch import backend, compiled, training
from pneumosearch.checkpoint import read_checkpoint
from pneumosearch.compiled import compiled_model
from pneumosearch.config import RunSpec, TrialConfig
from pneumosearch.data.protocols import DataSource
from pneumosearch.errors import TrainingError
from pneumosearch.history import History, kept_epoch
from pneumosearch.training import build_callbacks, predict, train
from tests.conftest import TINY
from tests.fakes import an_epoch

backend.start()

import keras

from pneumosearch.optimizer import FusedAdam


def a_run(**changes: Any) -> RunSpec:
    config = TrialConfig.checked({**TINY, "epochs": 3, **changes.pop("config", {})}, "test")
    return RunSpec(config=config, **changes)


def trained(run: RunSpec, source: DataSource, folder: Path) -> training.TrainingResult:
    return train(run, source.load(run.protocol, run.config.image_size), folder, lambda history: None)


def numbers(history: History) -> list[dict[str, float]]:
    return [epoch.numbers() for epoch in history]


def test_callbacks_are_those_of_the_listing(tmp_path: Path) -> None:
    checkpoint, reduce = build_callbacks(TrialConfig(), tmp_path / "best.weights.h5")
    assert (checkpoint.save_best_only, checkpoint.save_weights_only, checkpoint.monitor) == (True, True, "val_loss")
    assert (reduce.monitor, reduce.factor, reduce.patience, reduce.mode) == ("val_loss", 0.3, 2, "max")
    stop = build_callbacks(TrialConfig(early_stopping=True), tmp_path / "best.weights.h5")[2]
    assert (stop.monitor, abs(stop.min_delta), stop.patience, stop.mode) == ("val_loss", 0.1, 1, "min")


def test_training_is_adam_on_cross_entropy_in_batches_of_32() -> None:
    model = compiled_model(a_run())
    adam = model.optimizer
    assert isinstance(adam, keras.optimizers.Adam)
    assert (adam.beta_1, adam.beta_2, adam.epsilon, adam.amsgrad) == (0.9, 0.999, 1e-7, False)
    assert float(adam.learning_rate) == pytest.approx(0.001)
    assert model.loss == "binary_crossentropy"


def test_run_in_the_step_of_an_earlier_one_equals_a_run_in_a_new_step(source: DataSource, tmp_path: Path) -> None:
    earlier = a_run(seed=9, config={"zoom": 0.1})
    later = a_run(config={"learning_rate": 0.003, "dropout_conv": 0.0, "dropout_1": 0.4, "dropout_2": 0.0})
    compiled._compiled.clear()
    first = trained(earlier, source, tmp_path / "earlier")
    reused = trained(later, source, tmp_path / "reused")
    assert reused.model is first.model
    compiled._compiled.clear()
    new = trained(later, source, tmp_path / "new")
    assert new.model is not first.model
    assert numbers(reused.history) == numbers(new.history)


def test_only_runs_of_one_shape_share_a_step_and_few_are_kept() -> None:
    compiled._compiled.clear()
    model = compiled_model(a_run())
    for changes in ({"filters_2": 16}, {"units_1": 8}, {"batch_size": 16}):
        assert compiled_model(a_run(config=changes)) is not model
    assert compiled_model(a_run(precision="bfloat16")) is not model
    assert len(compiled._compiled) == 4
    assert compiled_model(a_run(config={"zoom": 0.5, "dropout_3": 0.1})) is not model  # it was the oldest


def test_fused_adam_updates_as_keras_adam_does() -> None:
    gradients = np.random.default_rng(1).normal(size=(5, 40, 30)).astype(np.float32)
    values = []
    for kind in (keras.optimizers.Adam, FusedAdam):
        variable, adam = keras.Variable(np.ones((40, 30), np.float32)), kind(0.01)
        for gradient in gradients:
            adam.apply([gradient], [variable])
            adam.learning_rate = 0.5 * adam.learning_rate
        values.append([np.asarray(v) for v in (variable, *adam.variables)])
    assert all(np.allclose(ours, theirs, rtol=1e-5, atol=1e-7) for ours, theirs in zip(*values, strict=True))


def test_original_protocol_trains_163_steps_an_epoch_on_the_real_images(real_images: Path, cache_dir: Path) -> None:
    from pneumosearch.data.manifest import read_manifest

    dataset = DataSource(read_manifest(real_images), cache_dir).load("original", 32)
    batches = training._batches(RunSpec(protocol="original"), dataset)
    assert (len(batches.indices), batches.steps, len(dataset.evaluation.indices)) == (5216, 163, 624)
    assert (batches.augmentation.zoom, batches.augmentation.vertical_flip) == (0.3, True)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_same_seed_repeats_and_another_does_not(source: DataSource, tmp_path: Path, precision: str) -> None:
    first = trained(a_run(precision=precision), source, tmp_path / "1")
    again = trained(a_run(precision=precision), source, tmp_path / "2")
    other = trained(a_run(precision=precision, seed=7), source, tmp_path / "3")
    assert numbers(first.history) == numbers(again.history)
    assert numbers(first.history) != numbers(other.history)


class Stopped(Exception):
    pass


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_resumed_training_equals_an_uninterrupted_one(source: DataSource, tmp_path: Path, precision: str) -> None:
    run = a_run(precision=precision, config={"lr_reduce_patience": 1, "epochs": 4})
    dataset = source.load("holdout", 32)

    def stop_at(n: int) -> training.OnEpoch:
        def stop(history: History) -> None:
            if len(history) == n:
                raise Stopped

        return stop

    for n in (1, 3):
        with pytest.raises(Stopped):
            train(run, dataset, tmp_path / "broken", stop_at(n))
    resumed = train(run, dataset, tmp_path / "broken", lambda history: None)
    straight = train(run, dataset, tmp_path / "straight", lambda history: None)
    assert numbers(resumed.history) == numbers(straight.history)
    assert len({epoch.learning_rate for epoch in straight.history}) > 1  # the callback's state mattered
    pairs = zip(resumed.model.get_weights(), straight.model.get_weights(), strict=True)
    assert all(np.array_equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("damage", ["cut", "garbage", "other run"])
def test_unusable_checkpoint_means_a_fresh_start(source: DataSource, tmp_path: Path, damage: str) -> None:
    run = a_run(config={"epochs": 1})
    first = trained(run, source, tmp_path)
    file = tmp_path / "checkpoint.npz"
    if damage == "other run":
        trained(a_run(seed=9, config={"epochs": 1}), source, tmp_path)
    else:
        file.write_bytes(file.read_bytes()[:1000] if damage == "cut" else b"garbage")
    assert read_checkpoint(tmp_path, run, first_fingerprint(source)) is None
    assert numbers(trained(run, source, tmp_path).history) == numbers(first.history)


def first_fingerprint(source: DataSource) -> str:
    return source.manifest.part("development").fingerprint


def test_result_holds_the_weights_of_the_kept_epoch(source: DataSource, tmp_path: Path) -> None:
    run = a_run(config={"learning_rate": 0.01, "epochs": 4})
    dataset = source.load("holdout", 32)
    result = train(run, dataset, tmp_path, lambda history: None)
    images = dataset.evaluation
    called = predict(result.model, images) > 0.5
    accuracy = (called == (images.labels[images.indices] > 0.5)).mean()
    assert accuracy == kept_epoch(result.history).validation_accuracy


def test_kept_epoch_is_the_first_with_the_lowest_loss() -> None:
    history = (an_epoch(1, 0.7, 0.5), an_epoch(2, 0.8, 0.2), an_epoch(3, 0.9, 0.2))
    assert kept_epoch(history).epoch == 2


def test_loss_that_is_not_finite_is_told_with_its_epoch(
    source: DataSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "predict", lambda model, images: np.full(len(images.indices), math.nan))
    with pytest.raises(TrainingError, match="epoch 1: validation loss is nan"):
        trained(a_run(), source, tmp_path)


def test_early_stopping_stops_when_asked(source: DataSource, tmp_path: Path) -> None:
    run = a_run(config={"early_stopping": True, "epochs": 9, "learning_rate": 1e-6})
    assert len(trained(run, source, tmp_path).history) < 9


def test_holdout_never_reads_the_test_folder(phantoms: Path, tmp_path: Path) -> None:
    import shutil

    from pneumosearch.data.manifest import read_manifest

    folder = tmp_path / "images"
    shutil.copytree(phantoms, folder)
    for path in (folder / "test").rglob("*.jpeg"):
        path.write_bytes(b"sealed")
    source = DataSource(read_manifest(folder), tmp_path / "cache")
    assert source.load("holdout", 32).evaluated == "validation"
    with pytest.raises(Exception, match="cannot be decoded"):
        source.load("original", 32)


def test_saved_network_loads_with_plain_keras_layers_and_the_same_outputs(source: DataSource, tmp_path: Path) -> None:
    run = a_run(config={"epochs": 1})
    dataset = source.load("holdout", 32)
    result = train(run, dataset, tmp_path / "run", lambda history: None)
    result.save(tmp_path / "trial.keras")
    loaded = keras.saving.load_model(tmp_path / "trial.keras", safe_mode=True)
    assert all(type(layer).__module__.startswith("keras.") for layer in loaded.layers)
    images = dataset.evaluation
    published_input = np.repeat(images.pixels[images.indices][..., None].astype(np.float32) / 255, 3, axis=-1)
    outputs = loaded.predict(published_input, verbose=0)[:, 0]
    assert np.allclose(outputs, predict(result.model, images), atol=1e-5)
