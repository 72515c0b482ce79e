"""A trial trained again: equal to the last digit, or the difference is told."""

import pytest

from pneumosearch.data.protocols import DataSource
from pneumosearch.errors import StoreError
from pneumosearch.search import objective as objective_module
from pneumosearch.search.rerun import rerun_trial
from pneumosearch.storage.store import Store
from pneumosearch.studyfile import checked_spec
from tests.support.searching import SPEC, a_session, fake_train, search


@pytest.mark.slow
def test_search_under_stress_is_judged_by_changed_copies_and_each_trial_reruns(
    store: Store, source: DataSource
) -> None:
    values = {**SPEC.model_dump(mode="json"), "metric": "stress_auc", "prune_by": "stress_auc"}
    # With moving averages two epochs of so small a network may call all images ill: each AUC is 0.5 then.
    values["fixed"] = {**values["fixed"], "batch_norm_statistics": "precise"}
    search(store, source, checked_spec({**values, "protocol": "brightness"}, "test")).until(2)
    record = store.record("tiny")
    for trial in record.trials:
        assert trial.kept is not None
        assert trial.value == trial.kept.validation_stress_auc
        assert any(epoch.validation_stress_auc != epoch.validation_auc for epoch in trial.history)
        assert all(
            0.0 <= epoch.evaluation("stress_worst") <= epoch.evaluation("stress_balanced_accuracy") <= 1.0
            for epoch in trial.history
        )
    comparison = rerun_trial(a_session(store, source), record, 1)
    assert comparison is not None
    assert comparison.identical


@pytest.mark.slow
def test_rerun_of_a_trial_with_precise_batch_normalisation_repeats_to_the_last_digit_or_says_where_not(
    store: Store, source: DataSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {**SPEC.model_dump(mode="json"), "prune_by": "precise_auc"}
    search(store, source, checked_spec(values, "test")).until(2)
    record = store.record("tiny")
    reported = [trial.intermediate_values for trial in store.load_study("tiny").get_trials(deepcopy=False)]
    assert reported == [{e.epoch: e.validation_precise_auc for e in trial.history} for trial in record.trials]
    again = rerun_trial(a_session(store, source), record, 1)
    assert again is not None
    assert again.identical
    assert "equal to the last digit" in again.verdict()
    assert store.record("tiny-reruns").trials[0].run == record.trials[1].run
    monkeypatch.setattr(objective_module, "train", fake_train)
    differing = rerun_trial(a_session(store, source), record, 1)
    assert differing is not None
    assert "epoch 1: " in differing.verdict()
    with pytest.raises(StoreError, match="no trial 9"):
        rerun_trial(a_session(store, source), record, 9)
