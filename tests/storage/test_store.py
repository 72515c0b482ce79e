import sqlite3
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from pneumosearch.config import RunSpec
from pneumosearch.errors import StoreError
from pneumosearch.storage.store import Store, add_test_opening, trial_record
from tests.support.fakes import SPEC, a_description, an_epoch


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nonsense", "'nonsense' is no storage URL; wanted something like sqlite:///results"),
        ("mongodb://x/y", "mongodb://x/y: unknown kind of database"),
        ("postgresql+pg8000://u:secret@localhost/x", "driver is not installed"),
        ("sqlite://", "would be lost"),
        ("sqlite:////proc/nowhere/x.db", "cannot be written"),
    ],
)
def test_bad_url_is_told_in_one_line_without_its_password(tmp_path: Path, url: str, message: str) -> None:
    with pytest.raises(StoreError, match=message) as error:
        Store(url, tmp_path)
    assert "\n" not in str(error.value)
    assert "secret" not in str(error.value)


def test_file_that_is_no_database_is_told(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_bytes(b"not a database" * 100)
    with pytest.raises(StoreError, match="not a usable Optuna storage|cannot be used"):
        Store(f"sqlite:///{tmp_path}/x.db", tmp_path)
    assert (tmp_path / "x.db").read_bytes() == b"not a database" * 100


def test_missing_storage_is_not_made_by_reading(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no such storage yet; run 'pneumosearch study' first"):
        Store(f"sqlite:///{tmp_path}/x.db", tmp_path, must_exist=True)
    assert not (tmp_path / "x.db").exists()


def test_unknown_study_names_those_there_are(store: Store) -> None:
    with pytest.raises(StoreError, match="no study 'default' .*it holds no study yet"):
        store.load_study("default")
    store.open_study("mine", "search", "accuracy", SPEC, a_description())
    with pytest.raises(StoreError, match="it holds mine"):
        store.load_study("default")


def test_study_goes_on_only_as_it_was(store: Store) -> None:
    store.open_study("mine", "search", "accuracy", SPEC, a_description())
    store.open_study("mine", "search", "accuracy", SPEC, a_description())
    with pytest.raises(StoreError, match="another seed .232, now 1."):
        store.open_study("mine", "search", "accuracy", {**SPEC, "seed": 1}, a_description())
    with pytest.raises(StoreError, match="other images"):
        store.open_study("mine", "search", "accuracy", SPEC, a_description(fingerprint="f" * 16))
    with pytest.raises(StoreError, match="is a search"):
        store.open_study("mine", "baseline", "accuracy", SPEC, a_description())


def test_study_keeps_its_classes_and_refuses_others(store: Store) -> None:
    data = a_description().model_copy(update={"classes": ("HEALTHY", "TB")})
    assert store.classes_of("s", None) == ("NORMAL", "PNEUMONIA")
    assert store.classes_of("s", data.classes) == data.classes
    store.open_study("s", "search", "accuracy", SPEC, data)
    assert store.classes_of("s", None) == store.classes_of("s", ("healthy", "tb")) == data.classes
    message = "study 's' was started with other classes .HEALTHY,TB, now "
    with pytest.raises(StoreError, match=message + "TB,HEALTHY"):
        store.classes_of("s", ("TB", "HEALTHY"))
    with pytest.raises(StoreError, match=message + "NORMAL,PNEUMONIA"):
        store.open_study("s", "search", "accuracy", SPEC, a_description())


def test_foreign_study_is_left_alone(store: Store) -> None:
    optuna.create_study(storage=store.storage, study_name="theirs").ask()
    with pytest.raises(StoreError, match="was not made by pneumosearch"):
        store.open_study("theirs", "search", "loss", SPEC, a_description())
    assert store.names() == []


def test_record_ignores_the_value_of_pruned_trials(store: Store) -> None:
    study = store.open_study("mine", "search", "accuracy", SPEC, a_description())
    for state in (optuna.trial.TrialState.PRUNED, optuna.trial.TrialState.COMPLETE):
        trial = study.ask()
        trial.set_user_attr("history", [an_epoch(1, 0.9).model_dump()])
        trial.report(0.99 if state.name == "PRUNED" else 0.8, 1)
        study.tell(trial, 0.8 if state.name == "COMPLETE" else None, state=state)
    record = store.record("mine")
    assert [trial.value for trial in record.trials] == [None, 0.8]
    assert [trial.number for trial in record.ranking()] == [1]


def test_openings_of_one_data_set_count_once_a_run_and_over_all_studies(store: Store) -> None:
    opened = a_description().model_copy(update={"test_fingerprint": "t" * 16})
    study = store.open_study("baseline-original", "baseline", "accuracy", {}, opened)
    for number in (0, 0, 1):
        add_test_opening(study, number, "original protocol", "t" * 16)
    store.open_study("mine", "search", "accuracy", SPEC, a_description())
    store.open_study("elsewhere", "search", "accuracy", SPEC, a_description(fingerprint="f" * 16))
    assert [(o.study, o.trial) for o in store.record("mine").test_openings] == [
        ("baseline-original", 0),
        ("baseline-original", 1),
    ]
    assert store.record("elsewhere").test_openings == ()


def test_trial_of_another_version_is_told(store: Store) -> None:
    study = store.open_study("mine", "search", "accuracy", SPEC, a_description())
    study.ask().set_user_attr("run", {"config": {"colour": "red"}})
    with pytest.raises(StoreError, match="trial 0: written by another version"):
        store.record("mine")


def test_locked_database_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pneumosearch.storage.urls.SQLITE_PATIENCE", 0.1)
    store = Store(f"sqlite:///{tmp_path}/x.db", tmp_path)
    lock = sqlite3.connect(tmp_path / "x.db", isolation_level=None)
    lock.execute("BEGIN EXCLUSIVE")
    try:
        with pytest.raises(StoreError, match="locked"):
            store.open_study("mine", "search", "accuracy", SPEC, a_description())
    finally:
        lock.close()


def test_fast_reading_of_trials_equals_optunas(store: Store) -> None:
    study = store.open_study("default", "search", "accuracy", SPEC, a_description())
    run = RunSpec().model_dump(mode="json")
    for number, state in enumerate(("COMPLETE", "PRUNED", "FAIL", None)):
        trial = study.ask()
        trial.set_user_attr("run", run)
        trial.set_user_attr("history", [an_epoch(1).model_dump(exclude_none=True)])
        trial.report(0.5, 1)
        if state == "COMPLETE":
            study.tell(trial, 0.1 + 0.2 + number)
        elif state:
            study.tell(trial, state=optuna.trial.TrialState[state])
    study.enqueue_trial({"zoom": 0.3})
    expected = tuple(trial_record(trial) for trial in study.get_trials(deepcopy=False))
    assert store.record("default").trials == expected
    assert [trial.state for trial in expected] == ["complete", "pruned", "failed", "running", "waiting"]


@pytest.mark.parametrize(
    "name", ["../../evil", "/etc/x", "a/b", "..", "[bold]x\x1b[31m", "=1+1", "<script>", "x\n", "x" * 500]
)
def test_study_of_a_hostile_name_is_not_ours_and_stays_in_its_folder(store: Store, name: str) -> None:
    study = optuna.create_study(storage=store.storage, study_name=name)
    study.set_user_attr("purpose", "search")
    assert store.names() == []
    with pytest.raises(StoreError, match="holds no study"):
        store.record(name)
    folder = store.checkpoint_folder(name, 0)
    assert folder.resolve().is_relative_to((store.results / "checkpoints").resolve())
    folder.mkdir(parents=True)
    assert folder.parent.parent == store.results / "checkpoints"


def test_what_a_trial_says_cannot_steer_the_terminal(store: Store) -> None:
    study = store.open_study("mine", "search", "accuracy", SPEC, a_description())
    trial = study.ask()
    trial.set_user_attr("failure", "bad\x1b]0;title\x07\x1b[2J")
    study.tell(trial, state=TrialState.FAIL)
    assert str(store.record("mine").trials[0].failure).isprintable()
