"""Trials by plain SQL are those of Optuna's own storage."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from pneumosearch.storage.optuna_private import study_id, trial_id
from pneumosearch.storage.queries import read_trials
from pneumosearch.storage.retry import RetryingStorage
from pneumosearch.storage.store import Store
from tests.storage.test_mariadb import mariadb  # noqa: F401

ENDED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
RANGES: dict[str, BaseDistribution] = {
    "z": FloatDistribution(0.1, 0.9, step=0.2),
    "rate": FloatDistribution(1e-5, 1.0, log=True),
    "a": FloatDistribution(-1.0, 2.5),
    "epochs": IntDistribution(1, 9, step=2),
    "units": IntDistribution(1, 1024, log=True),
    "choice": CategoricalDistribution(("max", "ä", True, False, None, 3, 0.5)),
    "one": IntDistribution(4, 4),
}
ATTRIBUTES: dict[str, Any] = {
    "data": {"folder": "x", "counts": [1, 2]},
    "versions": {"keras": "3"},
    "text": "ä\U0001f600 \ud800",
    "numbers": [0.1, 1e-300, -0.0, 2**70, math.inf, math.nan, True, None],
    "empty": {},
}


@pytest.fixture(params=["sqlite", "postgres", "mariadb"])
def storage(request: pytest.FixtureRequest, store: Store, tmp_path: Path) -> RetryingStorage:
    opened = store
    if request.param != "sqlite":
        server = request.getfixturevalue(request.param)
        opened = Store(server.new_database(f"queries_{uuid4().hex}"), tmp_path)
    assert isinstance(opened.storage, RetryingStorage)
    return opened.storage


def drawn(study: optuna.Study, number: int) -> optuna.Trial:
    return study.ask(dict(list(RANGES.items())[number % 3 :]))


def filled(storage: RetryingStorage) -> optuna.Study:
    """A study with trials of each kind, among those of another study."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sampler = optuna.samplers.RandomSampler(seed=0)
    study = optuna.create_study(storage=storage, study_name="ä", sampler=sampler)
    other = optuna.create_study(storage=storage, study_name="other", directions=["minimize", "maximize"])
    for n, state in enumerate((*ENDED, *ENDED, TrialState.RUNNING)):
        trial = drawn(study, n)
        for step, value in ((3, 0.25), (1, math.nan), (2, math.inf), (10, -math.inf)):
            trial.report(value, step)
        for key, value in ATTRIBUTES.items():
            trial.set_user_attr(key, value)
        if state != TrialState.RUNNING:
            study.tell(trial, 0.1 * n if state == TrialState.COMPLETE else None, state=state)
        other.tell(drawn(other, n), [math.inf, -math.inf] if n % 2 else [0.5, -1.0])
    study.enqueue_trial({"a": 0.5}, user_attrs={"later": True})
    study.add_trial(create_trial(value=math.inf, system_attrs={"key": [1, "x"]}))
    study.ask()
    return study


@pytest.fixture
def optunas(storage: RetryingStorage) -> Iterator[RDBStorage]:
    """Optuna's own storage in the same database."""
    own = RDBStorage(storage.engine.url.render_as_string(hide_password=False))
    yield own
    own.remove_session()
    own.engine.dispose()


def contents(trials: list[FrozenTrial]) -> list[tuple[Any, ...]]:
    """What trials hold, so that NaN is equal to itself."""
    return [
        (
            trial_id(trial), trial.number, trial.state, trial.values, trial.datetime_start, trial.datetime_complete,
            repr(trial.params), repr(trial.distributions), repr(sorted(trial.user_attrs.items())),
            repr(sorted(trial.system_attrs.items())), repr(sorted(trial.intermediate_values.items())),
        )
        for trial in trials
    ]  # fmt: skip


def test_trials_are_those_that_optuna_reads(storage: RetryingStorage, optunas: RDBStorage) -> None:
    study = filled(storage)
    for identifier in map(study_id, (study, optuna.load_study(storage=storage, study_name="other"))):
        for states in (None, ENDED, (TrialState.WAITING,), ()):
            expected = contents(optunas.get_all_trials(identifier, states=states))
            assert contents(storage.get_all_trials(identifier, states=states)) == expected
            assert contents(read_trials(storage.engine, identifier, states=states)) == expected


def test_study_sees_what_others_changed_since_it_last_looked(storage: RetryingStorage, optunas: RDBStorage) -> None:
    study, elsewhere = filled(storage), optuna.load_study(storage=optunas, study_name="ä")
    assert len(study.get_trials(deepcopy=False)) == len(elsewhere.get_trials(deepcopy=False))
    running = next(trial for trial in study.get_trials(deepcopy=False) if trial.state == TrialState.RUNNING)
    elsewhere.tell(running.number, 0.5)
    elsewhere.ask().suggest_float("a", -1.0, 2.5)
    assert contents(study.get_trials()) == contents(elsewhere.get_trials())


def test_trials_are_chosen_by_their_identifiers(storage: RetryingStorage) -> None:
    whole = read_trials(storage.engine, identifier := study_id(filled(storage)))
    chosen = read_trials(storage.engine, identifier, after=trial_id(whole[4]), also=[trial_id(whole[1])])
    assert contents(chosen) == contents([whole[1], *whole[5:]])
    assert read_trials(storage.engine, identifier, after=trial_id(whole[-1])) == []


def test_results_come_without_what_no_report_looks_at(storage: RetryingStorage) -> None:
    identifier = study_id(filled(storage))
    whole, results = (read_trials(storage.engine, identifier, results_only=only) for only in (False, True))
    for trial in whole:
        trial.params, trial.distributions, trial.system_attrs, trial.intermediate_values = {}, {}, {}, {}
    assert contents(results) == contents(whole)


def test_study_that_is_not_there_has_no_trials(storage: RetryingStorage) -> None:
    with pytest.raises(KeyError):
        storage.get_all_trials(999)
    assert read_trials(storage.engine, 999) == []
