"""A search with Optuna as its documentation shows it: TPE, median pruner, a pruning callback, images in memory."""

import json
from argparse import Namespace
from pathlib import Path
from typing import Any

import keras
import optuna

from benchmarks.peers.common import EpochLog, parser, started
from benchmarks.peers.images import arrays
from benchmarks.peers.network import build_network, checkpoint_callback, learning_rate_callback

START = started()


class PruningCallback(keras.callbacks.Callback):  # type: ignore[misc]
    """Reports each epoch to the trial and stops it if the pruner decides so, like `KerasPruningCallback`."""

    def __init__(self, trial: optuna.Trial, monitor: str) -> None:
        super().__init__()
        self.trial, self.monitor = trial, monitor

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Report the metric; prune the trial if the pruner decides so."""
        self.trial.report((logs or {})[self.monitor], step=epoch)
        if self.trial.should_prune():
            raise optuna.TrialPruned(f"Trial was pruned at epoch {epoch}.")


class Objective:
    """Trains the network of a trial; the value is its best validation accuracy."""

    def __init__(self, arguments: Namespace) -> None:
        space = json.loads(arguments.space.read_text())
        self.seed: int = arguments.seed
        self.epochs_file: Path = arguments.epochs_file
        self.work: Path = arguments.work
        self.searched, self.baseline = space["searched"], space["baseline"]
        self.train = arrays(arguments.train, self.baseline["image_size"])
        self.validation = arrays(arguments.validation, self.baseline["image_size"])

    def __call__(self, trial: optuna.Trial) -> float:
        """Train."""
        keras.backend.clear_session()
        keras.utils.set_random_seed(self.seed + trial.number)
        values = dict(self.baseline)
        for name, searched in self.searched.items():
            values[name] = suggest(trial, name, searched)
        weights = Path(f"trial-{trial.number}.weights.h5")
        callbacks = [
            learning_rate_callback(values),
            checkpoint_callback(self.work / weights),
            EpochLog(self.epochs_file, trial.number, START, values, weights),
            PruningCallback(trial, "val_accuracy"),
        ]
        history = build_network(values).fit(
            *self.train,
            batch_size=values["batch_size"],
            epochs=values["epochs"],
            validation_data=self.validation,
            callbacks=callbacks,
            verbose=2,
        )
        return float(max(history.history["val_accuracy"]))


def suggest(trial: optuna.Trial, name: str, searched: dict[str, Any]) -> Any:
    """Return the value of one hyperparameter."""
    if "choices" in searched:
        return trial.suggest_categorical(name, searched["choices"])
    low, high, step, log = searched["low"], searched["high"], searched.get("step"), searched.get("log", False)
    if all(isinstance(value, int) for value in (low, high, step or 1)):
        return trial.suggest_int(name, low, high, step=step or 1, log=log)
    return trial.suggest_float(name, low, high, step=step, log=log)


def main() -> None:
    """Search until all trials are complete or the process is ended; the baseline is the first trial."""
    arguments = parser(__doc__).parse_args()
    objective = Objective(arguments)
    study = optuna.create_study(
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=arguments.seed),
        pruner=optuna.pruners.MedianPruner(),
    )
    study.enqueue_trial({name: objective.baseline[name] for name in objective.searched})
    study.optimize(objective, n_trials=arguments.trials)


if __name__ == "__main__":
    main()
