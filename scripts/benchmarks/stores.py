"""Large stores without training: trials as a search writes them, with random numbers."""

import json
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np
import optuna
from optuna.distributions import distribution_to_json
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy import create_engine, text

from pneumosearch.config import RunSpec
from pneumosearch.records.attributes import HISTORY
from pneumosearch.records.dataset import DataDescription
from pneumosearch.space import Space
from pneumosearch.storage.optuna_private import study_id
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

_TRIAL: Final = text(
    "INSERT INTO trials (trial_id, number, study_id, state, datetime_start, datetime_complete) "
    "VALUES (:id, :n, :study, :state, :start, :end)"
)
_VALUE: Final = text(
    "INSERT INTO trial_values (trial_id, objective, value, value_type) VALUES (:id, 0, :value, 'FINITE')"
)
_STEP: Final = text(
    "INSERT INTO trial_intermediate_values (trial_id, step, intermediate_value, intermediate_value_type) "
    "VALUES (:id, :step, :value, 'FINITE')"
)
_ATTRIBUTE: Final = text("INSERT INTO trial_user_attributes (trial_id, key, value_json) VALUES (:id, :key, :v)")
_PARAMETER: Final = text(
    "INSERT INTO trial_params (trial_id, param_name, param_value, distribution_json) VALUES (:id, :name, :value, :of)"
)


def write_store(folder: Path, n: int) -> str:
    """Write a search of `n` ended trials, a third of them pruned; return its URL."""
    url = sqlite_url(folder / f"large-{n}.db")
    spec, data = StudySpec(), DataDescription.model_validate(DESCRIPTION)
    stored = spec.model_dump(mode="json", exclude={"name"})
    study = Store(url, folder).open_study(spec.name, "search", spec.metric, stored, data)
    rng, space = np.random.default_rng(0), spec.search_space()
    _insert(url, study_id(study), (_trial(number, space, data, rng) for number in range(n)))
    return url


def _insert(url: str, study: int, trials: Iterable[FrozenTrial]) -> None:
    """Write trials into Optuna's tables in one transaction: `Study.add_trials` takes 20 ms for each."""
    engine = create_engine(url)
    with engine.begin() as connection:
        for trial in trials:
            n = trial.number
            times = {"start": str(trial.datetime_start), "end": str(trial.datetime_complete)}
            connection.execute(_TRIAL, {"id": n + 1, "n": n, "study": study, "state": trial.state.name, **times})
            connection.execute(_VALUE, {"id": n + 1, "value": trial.value})
            connection.execute(
                _STEP, [{"id": n + 1, "step": s, "value": v} for s, v in trial.intermediate_values.items()]
            )
            connection.execute(
                _ATTRIBUTE, [{"id": n + 1, "key": k, "v": json.dumps(v)} for k, v in trial.user_attrs.items()]
            )
            connection.execute(_PARAMETER, [_parameter(trial, name) for name in trial.params])
    engine.dispose()


def _parameter(trial: FrozenTrial, name: str) -> dict[str, Any]:
    distribution = trial.distributions[name]
    value = distribution.to_internal_repr(trial.params[name])
    return {"id": trial.number + 1, "name": name, "value": value, "of": distribution_to_json(distribution)}


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
    trial.number = number
    trial.datetime_start = datetime(2026, 1, 1) + timedelta(seconds=number)
    trial.datetime_complete = trial.datetime_start + timedelta(seconds=1)
    return trial


def _epoch(epoch: int, rng: np.random.Generator) -> dict[str, Any]:
    names = ("accuracy", "loss", "sensitivity", "specificity", "balanced_accuracy", "auc")
    scores = {f"validation_{name}": float(rng.uniform(0.7, 0.98)) for name in names}
    train = {"train_accuracy": 0.9, "train_loss": 0.2, "learning_rate": 0.001, "seconds": 20.0}
    return {"epoch": epoch, **train, **scores}
