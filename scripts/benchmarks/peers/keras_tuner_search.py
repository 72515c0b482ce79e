"""A search with KerasTuner as its guides show it: a `HyperModel`, `tuner.search`, images read by Keras' pipeline."""

import importlib.util
import itertools
import json
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import keras
import keras_tuner

from benchmarks.peers.common import EpochLog, parser, started
from benchmarks.peers.images import pipeline
from benchmarks.peers.network import build_network, learning_rate_callback

START = started()
ENDLESS = sys.maxsize


class PneumoniaModel(keras_tuner.HyperModel):  # type: ignore[misc]
    """The network, its batch size and its learning-rate callback over the space."""

    def __init__(self, arguments: Namespace) -> None:
        super().__init__()
        space = json.loads(arguments.space.read_text())
        self.arguments, self.searched, self.baseline = arguments, space["searched"], space["baseline"]
        if arguments.tuner == "hyperband":
            self.searched.pop("epochs", None)  # Hyperband sets the number of epochs itself
        self.numbers = itertools.count()

    def values(self, hp: keras_tuner.HyperParameters) -> dict[str, Any]:
        """Return a value of each hyperparameter."""
        values = dict(self.baseline)
        for name, searched in self.searched.items():
            values[name] = choose(hp, name, searched, self.baseline[name])
        return values

    def build(self, hp: keras_tuner.HyperParameters) -> keras.Model:
        """Return the compiled network."""
        return build_network(self.values(hp))

    def fit(self, hp: keras_tuner.HyperParameters, model: keras.Model, *args: Any, **kwargs: Any) -> Any:
        """Train the network; Hyperband sets the epochs."""
        values, number = self.values(hp), next(self.numbers)
        size, batch_size = values["image_size"], values["batch_size"]
        train = pipeline(self.arguments.train, size, batch_size, seed=self.arguments.seed + number)
        validation = pipeline(self.arguments.validation, size, batch_size)
        weights = next(Path(each.filepath) for each in kwargs["callbacks"] if hasattr(each, "filepath"))  # KerasTuner's
        weights = weights.relative_to(self.arguments.work)
        log = EpochLog(self.arguments.epochs_file, number, START, values, weights)
        kwargs.setdefault("epochs", values["epochs"])
        kwargs["callbacks"] = [*kwargs["callbacks"], learning_rate_callback(values), log]
        return model.fit(train, validation_data=validation, **kwargs)


def choose(hp: keras_tuner.HyperParameters, name: str, searched: dict[str, Any], default: Any) -> Any:
    """Return the value of one hyperparameter."""
    if "choices" in searched:
        return hp.Choice(name, searched["choices"], default=default)
    low, high, step = searched["low"], searched["high"], searched.get("step")
    sampling = "log" if searched.get("log") else "linear"
    kind = hp.Int if all(isinstance(value, int) for value in (low, high, step or 1)) else hp.Float
    return kind(name, low, high, step=step, sampling=sampling, default=default)


def make_tuner(arguments: Namespace, model: PneumoniaModel) -> keras_tuner.Tuner:
    """Return the tuner for the arguments."""
    shared = {
        "objective": "val_accuracy",
        "seed": arguments.seed,
        "directory": arguments.work,
        "project_name": arguments.tuner,
        "overwrite": False,
    }
    if arguments.tuner == "hyperband":
        return keras_tuner.Hyperband(
            model, max_epochs=model.baseline["epochs"], factor=3, hyperband_iterations=ENDLESS, **shared
        )
    kind = {"random": keras_tuner.RandomSearch, "bayesian": keras_tuner.BayesianOptimization}[arguments.tuner]
    return kind(model, max_trials=arguments.trials or ENDLESS, **shared)


def do_without_tensorboard() -> None:
    """Let KerasTuner 1.4 search without TensorBoard, which TensorFlow 2.21 no longer installs.

    KerasTuner imports it for each trial, but uses it only with a TensorBoard callback.
    """
    if importlib.util.find_spec("tensorboard") is None:
        keras_tuner.Tuner._configure_tensorboard_dir = lambda self, callbacks, trial, execution=0: None


def main() -> None:
    """Search until all trials are complete or the process is ended."""
    arguments_of = parser(__doc__)
    arguments_of.add_argument("--tuner", choices=("random", "bayesian", "hyperband"), required=True)
    arguments = arguments_of.parse_args()
    keras.utils.set_random_seed(arguments.seed)
    do_without_tensorboard()
    tuner = make_tuner(arguments, PneumoniaModel(arguments))
    if arguments.tuner == "hyperband" and arguments.trials:
        tuner.oracle.max_trials = arguments.trials
    tuner.search(verbose=2)


if __name__ == "__main__":
    main()
