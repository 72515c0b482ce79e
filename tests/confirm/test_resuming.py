"""A confirmation that was begun before, and goes on with what is there."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest

from pneumosearch.confirm.replicates import (
    finished_replicates,
)
from pneumosearch.confirm.run import stored_confirmation
from pneumosearch.data.manifest import read_manifest
from pneumosearch.data.phantoms import write_phantoms
from pneumosearch.data.protocols import DataSource
from pneumosearch.errors import StoreError
from pneumosearch.records.trial import TrialRecord
from pneumosearch.search.runner import open_search
from pneumosearch.search.session import Session, StopFlag
from pneumosearch.storage.store import Store
from tests.support.confirming import SPEC, Attempt
from tests.support.fakes import SilentListener


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


def test_replicate_without_its_network_is_trained_again(searched: Store, source: DataSource) -> None:
    Attempt(searched, source, top=1, seeds=1).confirmation()
    for path in (searched.results / "artifacts").iterdir():
        if path.read_bytes()[:1].isdigit():  # what the fake training saves
            path.unlink()
    assert finished_replicates(searched, Attempt(searched, source, top=1, seeds=1).plan) == {}
    Attempt(searched, source, top=1, seeds=2).confirmation()
    assert searched.record("tiny-confirm").count("complete") == 2 + 4
