import math
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pneumosearch.config import Keep, RunSpec, TrialConfig
from pneumosearch.data.protocols import DataSource
from pneumosearch.errors import TrainingError
from pneumosearch.metrics import score
from pneumosearch.network import backend
from pneumosearch.network.accuracy import NearestLabelAccuracy
from pneumosearch.network.compile_cache import compiled_model
from pneumosearch.records.epoch import History, kept_epoch
from pneumosearch.training import loop as training
from pneumosearch.training.checkpoint import read_checkpoint
from pneumosearch.training.loop import build_callbacks, cosine_rate, predict, train
from tests.conftest import ROOT, TINY
from tests.support.fakes import an_epoch

backend.start()

import keras

from pneumosearch.network.optimizer import FusedAdam, averaged_weights, build_optimizer


def a_run(**changes: Any) -> RunSpec:
    config = TrialConfig.checked({**TINY, "epochs": 3, **changes.pop("config", {})}, "test")
    return RunSpec(config=config, **changes)


def trained(run: RunSpec, source: DataSource, folder: Path) -> training.TrainingResult:
    dataset = source.load(run.protocol, run.config.image_size, write_down=lambda fingerprint: None)
    return train(run, dataset, folder, lambda history: None)


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
    first = trained(earlier, source, tmp_path / "earlier")
    reused = trained(later, source, tmp_path / "reused")
    assert reused.model is first.model
    for units in (12, 16, 24, 40):  # as many others as are kept
        compiled_model(a_run(config={"units_2": units}))
    new = trained(later, source, tmp_path / "new")
    assert new.model is not first.model
    assert numbers(reused.history) == numbers(new.history)


def test_only_runs_of_one_shape_share_a_step_and_few_are_kept() -> None:
    model = compiled_model(a_run())
    for changes in ({"filters_2": 16}, {"units_1": 8}, {"batch_size": 16}):
        assert compiled_model(a_run(config=changes)) is not model
    assert compiled_model(a_run(precision="bfloat16")) is not model
    assert compiled_model(a_run(config={"zoom": 0.5, "dropout_3": 0.1})) is not model  # it was the oldest


def test_cosine_rises_over_the_warm_up_and_ends_at_zero() -> None:
    config = TrialConfig(lr_schedule="cosine", warmup_epochs=2.0, learning_rate=0.01, epochs=10)
    rates = [cosine_rate(config, done) for done in (1.0, 2.0, 6.0, 10.0)]
    assert rates == pytest.approx([0.005, 0.01, 0.005, 0.0])
    assert cosine_rate(TrialConfig(lr_schedule="cosine", epochs=1), 0.01) == pytest.approx(0.001, rel=0.01)


def test_plateau_callback_belongs_to_its_schedule(tmp_path: Path) -> None:
    callbacks = build_callbacks(TrialConfig(lr_schedule="cosine"), tmp_path / "best.weights.h5")
    assert [type(callback).__name__ for callback in callbacks] == ["ModelCheckpoint"]


def test_balanced_class_weights_give_both_classes_half_of_the_loss(source: DataSource) -> None:
    images = source.load("holdout", 32).train
    weights = training.class_weights(TrialConfig(class_weight="balanced"), images)
    assert weights is not None
    each = weights[images.labels[images.indices].astype(int)]
    assert each.mean() == pytest.approx(1.0)
    assert each[images.labels[images.indices] == 0].sum() == pytest.approx(each.sum() / 2)
    assert np.array_equal(training.weights_of(images.labels, weights), weights[images.labels.astype(int)])
    mixture = training.weights_of(np.array([0.25], np.float32), weights)
    assert mixture == pytest.approx(0.75 * weights[0] + 0.25 * weights[1])
    assert training.class_weights(TrialConfig(), images) is None


def test_running_accuracy_takes_a_mixed_label_for_the_nearer_one() -> None:
    probabilities = np.array([[0.9], [0.9], [0.1], [0.6]], np.float32)
    mixed, hard = np.array([[0.7], [0.3], [0.2], [0.5]], np.float32), np.array([[1.0], [0.0], [0.0], [0.0]], np.float32)
    running, plain = NearestLabelAccuracy(), keras.metrics.BinaryAccuracy()
    assert float(running(mixed, probabilities)) == float(plain(hard, probabilities)) == 0.5
    assert float(NearestLabelAccuracy()(hard, probabilities)) == 0.5


