"""Promotion, on recorded values: no training."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import optuna
import pytest

from pneumosearch.config import RunSpec
from pneumosearch.data.protocols import DataSource
from pneumosearch.errors import ConfigError
from pneumosearch.search import objective as objective_module
from pneumosearch.search.claims import Claims
from pneumosearch.search.pruners import PromotingPruner, latest, make_pruner, origins
from pneumosearch.search.rerun import rerun_trial
from pneumosearch.storage.store import Store
from pneumosearch.studyfile import StudySpec, checked_spec
from pneumosearch.training.loop import TrainingResult
from tests.conftest import TINY
from tests.support.fakes import a_history
from tests.support.searching import PROMOTING, FakeResult, a_session, search, train_the_second

EPOCHS = 6


def run_searches(
    values: list[float], pruner: PromotingPruner, direction: Literal["maximize", "minimize"] = "maximize"
) -> optuna.Study:
    """Ask for one configuration a value, which every epoch reports, and go on with promotions until none is left."""
    study = optuna.create_study(direction=direction, pruner=pruner)
    left, value_of = list(reversed(values)), dict[int, float]()
    while left or pruner.promotions(study):
        for promotion in pruner.promotions(study)[:1]:
            study.enqueue_trial({}, user_attrs=promotion.attributes())
        trial = study.ask()
        continues = trial.user_attrs.get("continues")
        value = value_of[trial.number] = left.pop() if continues is None else value_of[continues]
        for epoch in range(1, EPOCHS + 1):
            trial.report(value, epoch)
            if epoch < EPOCHS and trial.should_prune():
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
                break
        else:
            study.tell(trial, value)
    return study


def epochs_of(study: optuna.Study) -> dict[int, int]:
    """Return how far each configuration came, by its first trial."""
    roots = origins(study.trials)
    return {roots[trial.number]: trial.last_step or 0 for trial in latest(study.trials)}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_best_configuration_is_trained_whole_and_a_third_goes_on_at_each_rung(
    seed: int, direction: Literal["maximize", "minimize"]
) -> None:
    values = list(np.random.default_rng(seed).permutation(27) / 27)
    study = run_searches(values, PromotingPruner((1, 3), 3), direction)
    reached = list(epochs_of(study).values())
    assert study.best_value == (max(values) if direction == "maximize" else min(values))
    assert len(reached) == 27
    assert set(reached) == {1, 3, EPOCHS}
    assert 9 <= sum(epochs >= 3 for epochs in reached) <= 16  # those promoted before better ones came are too many
    assert 3 <= sum(epochs == EPOCHS for epochs in reached) <= 8


def test_baseline_is_never_stopped_and_a_rising_rank_promotes() -> None:
    study = run_searches([0.1, 0.5, 0.4, 0.3, 0.2, 0.1], PromotingPruner((2,), 3))
    assert epochs_of(study)[0] == EPOCHS
    first_stopped = next(t for t in study.trials if t.number == 1)
    assert first_stopped.state == optuna.trial.TrialState.PRUNED
    assert epochs_of(study)[1] == EPOCHS  # two at the rung gave it no place, three did
    assert sorted(epochs_of(study).values()) == [2, 2, 2, EPOCHS, EPOCHS, EPOCHS]


def test_promotion_uses_no_configuration_twice() -> None:
    study = run_searches([float(v) for v in range(30)], PromotingPruner((1, 2, 4), 2))
    continued = [trial.user_attrs["continues"] for trial in study.trials if "continues" in trial.user_attrs]
    assert len(continued) == len(set(continued))
    assert study.pruner.promotions(study) == []  # type: ignore[attr-defined]


def test_state_is_kept_for_the_most_promising_stopped_trials() -> None:
    pruner = PromotingPruner((1, 3))
    study = run_searches([0.5, *(v / 100 for v in range(40, 0, -1))], pruner)
    kept = pruner.kept(study, 3)
    stopped = [t for t in latest(study.trials) if t.state == optuna.trial.TrialState.PRUNED]
    furthest = max(t.last_step or 0 for t in stopped)
    assert len(kept) == 3
    assert all(study.trials[number].last_step == furthest for number in kept)


def test_rungs_are_checked() -> None:
    assert isinstance(make_pruner(StudySpec(pruner="promote", rungs=(2, 4))), PromotingPruner)
    for rungs in ([], [3, 1], [2, 2]):
        with pytest.raises(ConfigError, match="rungs: must be rising numbers"):
            checked_spec({"pruner": "promote", "rungs": rungs}, "file.toml")
    with pytest.raises(ConfigError, match="rungs: needs pruner = 'promote', not 'median'"):
        checked_spec({"pruner": "median", "rungs": [2]}, "file.toml")
    with pytest.raises(ConfigError, match="reduction_factor: needs pruner = 'promote'"):
        checked_spec({"pruner": "none", "reduction_factor": 3}, "file.toml")


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[RunSpec, int, int]]:
    """Replace training by epochs that depend on zoom alone; collects (run, epochs before, epochs reached)."""
    calls: list[tuple[RunSpec, int, int]] = []

    def train(run: RunSpec, dataset: Any, folder: Path, on_epoch: Any, *_: Any) -> TrainingResult:
        state = folder / "epochs"
        before = reached = int(state.read_text()) if state.exists() else 0
        history = a_history(*[0.9 - run.config.zoom + 0.01 * epoch for epoch in range(run.config.epochs)])
        folder.mkdir(parents=True, exist_ok=True)
        try:
            for reached in range(before or 1, len(history) + 1):
                state.write_text(str(reached))
                on_epoch(history[:reached])
        finally:
            calls.append((run, before, reached))
        return FakeResult(run.config, history, None, 123)

    monkeypatch.setattr(objective_module, "train", train)
    return calls


def test_promoted_trials_go_on_where_they_stopped_and_count_once(
    store: Store, source: DataSource, trained: list[tuple[RunSpec, int, int]]
) -> None:
    run = search(store, source, PROMOTING)
    outcome, deferred = run.until(9), run.objective.session.listener.deferred  # type: ignore[attr-defined]
    record = store.record("tiny")
    assert (outcome.finished, outcome.done, len(record.trials)) == (9, True, 9)
    went_on = [trial for trial in record.trials if trial.earlier]
    assert went_on
    for trial in record.trials:
        assert trial.run is not None
        calls = [call for call in trained if call[0] == trial.run]
        assert [before for _, before, _ in calls] == [0, *(reached for _, _, reached in calls[:-1])]
        assert len(trial.history) == calls[-1][2]
        assert len(calls) == 1 + len(trial.earlier) + deferred.count(trial.number)


def test_baseline_lets_others_go_first_until_one_is_complete(
    store: Store, source: DataSource, trained: list[tuple[RunSpec, int, int]]
) -> None:
    run = search(store, source, PROMOTING)  # its zoom is 0.5, the worst
    run.until(9)
    heard: Any = run.objective.session.listener
    record = store.record("tiny")
    baseline = record.trials[0]
    assert heard.deferred == [0]
    assert heard.epochs[0] == (0, 1)
    assert heard.epochs[1][0] == 1
    assert (baseline.state, len(baseline.history)) == ("complete", 4)
    assert baseline.run is not None
    assert (baseline.run.config, baseline.run.seed) == (PROMOTING.search_space().centre, PROMOTING.seed)
    complete = [number for number in heard.ended if record.trial(number).state == "complete"]
    assert complete[1] == 0  # at once when the first of the others was complete
    assert sum(end - (before or 1) for each, before, end in trained if each == baseline.run) == 3


def test_baseline_is_trained_whole_where_no_other_is_to_be_begun(
    store: Store, source: DataSource, trained: list[tuple[RunSpec, int, int]]
) -> None:
    assert search(store, source, PROMOTING).until(1).done
    assert [(before, end) for _, before, end in trained] == [(0, 4)]
    assert store.record("tiny").trials[0].state == "complete"


def test_deferred_baseline_goes_on_in_another_process_and_equals_its_twin(
    store: Store, source: DataSource, tmp_path: Path, trained: list[tuple[RunSpec, int, int]]
) -> None:
    twin = Store(f"sqlite:///{tmp_path}/twin.db", tmp_path / "twin")
    search(twin, source, PROMOTING).until(9)
    assert not search(store, source, PROMOTING).until(9, at_most=1).done
    assert [(t.state, len(t.history)) for t in store.record("tiny").trials] == [("running", 1)]
    search(store, source, PROMOTING).until(9)
    assert chains(store) == chains(twin)


def test_deferred_baseline_is_trained_before_the_only_candidate_where_none_is_promoted(
    store: Store, source: DataSource, trained: list[tuple[RunSpec, int, int]]
) -> None:
    assert search(store, source, PROMOTING).until(2).finished == 2
    assert [(t.state, len(t.history)) for t in store.record("tiny").trials] == [("complete", 4), ("complete", 4)]
    assert [run.seed - PROMOTING.seed for run, _, _ in trained] == [0, 1, 0, 1, 1]  # which stops at each rung


@pytest.mark.parametrize("others", [[], [0.5, 0.4], [0.5, 0.9]])
def test_baseline_waits_until_another_is_complete_even_where_it_is_the_best(others: list[float]) -> None:
    pruner = PromotingPruner((0, 1), 3)
    study = optuna.create_study(direction="maximize", pruner=pruner)

    def ask(zoom: float) -> optuna.Trial:
        study.enqueue_trial({"zoom": zoom})
        return study.ask({"zoom": optuna.distributions.FloatDistribution(0, 1)})

    baseline = ask(0.3)
    assert not pruner.defers_baseline(study)
    baseline.report(0.6, 1)
    for value in others:
        trial = ask(value)
        trial.report(value, 1)
        study.tell(trial, state=optuna.trial.TrialState.PRUNED)
    assert pruner.defers_baseline(study)
    study.tell(ask(0.3), 0.7)  # the control
    assert pruner.defers_baseline(study)
    study.tell(ask(0.2), 0.1)
    assert not pruner.defers_baseline(study)


def test_baseline_past_its_first_rung_waits_no_more() -> None:
    pruner = PromotingPruner((0, 1), 3)
    study = optuna.create_study(direction="maximize", pruner=pruner)
    baseline = study.ask()
    baseline.report(0.6, 1)
    baseline.report(0.6, 2)
    assert not pruner.defers_baseline(study)


def chains(store: Store) -> list[Any]:
    return [(trial.number, trial.state, trial.value, trial.earlier) for trial in store.record("tiny").trials]


def test_study_killed_with_a_promotion_enqueued_equals_its_twin(
    store: Store, source: DataSource, tmp_path: Path, trained: list[tuple[RunSpec, int, int]]
) -> None:
    twin = Store(f"sqlite:///{tmp_path}/twin.db", tmp_path / "twin")
    search(twin, source, PROMOTING).until(9)
    run = search(store, source, PROMOTING)
    while not any("continues" in trial.user_attrs for trial in run.study.get_trials(deepcopy=False)):
        run.until(9, at_most=1)
        baseline = run.study.get_trials(deepcopy=False)[0]
        claims = Claims(run.study, run.proposer, run.leases, goal=9)
        if baseline.state is optuna.trial.TrialState.RUNNING and not claims.defers(baseline):
            continue  # the baseline goes on before any is promoted
        for promotion in run.study.pruner.promotions(run.study)[:1]:  # type: ignore[attr-defined]
            run.study.enqueue_trial(promotion.params, user_attrs=promotion.attributes())  # and killed right here
    search(store, source, PROMOTING).until(9)
    assert chains(store) == chains(twin)


@pytest.mark.usefixtures("trained")
@pytest.mark.parametrize("n_trials", [2, 3, 5, 6])
def test_short_study_ends_with_a_complete_candidate_beside_the_baseline(
    store: Store, source: DataSource, n_trials: int
) -> None:
    spec = PROMOTING.model_copy(update={"reduction_factor": 50})  # which promotes nobody
    for each in range(n_trials):  # and any number of processes may do it
        search(store, source, spec).until(n_trials, at_most=1 + each % 2)
    outcome = search(store, source, spec).until(n_trials)
    record = store.record("tiny")
    assert (outcome.finished, outcome.done, len(record.trials)) == (n_trials, True, n_trials)
    assert record.baseline is not None
    assert record.baseline.state == "complete"
    (candidate,) = [trial for trial in record.trials[1:] if trial.state == "complete"]
    assert len(candidate.history) == 4
    others = [trial for trial in record.trials if trial.earlier or trial.state == "pruned"]
    best = max(others, key=lambda trial: trial.history[0].evaluation("precise_auc"))
    assert candidate.number == best.number
    assert search(store, source, spec).until(n_trials + 1).finished == n_trials + 1
    assert store.record("tiny").count("complete") == 2  # it has its candidate already


def test_more_trials_promote_those_that_were_stopped_before(
    store: Store, source: DataSource, trained: list[tuple[RunSpec, int, int]]
) -> None:
    search(store, source, PROMOTING).until(8)
    begun = len(store.load_study("tiny").get_trials(deepcopy=False))
    search(store, source, PROMOTING).until(20)
    assert any(trial.earlier and trial.earlier[-1] < begun <= trial.number for trial in store.record("tiny").trials)
    folders = list((store.results / "checkpoints" / "tiny").glob("*"))
    assert 0 < len(folders) <= 10


@pytest.mark.slow
@pytest.mark.usefixtures("second_is_best")
def test_history_of_a_promoted_trial_equals_that_of_one_never_stopped(
    store: Store, source: DataSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objective_module, "train", train_the_second)
    few = {"fixed": {**TINY, "epochs": 3}, "rungs": [1]}
    spec = checked_spec({**PROMOTING.model_dump(mode="json"), **few}, "test")
    search(store, source, spec).until(4)
    record = store.record("tiny")
    went_on = next(trial for trial in record.trials if trial.earlier)
    comparison = rerun_trial(a_session(store, source), record, went_on.number)
    assert comparison is not None
    assert comparison.identical


def test_screening_on_small_images_sorts_out_before_any_full_epoch(
    store: Store, source: DataSource, trained: list[tuple[RunSpec, int, int]]
) -> None:
    fixed = {**PROMOTING.fixed, "image_size": 48}
    spec = checked_spec({**PROMOTING.model_dump(mode="json"), "fixed": fixed, "screening": 32, "rungs": [1]}, "test")
    search(store, source, spec).until(12)
    record = store.record("tiny")
    small = [run for run, _, _ in trained if run.config.image_size == 32]
    assert len(small) == len({run.seed for run in small}) == 11  # each but the baseline, once
    assert {run.config.epochs for run in small} == {1}
    screened_out = [trial for trial in record.trials if not trial.history]
    assert len(screened_out) >= 6
    assert all(trial.state == "pruned" and trial.screening and trial.seconds == 1.0 for trial in screened_out)
    best = max(trial.screening.epoch.evaluation("auc") for trial in record.trials if trial.screening)
    went_on = [trial for trial in record.trials if trial.screening and len(trial.history) > 1]
    assert any(trial.screening and trial.screening.epoch.evaluation("auc") == best for trial in went_on)


def test_screening_belongs_to_promote() -> None:
    with pytest.raises(ConfigError, match="screening: needs pruner = 'promote'"):
        checked_spec({"pruner": "median", "screening": 64}, "file.toml")
