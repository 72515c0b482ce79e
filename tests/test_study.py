"""`Study` over a store: what a notebook sees. docs/python.md, whose blocks are run, searches and confirms with it."""

import subprocess
import sys
from pathlib import Path

import pytest

import pneumosearch
from pneumosearch import ConfigError, Store, StoreError, Study
from pneumosearch.records import attributes
from pneumosearch.storage.urls import sqlite_url
from pneumosearch.studyfile import StudySpec
from tests.conftest import ROOT
from tests.support.fakes import a_description, a_trial


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A folder whose store has the study `made`: the baseline and a trial that is better."""
    store = Store(sqlite_url(tmp_path / "pneumosearch.db"), tmp_path)
    spec = StudySpec(name="made")
    study = store.open_study("made", "search", spec.metric, spec.identity(), a_description())
    for record in (a_trial(0, 0.7), a_trial(1, 0.8, 0.9, dropout_1=0.3)):
        assert record.run is not None
        trial = study.ask()
        attributes.RUN.set(trial, record.run)
        attributes.HISTORY.extend(trial, record.history)
        study.tell(trial, record.value)
    study.ask()
    return tmp_path


def test_trials_are_a_frame_with_the_hyperparameters_that_some_trial_changes(results: Path) -> None:
    trials = Study.load("made", results=results).trials
    assert list(trials.index) == [0, 1, 2]
    assert list(trials["state"]) == ["complete", "complete", "running"]
    assert trials.loc[1, "dropout_1"] == 0.3
    assert trials.loc[1, "validation_accuracy"] == 0.9
    assert "dropout_2" not in trials.columns


def test_best_and_words(results: Path) -> None:
    study = Study.load("made", results=results)
    assert study.best.number == 1
    assert study.best.run is not None
    assert study.best.run.config.changes() == {"dropout_1": 0.3}
    assert repr(study) == "<Study 'made': 3 trials, 2 complete; best accuracy 0.9000 (trial 1)>"


def test_report_is_a_table_in_print_and_a_page_in_a_notebook(results: Path, tmp_path: Path) -> None:
    report = Study.load("made", results=results).report(top=1)
    assert "Study 'made'" in str(report)
    shown = report._repr_html_()  # as notebooks call it
    assert shown.startswith('<iframe srcdoc="&lt;!DOCTYPE html&gt;')
    assert shown.count("<") == 2  # the frame alone: the page is quoted
    report.save(tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text() == report.html
    assert report.as_dict()["best"]["number"] == 1


def test_study_that_is_not_there_is_named(results: Path) -> None:
    with pytest.raises(StoreError, match="no study 'other'"):
        Study.load("other", results=results)
    with pytest.raises(StoreError):
        Study.load("made", results=results / "elsewhere")


def test_study_without_a_complete_trial_has_no_best(store: Store) -> None:
    spec = StudySpec(name="new")
    store.open_study("new", "search", spec.metric, spec.identity(), a_description())
    with pytest.raises(StoreError, match="study 'new' has no complete trial yet"):
        _ = Study(store, "new").best
    assert repr(Study(store, "new")) == "<Study 'new': 0 trials, 0 complete>"
    assert Study(store, "new").trials.empty


def test_confirmation_wants_the_images(results: Path) -> None:
    with pytest.raises(StoreError, match="its images are no longer in chest_xray; give data"):
        Study.load("made", results=results).confirm(top=1, seeds=1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"trails": 3}, "Study.search: .*trails"),
        ({"trials": 0}, "Study.search: trials"),
        ({"timeout": "soon"}, "Study.search: timeout"),
        ({"log": ["wandb:there"]}, "Study.search: log"),
    ],
)
def test_setting_that_cannot_be_used_is_named_before_anything_begins(
    tmp_path: Path, settings: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        Study.search(tmp_path / "nowhere", results=tmp_path, **settings)  # type: ignore[arg-type]
    assert not (tmp_path / "pneumosearch.db").exists()


def test_study_is_public_and_imports_no_tensorflow() -> None:
    assert "Study" in pneumosearch.__all__
    heavy = {"tensorflow", "keras", "pandas", "mlflow"}
    code = f"import sys\nfrom pneumosearch import Study\nprint({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "set()\n"
