"""Large stores without training: trials as a search writes them, with random numbers."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState, create_trial

from pneumosearch.config import RunSpec
from pneumosearch.records.attributes import HISTORY
from pneumosearch.records.dataset import DataDescription
from pneumosearch.space import Space
from pneumosearch.storage.store import Store
from pneumosearch.storage.urls import sqlite_url
from pneumosearch.studyfile import StudySpec

DESCRIPTION = {
    "kind": "images",
    "folder": "chest_xray",
    "fingerprint": "0" * 16,
    "test_fingerprint": None,
    "counts": {"train": (1341, 3875), "val": (8, 8), "test": (234, 390)},
    "n_train": 4708,
    "n_evaluation": 524,
    "interpolation": "area",
    "split_seed": 232,
    "skipped": (),
}


def write_store(folder: Path, n: int) -> str:
    """Write a search of `n` ended trials, a third of them pruned; return its URL."""
    url = sqlite_url(folder / f"large-{n}.db")
    spec, data = StudySpec(), DataDescription.model_validate(DESCRIPTION)
    stored = spec.model_dump(mode="json", exclude={"name"})
    study = Store(url, folder).open_study(spec.name, "search", spec.metric, stored, data)
    rng, space = np.random.default_rng(0), spec.search_space()
    study.add_trials([_trial(number, space, data, rng) for number in range(n)])
    return url


def _trial(number: int, space: Space, data: DataDescription, rng: np.random.Generator) -> FrozenTrial:
    sampled = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=number)).ask()
    config = space.suggest(sampled)
    pruned = number % 3 == 2
    history = [_epoch(epoch, rng) for epoch in range(1, 3 if pruned else config.epochs + 1)]
    attributes: dict[str, Any] = {
        "run": RunSpec(config=config, seed=232 + number).model_dump(mode="json"),
        "data": data.model_dump(mode="json"),
        "versions": {"python": "3.11.7", "keras": "3.15.1", "tensorflow": "2.21.0"},
        "owner": {"host": "host", "pid": 1, "started": 0.0},
        **{f"{HISTORY.prefix}{epoch['epoch']}": epoch for epoch in history},
        "n_parameters": 2314337,
    }
    trial = create_trial(
        state=TrialState.PRUNED if pruned else TrialState.COMPLETE,
        params=sampled.params,
        distributions={name: space.dimensions[name].distribution() for name in sampled.params},
        value=history[-1]["validation_accuracy"],
        intermediate_values={epoch["epoch"]: epoch["validation_auc"] for epoch in history},
        user_attrs=attributes,
    )
    trial.datetime_start = datetime(2026, 1, 1) + timedelta(seconds=number)
    trial.datetime_complete = trial.datetime_start + timedelta(seconds=1)
    return trial


def _epoch(epoch: int, rng: np.random.Generator) -> dict[str, Any]:
    names = ("accuracy", "loss", "sensitivity", "specificity", "balanced_accuracy", "auc")
    scores = {f"validation_{name}": float(rng.uniform(0.7, 0.98)) for name in names}
    train = {"train_accuracy": 0.9, "train_loss": 0.2, "learning_rate": 0.001, "seconds": 20.0}
    return {"epoch": epoch, **train, **scores}
