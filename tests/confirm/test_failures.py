"""Replicates that fail: counted where their loss is no number, else the end before any opening."""

from typing import Any

import pytest

from pneumosearch.config import RunSpec
from pneumosearch.data.protocols import DataSource
from pneumosearch.errors import TrainingError
from pneumosearch.search import objective as objective_module
from pneumosearch.storage.store import Store
from pneumosearch.training.loop import TrainingResult
from tests.support.confirming import Attempt, diverging, fake_train


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
