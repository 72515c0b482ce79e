"""An opening of the test folder is in the store before an image of it is decoded, whoever opens it."""

import shutil
from pathlib import Path

import pytest

from pneumosearch.config import RunSpec, TrialConfig
from pneumosearch.data.manifest import read_manifest
from pneumosearch.data.protocols import DataSource
from pneumosearch.errors import DataError
from pneumosearch.search import objective as objective_module
from pneumosearch.search.rerun import rerun_trial
from pneumosearch.search.runner import train_once
from pneumosearch.storage.store import Store
from tests.conftest import TINY
from tests.support.searching import a_session, fake_train

RUN = RunSpec(config=TrialConfig.checked({**TINY, "epochs": 1}, "test"), protocol="original")


@pytest.fixture
def damaged(phantoms: Path, tmp_path: Path) -> DataSource:
    """The same images outside the test folder, in which one cannot be decoded."""
    folder = shutil.copytree(phantoms, tmp_path / "damaged")
    next((folder / "test" / "NORMAL").iterdir()).write_bytes(b"no image")
    return DataSource(read_manifest(folder), tmp_path / "cache")


def test_baseline_that_fails_to_read_the_test_folder_has_opened_it(store: Store, damaged: DataSource) -> None:
    for _ in range(2):  # the second time goes on with the trial
        with pytest.raises(DataError, match="cannot be decoded"):
            train_once(a_session(store, damaged), "baseline-original", "baseline", RUN)
    (opening,) = store.record("baseline-original").test_openings
    assert (opening.study, opening.trial) == ("baseline-original", 0)
    assert opening.test_fingerprint == damaged.fingerprint("test")
    assert "the test folder judges each of 1 epochs" in opening.why


def test_rerun_that_fails_to_read_the_test_folder_has_opened_it(
    store: Store, source: DataSource, damaged: DataSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(objective_module, "train", fake_train)
        train_once(a_session(store, source), "baseline-original", "baseline", RUN)
    with pytest.raises(DataError, match="cannot be decoded"):
        rerun_trial(a_session(store, damaged), store.record("baseline-original"), 0)
    openings = store.record("baseline-original").test_openings
    assert [opening.study for opening in openings] == ["baseline-original", "baseline-original-reruns"]


def test_each_trial_of_a_process_that_the_test_folder_judges_is_an_opening(
    store: Store, source: DataSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objective_module, "train", fake_train)
    session = a_session(store, source)
    for seed in (1, 2):
        train_once(session, "baseline-original", "baseline", RUN.model_copy(update={"seed": seed}))
    assert [opening.trial for opening in store.record("baseline-original").test_openings] == [0, 1]


def test_test_folder_is_read_only_where_its_opening_is_written_down(source: DataSource) -> None:
    with pytest.raises(ValueError, match="nothing is there to write its opening down"):
        source.load("original", 32)
    with pytest.raises(ValueError, match="nothing is there to write its opening down"):
        source.sealed_test(32)


def test_test_folder_stays_shut_where_its_opening_cannot_be_written_down(damaged: DataSource) -> None:
    def failing(fingerprint: str) -> None:
        raise OSError("the store is away")

    with pytest.raises(OSError, match="the store is away"):  # not DataError, of the damaged image
        damaged.load("original", 32, write_down=failing)


def test_description_of_what_the_test_folder_judges_leaves_it_shut(damaged: DataSource, source: DataSource) -> None:
    described, opened = damaged.described("original", 32), source.load("original", 32, write_down=lambda _: None)
    assert described.test_fingerprint == damaged.fingerprint("test")
    assert described.n_evaluation == opened.description.n_evaluation
    assert source.described("original", 32) == opened.description
