"""Confirming a search: the baseline and the best on fresh seeds, the test folder shut until all of them are there."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import optuna
import pytest
from typer.testing import CliRunner, Result

from pneumosearch.cli.app import app
from pneumosearch.config import Equalization, Fold, RunSpec, TrialConfig
from pneumosearch.confirm import test_access as opening_module
from pneumosearch.confirm.naming import named_winner
from pneumosearch.confirm.replicates import (
    ConfirmationPlan,
    as_begun,
    finished_replicates,
    plan_confirmation,
)
from pneumosearch.confirm.run import confirm, stored_confirmation
from pneumosearch.confirm.test_access import most_wrong
from pneumosearch.data.cache import load_pixels
from pneumosearch.data.manifest import read_manifest
from pneumosearch.data.phantoms import write_phantoms
from pneumosearch.data.protocols import DataSource
from pneumosearch.errors import DataError, StoreError, TrainingError
from pneumosearch.inference.predict import PlainNetwork
from pneumosearch.metrics import best_threshold
from pneumosearch.records.confirmation import Confirmation
from pneumosearch.records.trial import TrialRecord
from pneumosearch.report.summary import study_summary
from pneumosearch.search import objective as objective_module
from pneumosearch.search.final_round import repeat_finalists
from pneumosearch.search.repetitions import fresh_seeds
from pneumosearch.search.runner import Outcome, open_search
from pneumosearch.search.session import Session, StopFlag
from pneumosearch.storage.confirmations import confirmations
from pneumosearch.storage.store import Store
from pneumosearch.studyfile import Finalists, checked_spec
from pneumosearch.training.loop import TrainingResult, predict, train
from pneumosearch.workers.work import Limits, Work
from tests.conftest import TINY
from tests.support.fakes import SilentListener, a_history, a_study, a_trial

SPEC = checked_spec(
    {
        "name": "tiny",
        "pruner": "none",
        "fixed": {**TINY, "epochs": 1},
        "space": {"zoom": {"low": 0.0, "high": 0.5}},
    },
    "test",
)


def unrecorded(fingerprint: str) -> None:
    """Write no opening down: phantoms of a test."""


def kept(store: Store) -> list[Confirmation]:
    return [confirmation for _, confirmation in confirmations(store, "tiny")]


class FakeResult(TrainingResult):
    def save(self, path: Path) -> None:
        path.write_text(json.dumps(self.config.zoom))


def fake_train(run: RunSpec, dataset: Any, folder: Path, on_epoch: Callable[[Any], None], *_: Any) -> TrainingResult:
    history = a_history(*[0.9 - run.config.zoom / 5] * run.config.epochs)
    folder.mkdir(parents=True, exist_ok=True)
    on_epoch(history)
    return FakeResult(run.config, history, None, 123)


class FakeNetwork:
    """Calls bright images ill."""

    model = None

    def __init__(self, content: bytes) -> None:
        self.zoom = json.loads(content)

    def predict_on_batch(self, pixels: Any) -> npt.NDArray[np.float64]:
        return np.asarray(pixels.mean(axis=(1, 2)) / 255)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objective_module, "train", fake_train)
    monkeypatch.setattr(objective_module, "learning_curves", lambda history, path, title: path.touch())
    monkeypatch.setattr(opening_module, "PlainNetwork", FakeNetwork)
    monkeypatch.setattr(opening_module, "grad_cam", lambda model, pixels, ill: np.zeros(pixels.shape, np.float32))


@pytest.fixture
def searched(fake: None, store: Store, source: DataSource) -> Store:
    """A store with a search of the baseline and three other configurations."""
    open_search(Session(store, source, SilentListener(), StopFlag()), SPEC).until(4)
    return store


def in_this_process(session: Session, work: Work) -> Outcome:
    return work.train(session, Limits(trials_a_process=100))


class Attempt:
    """One run of confirm, with what it said."""

    def __init__(self, store: Store, source: DataSource, top: int = 2, seeds: int = 2) -> None:
        self.plan: ConfirmationPlan = as_begun(store, plan_confirmation(store.record("tiny"), top, seeds))
        self.stop, self.said, self.warned = StopFlag(), list[str](), list[str]()
        self.session = Session(store, source, SilentListener(), self.stop)

    def config(self, trial: TrialRecord) -> TrialConfig:
        assert trial.run is not None
        return trial.run.config

    def run(self) -> Confirmation | None:
        return confirm(self.session, self.plan, in_this_process, say=self.said.append, warn=self.warned.append)

    def confirmation(self) -> Confirmation:
        confirmation = self.run()
        assert confirmation is not None
        return confirmation


def test_baseline_and_best_train_on_the_same_fresh_seeds_and_all_networks_are_kept(
    searched: Store, source: DataSource
) -> None:
    confirmation = Attempt(searched, source).confirmation()
    search = searched.record("tiny")
    best = [trial.number for trial in search.ranking() if trial.number]
    assert [candidate.trial for candidate in confirmation.candidates] == [0, *best[:2]]
    assert [candidate.role for candidate in confirmation.candidates] == ["baseline", "finalist", "finalist"]
    for candidate in confirmation.candidates:
        assert tuple(replicate.seed for replicate in candidate.replicates) == confirmation.seeds
    assert not {trial.run.seed for trial in search.trials if trial.run} & set(confirmation.seeds)
    replicates = searched.record("tiny-confirm")
    assert replicates.purpose == "confirm"
    assert replicates.baseline is None
    assert replicates.count("complete") == 6
    for number in range(6):  # more than a search keeps, and the worst among them
        assert searched.read_artifact("tiny-confirm", f"trial-{number}.keras", number)
    attributes = searched.load_study("tiny-confirm").get_trials()[4].user_attrs  # of the second seed
    assert attributes["replicate_of"] == {"study": "tiny", "trial": best[0]}
    assert attributes["replicate"] == 1


def test_confirmation_is_kept_with_the_search_and_counts_what_was_tried(searched: Store, source: DataSource) -> None:
    confirmation = Attempt(searched, source).confirmation()
    assert kept(searched) == [confirmation]
    test_images = source.manifest.part("test").images
    assert confirmation.images == tuple(image.name for image in test_images)
    assert confirmation.labels == tuple(image.label for image in test_images)
    assert confirmation.patients == tuple(image.patient for image in test_images)
    assert confirmation.verdict.n_searched == 3
    values = [trial.value or 0 for trial in (searched.record("tiny").ranking()[0], searched.record("tiny").trials[0])]
    assert confirmation.verdict.validation_gain == pytest.approx(values[0] - values[1])
    assert "validation images of other patients chose the epoch" in confirmation.trained_on
    expected = source.sealed_test(32, write_down=unrecorded).array.mean(axis=(1, 2)) / 255
    assert confirmation.candidates[0].replicates[0].probabilities == pytest.approx(expected)


def test_pictures_of_confident_mistakes_are_kept(searched: Store, source: DataSource) -> None:
    confirmation = Attempt(searched, source).confirmation()
    p = np.array(confirmation.candidates[1].replicates[0].probabilities)
    wrong = most_wrong(confirmation.labels, p)
    assert wrong
    stem = Path(confirmation.images[wrong[0]]).stem
    picture = searched.read_artifact("tiny", f"wrong-01-{stem}.png")
    assert picture is not None
    assert picture.startswith(b"\x89PNG")
    assert searched.read_artifact("tiny", f"wrong-13-{stem}.png") is None


def test_most_confident_mistakes_come_first_and_are_few() -> None:
    assert most_wrong([0, 0, 1, 1, 1], np.array([0.6, 0.99, 0.9, 0.05, 0.5])) == [1, 3, 0, 4]
    assert len(most_wrong([0] * 50, np.ones(50))) == 12


def test_test_folder_is_opened_only_when_every_replicate_is_there(
    searched: Store, source: DataSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sealed(self: DataSource, size: int, equalization: str, write_down: Any) -> None:
        record = searched.record("tiny-confirm")
        raise DataError(f"opened with {record.count('complete')} replicates, {len(record.test_openings)} recorded")

    monkeypatch.setattr(DataSource, "sealed_test", sealed)
    with pytest.raises(DataError, match="opened with 6 replicates, 1 recorded"):
        Attempt(searched, source).run()
    assert kept(searched) == []
    monkeypatch.undo()


def diverging(monkeypatch: pytest.MonkeyPatch, fails: Callable[[RunSpec], bool]) -> list[RunSpec]:
    """Let the loss of such runs be no number; returns the runs that are trained from now on."""
    runs: list[RunSpec] = []

    def train(run: RunSpec, *others: Any) -> TrainingResult:
        runs.append(run)
        if fails(run):
            raise TrainingError("epoch 1: loss is nan")
        return fake_train(run, *others)

    monkeypatch.setattr(objective_module, "train", train)
    return runs


def test_replicate_whose_loss_is_not_finite_is_counted_and_the_others_are_judged(
    searched: Store, source: DataSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt = Attempt(searched, source, top=2, seeds=3)
    second, third = attempt.plan.seeds[1:]
    finalist = attempt.plan.candidates[1].number
    trained = diverging(
        monkeypatch,
        lambda run: (run.seed == second and run.config.zoom != 0.3) or (run.seed == third and run.config.zoom == 0.3),
    )
    confirmation = attempt.confirmation()
    assert [len(each.replicates) for each in confirmation.candidates] == [2, 2, 2]
    assert [[(f.seed, f.reason) for f in each.failures] for each in confirmation.candidates] == [
        [(third, "epoch 1: loss is nan")],
        [(second, "epoch 1: loss is nan")],
        [(second, "epoch 1: loss is nan")],
    ]
    assert [each.n_seeds for each in confirmation.comparisons] == [1, 1]
    words = " ".join(confirmation.verdict.sentences)
    assert f"Of tiny {finalist}, 1 of 3 replicates failed (epoch 1: loss is nan); no figure counts them." in words
    assert "over the 1 seed on which neither failed" in words
    assert sum("the confirmation counts this failure" in line for line in attempt.said) == 3
    assert len(trained) == 9
    again = Attempt(searched, source, top=1, seeds=3)  # what failed is not trained again
    assert [len(each.failures) for each in again.confirmation().candidates] == [1, 1]
    assert len(trained) == 9


@pytest.mark.parametrize(
    ("fails", "message"),
    [
        (lambda run, seeds: run.config.zoom == 0.3, "^baseline: 2 of 2 replicates failed .epoch 1: loss is nan.; "),
        (
            lambda run, seeds: run.config.zoom != 0.3,
            r"^trial \d: 2 of 2 replicates failed .epoch 1: loss is nan.; the ",
        ),
        (
            lambda run, seeds: (run.config.zoom == 0.3) == (run.seed == seeds[0]),
            r"^trial \d and the baseline have no seed on which neither failed; the test images were not opened; ",
        ),
    ],
)
def test_too_many_failures_open_nothing_and_more_seeds_go_on(
    searched: Store, source: DataSource, monkeypatch: pytest.MonkeyPatch, fails: Any, message: str
) -> None:
    attempt = Attempt(searched, source, top=1)
    seeds = attempt.plan.seeds
    trained = diverging(monkeypatch, lambda run: run.seed in seeds and fails(run, seeds))
    for _ in range(2):
        with pytest.raises(TrainingError, match=message):
            Attempt(searched, source, top=1).run()
        assert searched.record("tiny").test_openings == ()
        assert len(trained) == 4
    more = Attempt(searched, source, top=1, seeds=3).confirmation()
    assert sum(len(each.failures) for each in more.candidates) == 2


def test_each_seed_is_judged_by_another_fold_and_all_development_images_judge_once(
    searched: Store, source: DataSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged: dict[float, list[int]] = {}

    def train(run: RunSpec, dataset: Any, *others: Any) -> TrainingResult:
        judged.setdefault(run.config.zoom, []).extend(dataset.evaluation.indices)
        assert not set(dataset.evaluation.indices) & set(dataset.train.indices)
        return fake_train(run, dataset, *others)

    monkeypatch.setattr(objective_module, "train", train)
    confirmation = Attempt(searched, source, top=1, seeds=6).confirmation()
    for candidate in confirmation.candidates:
        assert [replicate.fold for replicate in candidate.replicates] == [0, 1, 2, 3, 4, 0]
        of_one, n = judged[candidate.config.zoom], source.load("holdout", 32).train.labels.size
        assert sorted(of_one) == sorted([*range(n), *source.load("holdout", 32, fold=Fold(0, 5)).evaluation.indices])
    assert "4 of 5 folds that change from seed to seed" in confirmation.trained_on


def test_threshold_comes_from_the_copies_of_the_fold_that_judged(searched: Store, source: DataSource) -> None:
    for replicate in Attempt(searched, source, top=1).confirmation().candidates[1].replicates:
        dataset = source.load("holdout", 32, battery=True, fold=Fold(replicate.fold or 0, 5))
        assert dataset.battery is not None
        of_copies, of_plain = (
            best_threshold(images.labels[images.indices], predict(FakeNetwork(b"0.1"), images))
            for images in (dataset.battery, dataset.evaluation)
        )
        assert replicate.at_threshold.threshold == of_copies != of_plain


def reversed_on_folds(
    run: RunSpec, dataset: Any, folder: Path, on_epoch: Callable[[Any], None], *_: Any
) -> TrainingResult:
    """On repetition the best of the search is the worst."""
    changed = run.config.model_copy(update={"zoom": 0.9 - run.config.zoom}) if run.fold is not None else run.config
    result = fake_train(run.model_copy(update={"config": changed}), dataset, folder, on_epoch)
    return FakeResult(run.config, result.history, None, 123)


def test_repetition_names_the_winner_before_the_test_folder_is_opened(
    searched: Store, source: DataSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objective_module, "train", reversed_on_folds)
    attempt = Attempt(searched, source, top=2, seeds=3)
    best, other = attempt.plan.candidates[1:]
    named: list[Any] = []

    def sealed(self: DataSource, size: int, equalization: str, write_down: Any) -> None:
        named.append(named_winner(searched, attempt.plan))
        raise DataError("opened")

    with monkeypatch.context() as patch:
        patch.setattr(DataSource, "sealed_test", sealed)
        with pytest.raises(DataError, match="opened"):
            attempt.run()
    confirmation = Attempt(searched, source, top=2, seeds=3).confirmation()
    assert confirmation.naming == named[0]
    assert named[0].winner == other.number
    assert confirmation.candidates[confirmation.verdict.winner].trial == other.number
    repeated = {each.trial: each for each in named[0].repetitions}
    assert repeated[best.number].searched == best.value
    assert repeated[best.number].figures == pytest.approx([0.9 - (0.9 - attempt.config(best).zoom) / 5] * 3)
    assert repeated[other.number].lead > repeated[best.number].lead
    words = " ".join(confirmation.verdict.sentences)
    assert f"Trial {other.number} of 'tiny', named by repetition before the test images were opened," in words
    assert f"The best of the search was trial {best.number}; repetition puts trial {other.number} before it." in words
    assert "3 fresh seeds and 3 of 5 folds" in words
    assert f"repetition names trial {other.number} the winner" in attempt.said[-1]


def test_confirmation_uses_what_the_study_has_repeated(searched: Store, source: DataSource) -> None:
    session = Session(searched, source, SilentListener(), StopFlag())
    assert repeat_finalists(session, Finalists(top=2, repeats=2), "tiny", Outcome(4, "", True)).done
    plan = Attempt(searched, source, top=2, seeds=3).plan
    there = finished_replicates(searched, plan)
    assert len(there) == 4  # with their networks
    attempt = Attempt(searched, source, top=2, seeds=3)
    attempt.confirmation()
    assert sum(line.startswith("replicate ") for line in attempt.said) == len(plan.runs) - 4


def test_finalist_that_failed_less_often_is_named(
    searched: Store, source: DataSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt = Attempt(searched, source, top=2, seeds=2)
    best, other = attempt.plan.candidates[1:]
    zoom = attempt.config(best).zoom
    diverging(monkeypatch, lambda run: run.config.zoom == zoom and run.seed == attempt.plan.seeds[0])
    naming = attempt.confirmation().naming
    assert naming is not None
    assert naming.winner == other.number
    assert [each.n_paired for each in naming.repetitions] == [2, 1, 2]
    assert naming.repetitions[1].figures[0] is None


def test_finalist_below_the_floor_is_not_named_before_one_that_reaches_it(
    searched: Store, source: DataSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objective_module, "train", reversed_on_folds)
    attempt = Attempt(searched, source, top=2, seeds=2)
    best, other = attempt.plan.candidates[1:]
    assert best.kept is not None
    spec = {**attempt.plan.record.spec, "floor": {"auc": best.kept.evaluation("auc")}}
    record = attempt.plan.record.model_copy(update={"spec": spec})
    attempt.plan = replace(attempt.plan, record=record)
    assert record.below_floor(other)
    naming = attempt.confirmation().naming
    assert naming is not None
    assert naming.winner == best.number  # though the other is better on repetition


def test_confirmation_begun_without_folds_goes_on_without_them(searched: Store, source: DataSource) -> None:
    attempt = Attempt(searched, source, top=2, seeds=2)
    attempt.plan = replace(attempt.plan, n_folds=None)  # as earlier versions

    class StopAfterFirst(SilentListener):
        def trial_ended(self, record: TrialRecord) -> None:
            attempt.stop.reason = "interrupted"

    attempt.session = Session(searched, source, StopAfterFirst(), attempt.stop)
    assert attempt.run() is None
    again = Attempt(searched, source, top=2, seeds=2)
    confirmation = again.confirmation()
    assert again.plan == attempt.plan
    assert len(again.said) == 1 + 5
    assert confirmation.naming is None
    assert confirmation.verdict.winner == 1
    assert {each.fold for candidate in confirmation.candidates for each in candidate.replicates} == {None}
    assert "folds" not in confirmation.trained_on
    assert Attempt(searched, source, top=1, seeds=3).plan.n_folds is None  # what is trained is used


def test_replicates_of_a_deleted_study_on_other_images_are_not_taken_for_ones_own(
    searched: Store, source: DataSource, tmp_path: Path
) -> None:
    Attempt(searched, source, top=1).confirmation()
    optuna.delete_study(study_name="tiny", storage=searched.storage)
    write_phantoms(tmp_path / "others", n_images=160, seed=9)
    others = DataSource(read_manifest(tmp_path / "others"), tmp_path / "cache")
    open_search(Session(searched, others, SilentListener(), StopFlag()), SPEC).until(4)
    with pytest.raises(StoreError, match="study 'tiny-confirm' was trained on other images"):
        Attempt(searched, others, top=1).run()


def test_failing_replicate_stops_before_any_opening(
    searched: Store, source: DataSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(run: RunSpec, *others: Any) -> TrainingResult:
        if run.config.zoom != 0.3 and run.seed == attempt.plan.seeds[1]:
            raise RuntimeError("out of memory")
        return fake_train(run, *others)

    attempt = Attempt(searched, source, top=1)
    monkeypatch.setattr(objective_module, "train", failing)
    message = rf"replicate 4 of 4 \(trial \d, seed {attempt.plan.seeds[1]}\) failed: RuntimeError: out of memory$"
    with pytest.raises(TrainingError, match=message):
        attempt.run()
    assert searched.record("tiny").test_openings == ()
    monkeypatch.setattr(objective_module, "train", fake_train)
    Attempt(searched, source, top=1).confirmation()
    record = searched.record("tiny-confirm")
    assert (record.count("complete"), record.count("failed")) == (4, 3)  # tried three times, then by the next command


def test_interrupted_confirmation_goes_on_with_what_is_there(searched: Store, source: DataSource) -> None:
    attempt = Attempt(searched, source, top=1, seeds=2)

    class StopAfterFirst(SilentListener):
        def trial_ended(self, record: TrialRecord) -> None:
            attempt.stop.reason = "interrupted"

    attempt.session = Session(searched, source, StopAfterFirst(), attempt.stop)
    assert attempt.run() is None
    assert len(finished_replicates(searched, attempt.plan)) == 1
    assert searched.record("tiny").test_openings == ()
    again = Attempt(searched, source, top=1, seeds=2)
    again.confirmation()
    assert len(searched.record("tiny-confirm").trials) == 4
    assert [line.split(":")[0] for line in again.said[1:]] == [f"replicate {turn} of 4" for turn in (2, 3, 4)]


def test_replicate_stopped_within_is_taken_up(searched: Store, source: DataSource) -> None:
    attempt = Attempt(searched, source, top=1, seeds=1)

    class StopAtFirstEpoch(SilentListener):
        def epoch_ended(self, number: int, history: Any) -> None:
            attempt.stop.reason = "interrupted"

    attempt.session = Session(searched, source, StopAtFirstEpoch(), attempt.stop)
    assert attempt.run() is None
    assert [trial.state for trial in searched.record("tiny-confirm").trials] == ["running"]
    Attempt(searched, source, top=1, seeds=1).confirmation()
    assert [trial.state for trial in searched.record("tiny-confirm").trials] == ["complete", "complete"]


def test_same_candidates_and_seeds_are_answered_from_the_store(searched: Store, source: DataSource) -> None:
    attempt = Attempt(searched, source)
    assert stored_confirmation(searched, attempt.plan) is None
    confirmation = attempt.confirmation()
    assert stored_confirmation(searched, Attempt(searched, source).plan) == confirmation
    assert stored_confirmation(searched, Attempt(searched, source, top=1).plan) is None
    assert stored_confirmation(searched, Attempt(searched, source, seeds=1).plan) is None


def test_other_seeds_and_finalists_reuse_replicates_and_are_another_opening(
    searched: Store, source: DataSource
) -> None:
    first = Attempt(searched, source, top=1, seeds=1)
    assert first.confirmation().n_openings == 1
    assert first.warned == []
    second = Attempt(searched, source, top=2, seeds=2)
    assert second.confirmation().n_openings == 2
    assert second.plan.seeds[:1] == first.plan.seeds
    assert len(second.said) == 1 + 6 - 2 + 1  # cost, replicates, and who was named
    assert second.warned == ["the test images were opened before: this is opening 2 from this store"]
    assert [one.n_openings for one in kept(searched)] == [1, 2]
    summary = study_summary(searched.record("tiny"))
    assert summary["test_openings"] == 2
    why = summary["test_opening_log"][0]["why"]
    assert why.startswith("confirmation of 'tiny': baseline, trial ")
    assert why.endswith(f"; seeds {first.plan.seeds[0]}, in turn on 5 folds")


def test_opening_that_was_cut_short_counts_once(
    searched: Store, source: DataSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(opening_module, "compared", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            Attempt(searched, source).run()
    again = Attempt(searched, source)
    assert again.confirmation().n_openings == 1
    assert (len(again.said), again.warned) == (1, [])  # who was named; nothing is trained


def test_opening_that_is_interrupted_goes_on(searched: Store, source: DataSource) -> None:
    Attempt(searched, source).confirmation()
    other = Attempt(searched, source, top=1)
    other.warned = Interrupting(other.stop)
    assert other.run() is None
    assert len(kept(searched)) == 1
    assert Attempt(searched, source, top=1).confirmation().n_openings == 2


class Interrupting(list[str]):
    """Presses Ctrl-C when the opening is told."""

    def __init__(self, stop: StopFlag) -> None:
        self.stop = stop

    def append(self, text: str) -> None:
        self.stop.reason = "interrupted"


def test_replicate_without_its_network_is_trained_again(searched: Store, source: DataSource) -> None:
    Attempt(searched, source, top=1, seeds=1).confirmation()
    for path in (searched.results / "artifacts").iterdir():
        if path.read_bytes()[:1].isdigit():  # what the fake training saves
            path.unlink()
    assert finished_replicates(searched, Attempt(searched, source, top=1, seeds=1).plan) == {}
    Attempt(searched, source, top=1, seeds=2).confirmation()
    assert searched.record("tiny-confirm").count("complete") == 2 + 4


def test_other_images_than_the_searchs_are_refused(searched: Store, source: DataSource, tmp_path: Path) -> None:
    write_phantoms(tmp_path / "others", n_images=160, seed=2)
    other = DataSource(read_manifest(tmp_path / "others"), tmp_path / "cache")
    with pytest.raises(StoreError, match="others: not the images of the search"):
        Attempt(searched, other).run()


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


def test_sealed_test_shrinks_as_the_holdout_protocol_does(source: DataSource, tmp_path: Path) -> None:
    part = source.manifest.part("test")
    for equalization in get_args(Equalization):
        area = load_pixels(part, 40, "area", tmp_path, equalization=equalization)
        assert np.array_equal(source.sealed_test(40, equalization, write_down=unrecorded).array, area.array)
        assert source.load("holdout", 40, equalization).description.interpolation == "area"


@pytest.mark.slow
def test_kept_network_answers_as_the_trained_one(source: DataSource, tmp_path: Path) -> None:
    run = RunSpec(config=TrialConfig.checked({**TINY, "epochs": 1}, "test"))
    dataset = source.load("holdout", 32)
    result = train(run, dataset, tmp_path, lambda history: None)
    result.save(tmp_path / "kept.keras")
    trained = predict(result.model, dataset.evaluation)
    kept = PlainNetwork((tmp_path / "kept.keras").read_bytes())
    assert predict(kept, dataset.evaluation) == pytest.approx(trained, abs=1e-4)


STUDY_FILE = """
name = "tiny"
pruner = "none"
[fixed]
image_size = 32
width = 0.25
epochs = 1
[space]
zoom = { low = 0.0, high = 0.5 }
"""


@pytest.mark.slow
def test_search_is_confirmed_on_the_command_line(
    tmp_path: Path, phantoms: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PNEUMOSEARCH_DATA", raising=False)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str) -> Result:
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, (result.output, result.exception)
        return result

    (tmp_path / "tiny.toml").write_text(STUDY_FILE)
    run("study", "tiny.toml", "--trials", "2", "--data", str(phantoms), "--quiet")
    command = ("confirm", "--name", "tiny", "--top", "1", "--seeds", "2")
    stopped = run(*command, "--timeout", "0.001s")
    assert "stopped (the time is up) with 0 of 4 replicates; run the same command again to resume" in stopped.stderr

    first = run(*command, "--workers", "2")
    assert "PHANTOMS" in first.stderr
    assert "the baseline and 1 finalist on 2 seeds: 4 replicates; at the search's speed, the 4 to train" in first.stderr
    assert first.stdout.startswith("PHANTOMS")
    assert "replicate 4 of 4: trial 1, seed" in first.stderr
    assert "WARNING" not in first.stderr
    assert "the best of 1 configuration looks" in first.stdout
    assert "The test set was opened 1 time from this store" in first.stdout

    monkeypatch.setattr(DataSource, "sealed_test", None)
    again = run(*command)
    assert again.stdout == first.stdout
    summary = json.loads(run(*command, "--json").stdout)
    assert "images" not in summary
    assert "probabilities" not in summary["candidates"][0]["replicates"][0]
    assert summary["n_openings"] == 1
    assert json.loads(run("report", "--name", "tiny", "--json").stdout)["test_openings"] == 1
