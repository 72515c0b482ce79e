"""A store of an earlier version opens, reports the same figures, and goes on; tests/fixtures says how it was made."""

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pneumosearch.config import RunSpec
from pneumosearch.confirm.replicates import as_begun, finished_replicates, plan_confirmation
from pneumosearch.confirm.run import stored_confirmation
from pneumosearch.data.manifest import ManifestPart
from pneumosearch.data.protocols import DataSource
from pneumosearch.inference.export import stored_classifier
from pneumosearch.inference.predict import Classifier, file_classifier
from pneumosearch.records.classes import PUBLISHED_CLASSES
from pneumosearch.report.latest_confirmation import confirmation_summary, latest_confirmation
from pneumosearch.report.summary import study_summary
from pneumosearch.search import objective as objective_module
from pneumosearch.search.runner import open_search
from pneumosearch.search.session import Session, StopFlag
from pneumosearch.storage.store import Store, add_test_opening
from pneumosearch.studyfile import read_study_file
from pneumosearch.training.loop import TrainingResult, train
from tests.conftest import ROOT
from tests.support.fakes import SilentListener, a_history

FIXTURE = ROOT / "tests" / "fixtures" / "store-d4e22fa"
UNDER_STRESS = ROOT / "tests" / "fixtures" / "store-stress-7c54c67"
FINGERPRINTS = {"development": "dce25086549f6be5", "test": "c7a45f35fddd6323"}  # of the phantoms of both


@pytest.fixture
def same_phantoms(source: DataSource, monkeypatch: pytest.MonkeyPatch) -> DataSource:
    """Phantoms that count as those of then. They are drawn anew, and processors round some pixels otherwise."""
    monkeypatch.setattr(ManifestPart, "fingerprint", property(lambda part: FINGERPRINTS[part.part]))
    return source


@pytest.fixture
def earlier(tmp_path: Path) -> Store:
    shutil.unpack_archive(FIXTURE / "results.tar.xz", tmp_path, filter="data")
    return a_store(FIXTURE, tmp_path)


def a_store(fixture: Path, folder: Path) -> Store:
    with closing(sqlite3.connect(folder / "store.db")) as database:
        database.executescript((fixture / "store.sql").read_text(encoding="utf-8"))
    return Store(f"sqlite:///{folder}/store.db", folder / "results", must_exist=True)


def printed_then(name: str, fixture: Path = FIXTURE) -> Any:
    return json.loads((fixture / f"{name}.json").read_text(encoding="utf-8"))


def assert_holds(now: Any, then: Any, where: str = "report") -> None:
    """Later versions may say more, but nothing else."""
    if isinstance(then, dict):
        assert then.keys() <= now.keys(), where
        for key, value in then.items():
            assert_holds(now[key], value, f"{where}.{key}")
    elif isinstance(then, list):
        assert len(now) == len(then), where
        for position, pair in enumerate(zip(now, then, strict=True)):
            assert_holds(*pair, f"{where}[{position}]")
    else:
        assert now == then, where


def as_json(value: Any) -> Any:
    return json.loads(json.dumps(value))


@pytest.mark.parametrize(("study", "name"), [("tiny", "report"), ("baseline-original", "report-original")])
def test_store_of_an_earlier_version_reports_the_same(earlier: Store, study: str, name: str) -> None:
    assert earlier.names() == ["baseline-original", "tiny", "tiny-confirm"]
    record = earlier.record(study)
    assert_holds(as_json(study_summary(record)), printed_then(name))
    assert (record.data.classes, record.data.beside_published) == (PUBLISHED_CLASSES, record.data.kind == "images")


def test_confirmation_of_an_earlier_version_says_the_same(earlier: Store) -> None:
    confirmation = latest_confirmation(earlier, "tiny")
    assert confirmation is not None
    assert_holds(as_json(confirmation_summary(confirmation)), printed_then("confirmation"))


def test_confirmation_of_an_earlier_version_is_found_and_goes_on_without_folds(earlier: Store) -> None:
    record = earlier.record("tiny")
    then = latest_confirmation(earlier, "tiny")
    assert then is not None
    n_finalists, n_seeds = len(then.candidates) - 1, len(then.seeds)
    assert stored_confirmation(earlier, as_begun(earlier, plan_confirmation(record, n_finalists, n_seeds))) == then
    more = as_begun(earlier, plan_confirmation(record, n_finalists, n_seeds + 1))
    assert more.n_folds is None
    assert len(finished_replicates(earlier, more)) == (n_finalists + 1) * n_seeds


