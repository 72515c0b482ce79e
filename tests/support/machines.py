"""Machines that share a database and artifacts: each has a results folder of its own."""

from collections.abc import Callable

import optuna

from pneumosearch.storage.artifacts import Artifacts
from pneumosearch.storage.store import Store
from tests.support.fakes import trial_id

Hosts = Callable[..., Store]


def taken_up(store: Store, number: int = 0) -> optuna.Trial:
    """The same trial, as another process sees it."""
    study = optuna.load_study(storage=store.storage, study_name="tiny")
    return optuna.Trial(study, trial_id(study, store.storage, number))


def shared(store: Store) -> Artifacts:
    assert store.shared_artifacts is not None
    return store.shared_artifacts
