"""Epochs in the attributes of a trial: one each, and the single list of earlier versions."""

import json

import optuna
import pytest
from optuna.trial import create_trial
from pydantic import ValidationError

from pneumosearch.records.attributes import HISTORY
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