def test_openings_of_an_earlier_version_count_beside_new_ones(earlier: Store) -> None:
    study = earlier.load_study("baseline-original")
    add_test_opening(study, 0, "trained to its end", "t" * 16)  # an earlier version has written it down
    assert [opening.study for opening in earlier.record("tiny").test_openings] == ["tiny-confirm", "baseline-original"]
    add_test_opening(study, 1, "another trial", "t" * 16)
    assert [opening.trial for opening in earlier.record("tiny").test_openings] == [None, 0, 1]


@pytest.mark.slow
def test_study_of_an_earlier_version_goes_on_to_its_goal(
    earlier: Store, same_phantoms: DataSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = earlier.record("tiny")
    before = {trial.number: trial.history for trial in record.trials}
    known = {trial.run.config for trial in record.trials if trial.run}

    def new_ones_fail(run: RunSpec, dataset: Any, folder: Path, on_epoch: Any, *others: Any) -> TrainingResult:
        """Train what an earlier version began; what is new does badly, so that no digit of it decides who goes on."""
        if run.config in known:
            return train(run, dataset, folder, on_epoch, *others)
        history = a_history(*[0.1] * run.config.epochs)
        on_epoch(history)
        return TrainingResult(run.config, history, None, 1)

    monkeypatch.setattr(objective_module, "train", new_ones_fail)
    run = open_search(
        Session(earlier, same_phantoms, SilentListener(), StopFlag()), read_study_file(FIXTURE / "tiny.toml")
    )
    assert run.until(earlier.goal("tiny")).done
    after = earlier.record("tiny").trials
    assert len(after) == 7
    went_on = [trial for trial in after if trial.number > 6 and trial.earlier and trial.earlier[-1] in before]
    assert went_on  # from its state, not from the first epoch
    for trial in went_on:
        then = before[trial.earlier[-1]]
        assert trial.history[: len(then)] == then


@pytest.mark.slow
def test_study_by_changed_copies_of_before_the_battery_reports_the_same_and_goes_on(
    tmp_path: Path, same_phantoms: DataSource
) -> None:
    store = a_store(UNDER_STRESS, tmp_path)
    assert_holds(as_json(study_summary(store.record("stress"))), printed_then("report", UNDER_STRESS))
    spec = read_study_file(UNDER_STRESS / "stress.toml")
    assert open_search(Session(store, same_phantoms, SilentListener(), StopFlag()), spec).until(4).done
    record = store.record("stress")
    last = record.trials[3]
    assert last.kept is not None
    assert last.value == last.kept.validation_stress_auc
    assert last.kept.families is None
    assert record.trials[1].run is not None
    assert not record.trials[1].run.battery


def probabilities(classifier: Classifier, phantoms: Path) -> list[float]:
    images = [phantoms.parent / each["image"] for each in printed_then("predictions")["predictions"]]
    pixels = np.stack([classifier.read(image) for image in images])
    return [float(each) for each in classifier.probabilities(pixels)]


@pytest.mark.slow
def test_predict_uses_the_networks_that_an_earlier_version_confirmed(earlier: Store, phantoms: Path) -> None:
    then, classifier = printed_then("predictions"), stored_classifier(earlier, "tiny")
    assert (classifier.about, classifier.threshold) == (then["model"], then["threshold"])
    expected = [each["probability"] for each in then["predictions"]]
    assert probabilities(classifier, phantoms) == pytest.approx(expected, abs=1e-4)


@pytest.mark.slow
def test_network_that_an_earlier_version_exported_is_that_of_its_trial(earlier: Store, phantoms: Path) -> None:
    exported = file_classifier(earlier.results.parent / "exported")
    assert exported.about.startswith("trial 4 of 'tiny', exported to ")
    kept = file_classifier(kept_network(earlier, 4))
    assert probabilities(exported, phantoms) == pytest.approx(probabilities(kept, phantoms), abs=1e-6)


def kept_network(store: Store, number: int) -> Path:
    content = store.network("tiny", number)
    assert content is not None
    path = store.results / "kept.keras"
    path.write_bytes(content)
    return path
