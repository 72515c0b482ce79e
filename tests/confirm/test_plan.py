"""What a confirmation trains: its finalists and its seeds."""

from typing import Any

import pytest

from pneumosearch.confirm.replicates import (
    plan_confirmation,
)
from pneumosearch.errors import StoreError
from pneumosearch.records.finalists import finalists
from pneumosearch.search.repetitions import fresh_seeds
from tests.support.fakes import a_study, a_trial


def test_fresh_seeds_avoid_those_used_and_more_begin_alike() -> None:
    seeds = fresh_seeds(232, set(), 5)
    assert len(set(seeds)) == 5
    assert fresh_seeds(232, set(), 8)[:5] == seeds
    assert fresh_seeds(232, {seeds[0], seeds[2]}, 3) == (seeds[1], seeds[3], seeds[4])
    assert fresh_seeds(233, set(), 5) != seeds


def test_baselines_own_configuration_and_repeats_are_no_finalists() -> None:
    trials = [a_trial(0, 0.8), a_trial(1, 0.9), a_trial(2, 0.85, zoom=0.1), a_trial(3, 0.84, zoom=0.1)]
    plan = plan_confirmation(a_study(*trials, a_trial(4, 0.7, zoom=0.2)), 3, 2)
    assert [trial.number for trial in plan.candidates] == [0, 2, 4]
    assert len(plan.runs) == 3 * 2


def test_finalists_reach_the_floor_where_enough_do() -> None:
    trials = [a_trial(n, accuracy, zoom=n / 10) for n, accuracy in enumerate((0.8, 0.9, 0.95, 0.7))]
    valued = [trial.model_copy(update={"value": 0.9 - trial.number / 10}) for trial in trials]
    record = a_study(*valued)
    record = record.model_copy(update={"spec": {**record.spec, "floor": {"auc": 0.92}}})
    assert [trial.number for trial in plan_confirmation(record, 1, 2).candidates] == [0, 2]
    assert [trial.number for trial in plan_confirmation(record, 3, 2).candidates] == [0, 2, 1, 3]


def test_control_is_confirmed_wherever_it_ranks() -> None:
    trials = [a_trial(0, 0.8), a_trial(1, 0.85, zoom=0.1), a_trial(2, 0.9, zoom=0.1, epochs=9)]
    record = a_study(*trials)
    assert [trial.number for trial in plan_confirmation(record, 1, 2).candidates] == [0, 2]
    record = record.model_copy(update={"spec": {**record.spec, "control": True, "others": {"zoom": 0.1}}})
    plan = plan_confirmation(record, 1, 2)
    assert [plan.label(trial) for trial in plan.candidates] == ["baseline", "trial 2", "trial 1 (the control)"]
    assert [trial.number for trial in finalists(record, 1)] == [2, 1]
    assert [trial.number for trial in plan_confirmation(record, 2, 2).candidates] == [0, 2, 1]
    assert [trial.number for trial in plan_confirmation(record, 1, 2, control=False).candidates] == [0, 2]
    failed = trials[1].model_copy(update={"state": "failed", "value": None})
    without = record.model_copy(update={"trials": (trials[0], failed, trials[2])})
    assert [trial.number for trial in plan_confirmation(without, 1, 2).candidates] == [0, 2]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"purpose": "rerun"}, "'default' is a rerun; only a search can be confirmed"),
        ({"spec": {"protocol": "original", "seed": 1}}, "was judged by the test images"),
        ({"trials": ()}, "the baseline of study 'default' is not complete"),
        ({"trials": (a_trial(0, 0.8, state="failed"), a_trial(1, 0.9, zoom=0.1))}, "the baseline of .* not complete"),
        ({"trials": (a_trial(0, 0.8), a_trial(1, 0.9, state="pruned", zoom=0.1))}, "no complete trial besides"),
    ],
)
def test_what_cannot_be_confirmed_is_told(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(StoreError, match=message):
        plan_confirmation(a_study(a_trial(0, 0.8)).model_copy(update=changes), 3, 2)