@pytest.mark.parametrize("name", ["adam", "sgd", "rmsprop"])
def test_weight_decay_shrinks_weights_that_get_no_gradient(name: str) -> None:
    config = TrialConfig.checked({"optimizer": name, "weight_decay": 0.5, "learning_rate": 0.1}, "test")
    optimizer, variable = build_optimizer(config), keras.Variable(np.ones(3, np.float32))
    optimizer.apply([np.zeros(3, np.float32)], [variable])
    assert np.allclose(variable, 0.95)


def test_evaluation_uses_averaged_weights_and_training_goes_on_with_its_own() -> None:
    model = compiled_model(a_run(config={"ema_momentum": 0.9}))
    before = [np.array(variable) for variable in model.trainable_variables]
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (8, 32, 32, 1), dtype=np.uint8)
    labels = (np.arange(8) % 2).astype(np.float32)[:, None]
    steps = []
    for _ in range(3):
        model.train_on_batch(pixels, labels)
        steps.append([np.array(variable) for variable in model.trainable_variables])
    expected = steps[0]  # the average begins with the first step
    for step in steps[1:]:
        expected = [0.9 * mean + 0.1 * last for mean, last in zip(expected, step, strict=True)]
    with averaged_weights(model):
        averaged = [np.array(variable) for variable in model.trainable_variables]
    assert all(np.allclose(a, b, atol=1e-6) for a, b in zip(averaged, expected, strict=True))
    after = [np.array(variable) for variable in model.trainable_variables]
    assert all(np.array_equal(a, b) for a, b in zip(after, steps[-1], strict=True))
    assert any(not np.array_equal(a, b) for a, b in zip(after, before, strict=True))


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

    opened: list[str] = []
    dataset = DataSource(read_manifest(real_images), cache_dir).load("original", 32, write_down=opened.append)
    assert opened == [dataset.description.test_fingerprint]
    batches = training.training_batches(RunSpec(protocol="original"), dataset)
    assert (len(batches.indices), batches.steps, len(dataset.evaluation.indices)) == (5216, 163, 624)
    assert (batches.augmentation.config.zoom, batches.augmentation.config.vertical_flip) == (0.3, True)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_same_seed_repeats_and_another_does_not(source: DataSource, tmp_path: Path, precision: str) -> None:
    first = trained(a_run(precision=precision), source, tmp_path / "1")
    again = trained(a_run(precision=precision), source, tmp_path / "2")
    other = trained(a_run(precision=precision, seed=7), source, tmp_path / "3")
    assert numbers(first.history) == numbers(again.history)
    assert numbers(first.history) != numbers(other.history)


class Stopped(Exception):
    pass


FAR_FROM_PUBLISHED = {
    "n_blocks": 4,
    "convolution": "plain",
    "head": "mean",
    "batch_norm_momentum": 0.9,
    "batch_norm_statistics": "precise",
    "equalization": "clahe",
    "optimizer": "rmsprop",
    "weight_decay": 0.01,
    "label_smoothing": 0.1,
    "class_weight": "balanced",
    "ema_momentum": 0.9,
    "lr_schedule": "cosine",
    "warmup_epochs": 1.0,
    "horizontal_flip": True,
    "shift": 0.1,
    "rotation": 10.0,
    "brightness": 0.1,
    "contrast": 0.2,
    "crop_area": 0.6,
    "noise": 0.05,
    "jpeg_loss": 50,
    "mixup": 0.4,
}


@pytest.mark.parametrize(
    ("precision", "config"),
    [("float32", {}), ("bfloat16", {}), ("float32", FAR_FROM_PUBLISHED)],
    ids=["float32", "bfloat16", "far from published"],
)
def test_resumed_training_equals_an_uninterrupted_one(
    source: DataSource, tmp_path: Path, precision: str, config: dict[str, Any]
) -> None:
    stress = bool(config)
    config = {"lr_reduce_patience": 1, "epochs": 4, **config}
    run = a_run(precision=precision, config=config, stress=stress, battery=stress, precise=not stress)
    dataset = source.load("holdout", 32, stress=stress, battery=stress)

    def stop_at(n: int) -> training.OnEpoch:
        def stop(history: History) -> None:
            if len(history) == n:
                raise Stopped

        return stop

    for n in (1, 3):
        with pytest.raises(Stopped):
            train(run, dataset, tmp_path / "broken", stop_at(n))
    resumed = train(run, dataset, tmp_path / "broken", lambda history: None)
    weights = resumed.model.get_weights()  # before the next run of this shape takes the network over
    steps: list[training.Step] = []
    straight = train(run, dataset, tmp_path / "straight", lambda history: None, steps.append)
    assert numbers(resumed.history) == numbers(straight.history)
    assert all(bool(epoch.families) == stress for epoch in straight.history)
    for epoch in straight.history:
        losses = [step.loss for step in steps if step.epoch == epoch.epoch]
        assert len(losses) == steps[0].steps
        assert np.mean(losses) == pytest.approx(epoch.train_loss)
    assert len({epoch.learning_rate for epoch in straight.history}) > 1  # callback or schedule mattered
    assert all(np.array_equal(a, b) for a, b in zip(weights, straight.model.get_weights(), strict=True))


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


