"""Epochs in the attributes of a trial: one each, and the single list of earlier versions."""

import json

import optuna
import pytest
from optuna.trial import create_trial
from pydantic import ValidationError

from pneumosearch.config import RunSpec
from pneumosearch.metrics import FamilyScores
from pneumosearch.records.attributes import HISTORY, RUN, further_folds, history_of, n_epochs
from pneumosearch.records.epoch import mean_epoch
from tests.support.fakes import a_history, an_epoch

#: What MySQL's type TEXT holds, in bytes.
MYSQL_TEXT = 65_535


def test_epochs_come_back_in_order_beyond_the_tenth() -> None:
    history = tuple(an_epoch(number) for number in range(1, 13))
    trial = optuna.create_study().ask()
    for n in (2, 12, 12):
        HISTORY.extend(trial, history[:n])
        assert HISTORY.count(trial) == n
        assert HISTORY.of(trial) == history[:n]


def test_no_attribute_grows_with_the_training() -> None:
    trial = optuna.create_study().ask()
    HISTORY.extend(trial, tuple(an_epoch(number) for number in range(1, 1001)))
    assert max(len(json.dumps(value)) for value in trial.user_attrs.values()) < MYSQL_TEXT / 100


def test_list_of_an_earlier_version_is_read_and_extended() -> None:
    history = a_history(0.7, 0.8, 0.9)
    trial = optuna.create_study().ask()
    trial.set_user_attr("history", [epoch.model_dump(exclude_none=True) for epoch in history[:2]])
    assert HISTORY.of(trial) == history[:2]
    HISTORY.extend(trial, history)
    assert HISTORY.of(trial) == history
    assert len(trial.user_attrs["history"]) == 2


def test_what_is_no_epoch_is_refused() -> None:
    with pytest.raises(ValidationError):
        HISTORY.of(create_trial(value=1.0, user_attrs={"epoch:1": {"epoch": 1}}))
    assert HISTORY.of(create_trial(value=1.0)) == ()


def test_each_fold_has_its_own_epochs() -> None:
    trial = optuna.create_study().ask()
    RUN.set(trial, RunSpec(protocol="folds", n_folds=10))
    histories = [a_history(*[0.5 + 0.01 * fold] * 3) for fold in range(10)]
    for fold, history in enumerate(histories[:2]):
        history_of(fold).extend(trial, history)
    assert further_folds(trial.user_attrs) == (histories[1],)
    for fold, history in enumerate(histories):
        history_of(fold).extend(trial, history)
    assert HISTORY.of(trial) == histories[0]
    assert further_folds(trial.user_attrs) == tuple(histories[1:])
    assert n_epochs(trial) == 30


def test_mean_of_epochs_is_that_of_each_figure_also_of_the_battery() -> None:
    families = [{"tone": FamilyScores(accuracy=x, loss=1 - x, specificity=x, auc=x)} for x in (0.5, 0.75)]
    first, second = (
        epoch.model_copy(update={"families": scores, "copies": {"steeper": scores["tone"].accuracy}})
        for epoch, scores in zip((an_epoch(2, 0.5, 0.25), an_epoch(1, 0.75, 0.75)), families, strict=True)
    )
    mean = mean_epoch([first, second])
    assert (mean.epoch, mean.validation_accuracy, mean.validation_loss, mean.test_accuracy) == (2, 0.625, 0.5, None)
    assert mean.families == {"tone": FamilyScores(accuracy=0.625, loss=0.375, specificity=0.625, auc=0.625)}
    assert mean.copies == {"steeper": 0.625}
    assert mean_epoch([first]) is first
