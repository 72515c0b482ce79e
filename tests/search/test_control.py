"""The control: the baseline's values, trained like all other configurations, as the trial after the baseline."""

import pytest

from pneumosearch.config import TrialConfig
from pneumosearch.data.protocols import DataSource
from pneumosearch.search.dry_run import dry_run
from pneumosearch.search.final_round import repeat_finalists
from pneumosearch.search.runner import Outcome, open_search
from pneumosearch.search.session import Session, StopFlag
from pneumosearch.storage.store import Store
from pneumosearch.studyfile import Finalists, checked_spec
from tests.conftest import TINY
from tests.support.fakes import SilentListener
from tests.support.searching import PROMOTING, outcome, search, train_resumably

OTHERS = {"label_smoothing": 0.1}
#: Zoom alone decides how good a fake training is: the baseline's and the control's 0.3 are worse than most.
SPEC = checked_spec({**PROMOTING.model_dump(mode="json"), "others": OTHERS, "control": True}, "test")
CONTROL = TrialConfig.checked({**TINY, "epochs": 4, **OTHERS}, "test")


@pytest.mark.usefixtures("fake")
def test_control_is_the_second_trial_and_is_trained_whole(store: Store, source: DataSource) -> None:
    spec = SPEC.model_copy(update={"max_parameters": 1, "screening": 32})  # which spare baseline and control alone
    search(store, source, spec).until(2)
    spec = SPEC.model_copy(update={"name": "more"})
    search(store, source, spec).until(12)
    for name in ("tiny", "more"):
        record = store.record(name)
        assert record.control is not None
        assert (record.control.number, record.control.state, record.control.n_epochs) == (1, "complete", 4)
        assert record.control.run is not None
        assert record.control.run.config == CONTROL
        assert record.control.screening is None
        assert store.network(name, 1) is not None
    assert store.record("more").count("pruned")
    assert all(trial.run and trial.run.config.label_smoothing for trial in store.record("more").trials[1:])


@pytest.mark.usefixtures("fake")
def test_baseline_alone_leaves_no_control_waiting(store: Store, source: DataSource) -> None:
    search(store, source, SPEC).until(1)
    record = store.record("tiny")
    assert [trial.state for trial in record.trials] == ["complete"]
    assert record.control is None


@pytest.mark.usefixtures("fake")
def test_study_with_a_control_repeats_however_often_it_is_resumed(
    store: Store, source: DataSource, tmp_path_factory: pytest.TempPathFactory
) -> None:
    for n in (1, 2, 3, 9):
        search(store, source, SPEC).until(n)
    folder = tmp_path_factory.mktemp("twin")
    twin = Store(f"sqlite:///{folder}/twin.db", folder)
    search(twin, source, SPEC).until(9)
    configurations = [
        {str(trial.run.config) for trial in each.record("tiny").trials if trial.run} for each in (store, twin)
    ]
    assert configurations[0] == configurations[1]
    assert outcome(store.record("tiny"))[1] == outcome(twin.record("tiny"))[1]


@pytest.mark.usefixtures("fake")
def test_sampler_that_chooses_the_baselines_values_repeats_the_control(store: Store, source: DataSource) -> None:
    values = {**SPEC.model_dump(mode="json"), "sampler": "optuna.samplers:BruteForceSampler", "pruner": "none"}
    values |= {"prune_by": "auc", "rungs": [1], "reduction_factor": 4, "space": {"zoom": {"choices": [0.0, 0.3]}}}
    search(store, source, checked_spec(values, "test")).until(6)
    trials = store.record("tiny").trials
    of_baselines_values = [trial for trial in trials[2:] if trial.run and trial.run.config.zoom == 0.3]
    assert all(trial.duplicate_of == 1 for trial in of_baselines_values)


@pytest.mark.usefixtures("fake")
def test_baseline_waits_for_another_than_the_control(store: Store, source: DataSource) -> None:
    listener = SilentListener()
    open_search(Session(store, source, listener, StopFlag()), SPEC).until(12)
    complete = [number for number in listener.ended if store.record("tiny").trial(number).state == "complete"]
    assert listener.deferred == [0]
    assert complete[0] == 1
    assert complete.index(0) > 1


@pytest.mark.usefixtures("fake")
def test_last_rung_repeats_the_control_wherever_it_ranks(store: Store, source: DataSource) -> None:
    spec = SPEC.model_copy(update={"finalists": Finalists(top=1, repeats=2)})
    run = search(store, source, spec)
    run.until(9)
    before = store.record("tiny")
    assert before.control is not None
    assert before.ranking()[0].number != before.control.number
    assert spec.finalists is not None
    assert repeat_finalists(run.objective.session, spec.finalists, "tiny", Outcome(9, "", True)).done  # type: ignore[arg-type]
    record = store.record("tiny")
    assert [len(trial.repeated) for trial in record.ranking()[:3]] == [2, 2, 0]
    assert record.control is not None
    assert len(record.control.repeated) == 2
    assert dry_run(spec, 50, None).n_repetitions == 4


def test_study_of_an_earlier_version_goes_on_without_one(
    store: Store, source: DataSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pneumosearch.search.objective.train", train_resumably)
    without = SPEC.model_copy(update={"control": False})
    run = search(store, source, without)
    run.until(3)
    stored = run.study.user_attrs["spec"]
    assert stored.pop("control") is False
    run.study.set_user_attr("spec", stored)
    search(store, source, SPEC).until(5)
    record = store.record("tiny")
    assert record.control is None
    assert CONTROL not in [trial.run.config for trial in record.trials if trial.run]


def test_dry_run_shows_the_control_behind_the_baseline() -> None:
    baseline, control, *searched = (trial.config for trial in dry_run(SPEC, 50, None).first)
    assert (baseline, control) == (SPEC.search_space().centre, CONTROL)
    assert {config.label_smoothing for config in searched} == {0.1}