@pytest.mark.parametrize("keep", ["best", "last"])
def test_result_holds_the_weights_of_the_kept_epoch(source: DataSource, tmp_path: Path, keep: Keep) -> None:
    config = {"batch_norm_momentum": 0.5, "learning_rate": 0.03, "epochs": 4, "keep": keep}
    dataset = source.load("holdout", 32)
    for seed in range(9):  # until the best epoch is not the last, or the test could not tell them apart
        result = train(a_run(seed=seed, config=config), dataset, tmp_path / str(seed), lambda history: None)
        losses = [epoch.evaluation("loss") for epoch in result.history]
        if min(losses) != losses[-1]:
            break
    assert min(losses) != losses[-1]
    images = dataset.evaluation
    loss = score(images.labels[images.indices], predict(result.model, images)).loss
    assert loss == pytest.approx(min(losses) if keep == "best" else losses[-1], abs=1e-12)


def test_kept_epoch_is_the_first_with_the_lowest_loss() -> None:
    history = (an_epoch(1, 0.7, 0.5), an_epoch(2, 0.8, 0.2), an_epoch(3, 0.9, 0.2))
    assert kept_epoch(history, "best").epoch == 2
    assert kept_epoch(history, "last").epoch == 3


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
        source.load("original", 32, write_down=lambda fingerprint: None)


def test_saved_network_loads_with_plain_keras_layers_and_the_same_outputs(source: DataSource, tmp_path: Path) -> None:
    run = a_run(config={"epochs": 1})
    dataset = source.load("holdout", 32)
    result = train(run, dataset, tmp_path / "run", lambda history: None)
    result.save(tmp_path / "trial.keras")
    loaded = keras.saving.load_model(tmp_path / "trial.keras", safe_mode=True)
    assert all(type(layer).__module__.startswith("keras.") for layer in loaded.layers)
    with zipfile.ZipFile(tmp_path / "trial.keras") as archive:  # Windows loads what has no separators of its own
        assert not any("\\" in name for name in archive.namelist())
        assert b"layers\\" not in archive.read("model.weights.h5")
    images = dataset.evaluation
    published_input = np.repeat(images.pixels[images.indices][..., None].astype(np.float32) / 255, 3, axis=-1)
    outputs = loaded.predict(published_input, verbose=0)[:, 0]
    assert np.allclose(outputs, predict(result.model, images), atol=1e-5)


DETERMINISTIC = """
import sys
from pathlib import Path
from pneumosearch.config import RunSpec
from pneumosearch.data.manifest import read_manifest
from pneumosearch.data.protocols import DataSource
from pneumosearch.training.loop import train
run = RunSpec.model_validate_json(sys.argv[1])
dataset = DataSource(read_manifest(Path(sys.argv[2])), Path(sys.argv[3])).load(
    run.protocol, run.config.image_size, run.config.equalization
)
print([epoch.numbers() for epoch in train(run, dataset, Path(sys.argv[4]), lambda history: None).history])
"""


@pytest.mark.slow
def test_deterministic_operations_give_the_same_numbers_on_a_processor(
    source: DataSource, phantoms: Path, cache_dir: Path, tmp_path: Path
) -> None:
    plain = trained(a_run(seed=5), source, tmp_path / "plain")
    run = a_run(seed=5, deterministic=True)  # in a process of its own, which stays so
    arguments = [run.model_dump_json(), str(phantoms), str(cache_dir), str(tmp_path / "deterministic")]
    ended = subprocess.run(
        [sys.executable, "-c", DETERMINISTIC, *arguments], capture_output=True, text=True, check=True
    )
    assert ended.stdout.strip() == str([epoch.numbers() for epoch in plain.history])


def test_training_process_imports_no_package_that_only_users_of_keras_need() -> None:
    code = (
        "import sys; from pneumosearch.training.loop import prepare; prepare();"
        "assert {'keras', 'sklearn.metrics'} <= sys.modules.keys();"
        "assert not {'jax', 'pandas', 'pyarrow', 'matplotlib'} & sys.modules.keys(); import pandas, matplotlib.pyplot;"
        "import gc; assert gc.isenabled() and gc.get_freeze_count() > 100_000"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
