"""One training: seed, build, then epoch by epoch train, evaluate, call back and save; resumable after any epoch."""

import gc
import logging
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from pneumosearch._utils.collector import paused_collector
from pneumosearch.config import RunSpec, TrialConfig
from pneumosearch.data.augmentation import Augmentation
from pneumosearch.data.batches import Labels, TrainingBatches
from pneumosearch.data.battery import BATTERY, FAMILY_OF_COPY
from pneumosearch.data.families import trained_families
from pneumosearch.data.protocols import Dataset, ImageSet
from pneumosearch.errors import TrainingError
from pneumosearch.metrics import Scores, battery_score, score, stress_score
from pneumosearch.network import backend
from pneumosearch.network.compile_cache import compiled_model
from pneumosearch.records.epoch import EpochMetrics, History
from pneumosearch.training.checkpoint import Checkpoint, read_checkpoint, write_checkpoint

#: Called with the history after each epoch, once its checkpoint is written. It may raise to stop the training.
OnEpoch = Callable[[History], None]


@dataclass(frozen=True)
class Step:
    """A step of a training that has just been done."""

    epoch: int  # from 1
    number: int  # from 1
    steps: int  # of an epoch
    n_images: int
    loss: float  # of this batch


#: Called after each training step. It must be quick.
OnStep = Callable[[Step], None]

#: Name of the file in the folder of a trial with the weights to keep, chosen by `TrialConfig.keep`.
KEPT_WEIGHTS_FILE: Final = "best.weights.h5"

_EVALUATION_BATCH: Final = 128

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingResult:
    """A finished training; `model` holds the weights of the kept epoch (lowest evaluation loss)."""

    config: TrialConfig
    history: History
    model: Any  # keras.Model
    n_parameters: int

    def save(self, path: Path) -> None:
        """Write the network as a `.keras` file of plain Keras layers, which loads without pneumosearch.

        The network maps images, (batch, size, size, 3) in [0, 1], to probabilities of pneumonia, (batch, 1).
        """
        from pneumosearch.network.model import plain_model

        plain = plain_model(self.config)
        plain.set_weights(self.model.get_weights())
        plain.save(path)


#: Optional packages that Keras, TensorFlow and scikit-learn import where they are installed, and no training uses.
_UNUSED: Final = ("jax", "pandas", "pyarrow", "matplotlib")


def prepare() -> None:
    """Import what a training needs: Keras, its backend and scikit-learn. The first call takes seconds.

    For processes that only train: Keras and scikit-learn lose what they do with other packages for users, and Python
    never again looks for garbage among what is imported, which Keras would have it do before each network.
    """
    needed = "jax" if os.environ.get("KERAS_BACKEND") == "jax" else ""
    # Imports leave next to no garbage, and a sixth of their time was the search for it.
    with paused_collector(), _hidden([name for name in _UNUSED if name != needed]):
        backend.start()
        import sklearn.metrics  # noqa: F401

        gc.freeze()


@contextmanager
def _hidden(packages: Sequence[str]) -> Iterator[None]:
    """Let imports go on as if these packages were not installed, unless they are imported already."""
    absent = [name for name in packages if name not in sys.modules]
    sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type]  # None is how Python says that there is none
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]


