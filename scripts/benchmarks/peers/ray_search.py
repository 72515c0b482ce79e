"""A search with Ray Tune as its documentation shows it: Optuna's search, ASHA, one trial at a time on all cores."""

import json
import os
from argparse import Namespace
from pathlib import Path
from typing import Any

import keras
import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch

from benchmarks.peers.common import EpochLog, parser, started, trials_begun
from benchmarks.peers.images import Arrays, arrays
from benchmarks.peers.network import build_network, checkpoint_callback, learning_rate_callback

START = started()


class Report(keras.callbacks.Callback):  # type: ignore[misc]
    """Reports each epoch to Ray Tune."""

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Report."""
        tune.report({"val_accuracy": (logs or {})["val_accuracy"]})


def train(
    config: dict[str, Any],
    *,
    baseline: dict[str, Any],
    images: tuple[Arrays, Arrays],
    epochs_file: Path,
    work: Path,
    seed: int,
    start: float,
) -> None:
    """Train one trial in a process of Ray."""
    values, (train_images, validation_images) = {**baseline, **config}, images
    number = trials_begun(epochs_file)  # the trial names of Ray contain no number
    keras.backend.clear_session()
    keras.utils.set_random_seed(seed + number)
    weights = Path(f"trial-{number}.weights.h5")
    callbacks = [
        learning_rate_callback(values),
        checkpoint_callback(work / weights),
        EpochLog(epochs_file, number, start, values, weights),
        Report(),
    ]
    build_network(values).fit(
        *train_images,
        batch_size=int(values["batch_size"]),
        epochs=int(values["epochs"]),
        validation_data=validation_images,
        callbacks=callbacks,
        verbose=2,
    )


def domain(searched: dict[str, Any]) -> Any:
    """Return the range of one hyperparameter."""
    if "choices" in searched:
        return tune.choice(searched["choices"])
    low, high, step, log = searched["low"], searched["high"], searched.get("step"), searched.get("log", False)
    if all(isinstance(value, int) for value in (low, high, step or 1)):
        if step:
            return tune.qrandint(low, high, step)
        return tune.lograndint(low, high + 1) if log else tune.randint(low, high + 1)
    if step:
        return tune.quniform(low, high, step)
    return tune.loguniform(low, high) if log else tune.uniform(low, high)


def make_tuner(arguments: Namespace) -> tune.Tuner:
    """Return the tuner; the baseline is its first trial."""
    space = json.loads(arguments.space.read_text())
    searched, baseline = space["searched"], space["baseline"]
    size = baseline["image_size"]
    trainable = tune.with_parameters(
        train,
        baseline=baseline,
        images=(arrays(arguments.train, size), arrays(arguments.validation, size)),
        epochs_file=arguments.epochs_file.resolve(),
        work=arguments.work.resolve(),
        seed=arguments.seed,
        start=START,
    )
    first = {name: baseline[name] for name in searched}
    return tune.Tuner(
        tune.with_resources(trainable, {"cpu": os.cpu_count() or 1}),
        param_space={name: domain(ranges) for name, ranges in searched.items()},
        tune_config=tune.TuneConfig(
            metric="val_accuracy",
            mode="max",
            search_alg=OptunaSearch(points_to_evaluate=[first], seed=arguments.seed),
            scheduler=ASHAScheduler(max_t=baseline["epochs"], grace_period=1),
            num_samples=arguments.trials or -1,
            max_concurrent_trials=1,
        ),
        run_config=tune.RunConfig(name="race", storage_path=str(arguments.work.resolve())),
    )


def main() -> None:
    """Search until all trials are complete or the process is ended."""
    arguments = parser(__doc__).parse_args()
    ray.init(address="local", include_dashboard=False)  # ignore any cluster that runs on this machine
    make_tuner(arguments).fit()


if __name__ == "__main__":
    main()
