"""The winner, named by repetition before the test folder is opened."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pneumosearch.confirm.naming import named_winner
from pneumosearch.confirm.replicates import (
    finished_replicates,
)
from pneumosearch.data.protocols import DataSource
from pneumosearch.errors import DataError
from pneumosearch.search import objective as objective_module
from pneumosearch.search.final_round import repeat_finalists
from pneumosearch.search.runner import Outcome, open_search
from pneumosearch.search.session import Session, StopFlag
from pneumosearch.storage.store import Store
from pneumosearch.storage.urls import sqlite_url
from pneumosearch.studyfile import Finalists, checked_spec
from tests.support.confirming import SPEC, Attempt, diverging, reversed_on_folds
from tests.support.fakes import SilentListener


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


@pytest.mark.usefixtures("searched")
@pytest.mark.parametrize("wins", [True, False])
def test_control_is_confirmed_wherever_it_ranks_and_may_be_the_winner(
    source: DataSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wins: bool
) -> None:
    values = {**SPEC.model_dump(mode="json"), "others": {"label_smoothing": 0.1}, "control": True}
    store = Store(sqlite_url(tmp_path / "control.db"), tmp_path / "control")
    session = Session(store, source, SilentListener(), StopFlag())
    open_search(session, checked_spec(values, "test")).until(5)
    if wins:
        monkeypatch.setattr(objective_module, "train", reversed_on_folds)
    attempt = Attempt(store, source, top=1)
    best, control = attempt.plan.candidates[1:]
    assert (best.value or 0) > (control.value or 0)
    confirmation = attempt.confirmation()
    assert [candidate.role for candidate in confirmation.candidates] == ["baseline", "finalist", "control"]
    assert confirmation.candidates[confirmation.verdict.winner].trial == (control if wins else best).number
    assert any(sentence.startswith("It is the control") for sentence in confirmation.verdict.sentences) == wins
    beside = confirmation.verdict.beside_control
    assert beside is not None
    assert confirmation.candidates[beside.candidate].trial == best.number  # whichever of the two wins
    assert repeat_finalists(session, Finalists(top=1, repeats=2), "tiny", Outcome(5, "", True)).done
    assert len(store.record("tiny-confirm").trials) == 6  # nothing is trained twice


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