def train(
    run: RunSpec, dataset: Dataset, folder: Path, on_epoch: OnEpoch, on_step: OnStep | None = None
) -> TrainingResult:
    """Train `run` on `dataset`, resuming from the checkpoint in `folder` if it is of the same run.

    Args:
        run: Configuration, seed, protocol and precision.
        dataset: Images of the run, as `DataSource.load` returns them.
        folder: Folder of the checkpoint and the kept weights, which are overwritten after each epoch.
        on_epoch: Called with the history after each epoch, and once at the start of a resumed training.
        on_step: Called after each training step, where given.

    Raises:
        TrainingError: A loss is not finite; the message has the epoch.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if run.deterministic:
        backend.make_deterministic()
    fit = _Fit(run, dataset, folder, on_step)
    if fit.history:
        on_epoch(fit.history)
    while not fit.finished:
        fit.run_epoch()
        on_epoch(fit.history)
    fit.restore_kept()
    return TrainingResult(run.config, fit.history, fit.model, n_parameters(fit.model))


def n_parameters(model: Any) -> int:
    """Return the number of trainable and non-trainable parameters, without the state of random generators."""
    return sum(int(np.prod(weight.shape)) for weight in model.weights)


def build_callbacks(config: TrialConfig, kept_weights: Path) -> list[Any]:
    """Return the Keras callbacks of a configuration.

    Args:
        config: The configuration; its defaults give the callbacks that the published listing passes to `fit`.
        kept_weights: File for the weights that `ModelCheckpoint` keeps.
    """
    backend.start()
    from keras.callbacks import EarlyStopping, ModelCheckpoint, ReduceLROnPlateau

    best_only = config.keep == "best"
    callbacks = [ModelCheckpoint(filepath=str(kept_weights), save_best_only=best_only, save_weights_only=True)]
    if config.lr_schedule == "plateau":
        plateau = ReduceLROnPlateau(
            monitor="val_loss",
            factor=config.lr_reduce_factor,
            patience=config.lr_reduce_patience,
            mode=config.lr_reduce_mode,
        )
        callbacks.append(plateau)
    if config.early_stopping:
        callbacks.append(EarlyStopping(monitor="val_loss", min_delta=0.1, patience=1, mode="min"))
    return callbacks


def predict(model: Any, images: ImageSet) -> npt.NDArray[np.float64]:
    """Return the probability of pneumonia of each image of the set, (n,) in [0, 1]."""
    chunks = range(0, len(images.indices), _EVALUATION_BATCH)
    parts = [images.pixels[images.indices[i : i + _EVALUATION_BATCH], :, :, None] for i in chunks]
    return np.concatenate([np.asarray(model.predict_on_batch(part)) for part in parts])[:, 0].astype(np.float64)


class _Fit:
    """The state of a training between two epochs."""

    def __init__(self, run: RunSpec, dataset: Dataset, folder: Path, on_step: OnStep | None) -> None:
        self.run, self.dataset, self.folder, self.on_step = run, dataset, folder, on_step
        self.history: History = ()
        self.model = compiled_model(run)
        self.batches = training_batches(run, dataset)
        self.class_weights = class_weights(run.config, dataset.train)
        self.callbacks = build_callbacks(run.config, self._kept_weights)
        for callback in self.callbacks:
            callback.set_model(self.model)
            callback.on_train_begin()
        checkpoint = read_checkpoint(folder, run, dataset.description.fingerprint)
        if checkpoint is not None:
            checkpoint.restore(self.model, self.callbacks)
            self.history = checkpoint.history
            _log.info("resumed after epoch %d", len(self.history))

    @property
    def _kept_weights(self) -> Path:
        return self.folder / KEPT_WEIGHTS_FILE

    @property
    def finished(self) -> bool:
        return len(self.history) >= self.run.config.epochs or bool(self.model.stop_training)

    def run_epoch(self) -> None:
        from pneumosearch.network.optimizer import averaged_weights
        from pneumosearch.network.precise_batch_norm import set_precise_statistics

        start, epoch = time.perf_counter(), len(self.history) + 1
        self._set_rate(epoch, step=0)
        learning_rate = float(np.asarray(self.model.optimizer.learning_rate))
        train_loss, train_accuracy = self._train_epoch(epoch)
        with averaged_weights(self.model):
            if self.run.config.batch_norm_statistics == "precise":
                set_precise_statistics(self.model, self.batches, epoch)
            scores = self._evaluate(epoch)
            stress = self._evaluate_stressed()
            battery = self._evaluate_battery(epoch)
            precise = self._evaluate_precisely(epoch, scores)
            self._call_back(epoch, train_loss, train_accuracy, scores)
        metrics = EpochMetrics.model_validate({
            "epoch": epoch,
            "train_accuracy": train_accuracy,
            "train_loss": train_loss,
            **scores.as_dict(self.dataset.evaluated),
            **stress,
            **battery,
            **precise,
            "learning_rate": learning_rate,
            "seconds": time.perf_counter() - start,
        })  # fmt: skip
        self.history += (metrics,)
        self._save()

    def _call_back(self, epoch: int, train_loss: float, train_accuracy: float, scores: Scores) -> None:
        logs = {
            "loss": train_loss,
            "accuracy": train_accuracy,
            "val_loss": scores.loss,
            "val_accuracy": scores.accuracy,
        }
        for callback in self.callbacks:
            callback.on_epoch_end(epoch - 1, dict(logs))

    def _set_rate(self, epoch: int, step: int) -> None:
        if self.run.config.lr_schedule == "cosine":
            done = epoch - 1 + (step + 1) / self.batches.steps
            self.model.optimizer.learning_rate.assign(cosine_rate(self.run.config, done))

    def restore_kept(self) -> None:
        if self._kept_weights.exists():
            self.model.load_weights(self._kept_weights)

    def _train_epoch(self, epoch: int) -> tuple[float, float]:
        totals = np.zeros(2)  # `train_on_batch` resets the running means of Keras before each batch
        for step, (pixels, labels) in enumerate(self.batches.epoch(epoch)):
            self._set_rate(epoch, step)
            weights = weights_of(labels[:, 0], self.class_weights) if self.class_weights is not None else None
            logs = self.model.train_on_batch(pixels, labels, sample_weight=weights, return_dict=True)
            totals += (float(logs["loss"]), float(logs["accuracy"]))
            if self.on_step:
                self.on_step(Step(epoch, step + 1, self.batches.steps, len(labels), float(logs["loss"])))
        loss, accuracy = (float(total) for total in totals / self.batches.steps)
        _check_finite(epoch, "training loss", loss)
        return loss, accuracy

    def _evaluate(self, epoch: int) -> Scores:
        images = self.dataset.evaluation
        scores = score(images.labels[images.indices], predict(self.model, images))
        _check_finite(epoch, f"{self.dataset.evaluated} loss", scores.loss)
        return scores

    def _evaluate_precisely(self, epoch: int, scores: Scores) -> dict[str, float]:
        from pneumosearch.network.precise_batch_norm import precise_statistics

        if not self.run.precise:
            return {}
        if self.run.config.batch_norm_statistics == "moving":
            with precise_statistics(self.model, self.batches, epoch):
                scores = self._evaluate(epoch)
        judged_by = self.dataset.evaluated
        return {f"{judged_by}_precise_{name}": getattr(scores, name) for name in ("accuracy", "loss", "auc")}

    def _evaluate_stressed(self) -> dict[str, float]:
        copies = self.dataset.stressed
        if not self.run.stress or copies is None:
            return {}
        labels = self.dataset.evaluation.labels[self.dataset.evaluation.indices]
        return stress_score(labels, predict(self.model, copies)).as_dict(self.dataset.evaluated)

    def _evaluate_battery(self, epoch: int) -> dict[str, object]:
        copies = self.dataset.battery
        if not self.run.battery or copies is None:
            return {}
        labels = copies.labels[: len(copies.labels) // len(BATTERY)]
        trained = trained_families(self.run.config)
        scores = battery_score(labels, predict(self.model, copies), FAMILY_OF_COPY, trained)
        _check_finite(epoch, "loss over the battery", scores.shift_loss)
        return scores.as_dict(self.dataset.evaluated)

    def _save(self) -> None:
        fingerprint = self.dataset.description.fingerprint
        write_checkpoint(self.folder, Checkpoint.of(self.run, fingerprint, self.history, self.model, self.callbacks))


def training_batches(run: RunSpec, dataset: Dataset) -> TrainingBatches:
    """Return the batches of `run`: shuffled by its seed, and changed as its configuration says."""
    train, config = dataset.train, run.config
    return TrainingBatches(train.pixels, train.labels, train.indices, config.batch_size, Augmentation(config), run.seed)


def cosine_rate(config: TrialConfig, done: float) -> float:
    """Return the learning rate of the cosine schedule: a linear warm-up, then half a cosine to 0.

    Args:
        config: Peak learning rate, warm-up epochs and epochs.
        done: Epochs, with a fraction, that the current step completes.
    """
    if done <= config.warmup_epochs:
        return config.learning_rate * done / config.warmup_epochs
    share = (done - config.warmup_epochs) / max(config.epochs - config.warmup_epochs, done - config.warmup_epochs)
    return config.learning_rate * (1 + math.cos(math.pi * share)) / 2


def class_weights(config: TrialConfig, train: ImageSet) -> npt.NDArray[np.float32] | None:
    """Return the weights of (normal, pneumonia), whose mean over the training images is 1; None for equal weights."""
    if config.class_weight == "none":
        return None
    labels = train.labels[train.indices].astype(int)
    return (len(labels) / (2 * np.bincount(labels, minlength=2).clip(1))).astype(np.float32)


def weights_of(labels: Labels, weights: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the weight of each label, (n,) in [0, 1], in the loss; that of a mixture lies between the two."""
    normal, pneumonia = weights
    return np.asarray(normal * (1 - labels) + pneumonia * labels, dtype=np.float32)


def _check_finite(epoch: int, name: str, value: float) -> None:
    if not math.isfinite(value):
        raise TrainingError(f"epoch {epoch}: {name} is {value}")
