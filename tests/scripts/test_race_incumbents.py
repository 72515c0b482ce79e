"""Which network of a run is its incumbent, and that it is kept."""

import json
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from benchmarks.live_data import prepare, race_spec
from benchmarks.live_incumbents import Incumbent, epoch_lines, leading_epoch, leading_trial
from benchmarks.live_judging import judge, our_images, peers_images
from benchmarks.live_sides import EPOCHS_FILE, SIDES
from pneumosearch.config import RunSpec, TrialConfig
from pneumosearch.records.attributes import HISTORY, RUN
from pneumosearch.records.trial import StudyRecord
from pneumosearch.storage.store import Store
from pneumosearch.storage.urls import sqlite_url
from pneumosearch.studyfile import StudySpec
from tests.support.fakes import SPEC, a_description, a_history, a_study, a_trial


def a_line(seconds: float, trial: int, epoch: int, accuracy: float) -> dict[str, Any]:
    weights = f"trial-{trial}.weights.h5"
    about = {"values": {"zoom": 0.1 * trial}, "weights": weights}
    return {"seconds": seconds, "trial": trial, "epoch": epoch, "val_accuracy": accuracy, **about}


LINES = [a_line(10, 0, 1, 0.6), a_line(20, 0, 2, 0.8), a_line(30, 1, 1, 0.8), a_line(40, 1, 2, 0.9)]


@pytest.mark.parametrize(("seconds", "place"), [(10, 0), (25, 1), (30, 1), (39.9, 1), (40, 3), (1000, 3)])
def test_incumbent_of_a_peer_is_the_first_of_its_best_epochs(seconds: float, place: int) -> None:
    assert leading_epoch(LINES, seconds) == LINES[place]


def test_peer_without_an_epoch_has_no_incumbent() -> None:
    assert leading_epoch(LINES, 9.9) is None
    assert leading_epoch([], 100.0) is None


def test_line_that_a_killed_process_left_unfinished_does_not_count(tmp_path: Path) -> None:
    (tmp_path / EPOCHS_FILE).write_text(json.dumps(LINES[0]) + "\n" + json.dumps(LINES[1])[:20])
    assert epoch_lines(tmp_path / EPOCHS_FILE) == LINES[:1]


def a_search(floor: float) -> StudyRecord:
    """Four trials: the baseline, a better one, a pruned one, and one below the floor whose metric is the best."""
    trials = [a_trial(0, 0.7), a_trial(1, 0.8), a_trial(2, 0.95, state="pruned"), a_trial(3, 0.6)]
    trials[3] = trials[3].model_copy(update={"value": 0.9})
    return a_study(*trials).model_copy(update={"spec": {**SPEC, "floor": {"auc": floor}}})


@pytest.mark.parametrize(
    ("floor", "seconds", "number"), [(0.5, 20, 0), (0.5, 30, 1), (0.5, 40, 3), (0.65, 40, 1), (0.75, 20, 0)]
)
def test_our_incumbent_is_the_best_complete_trial_above_the_floor(floor: float, seconds: float, number: int) -> None:
    found = leading_trial(a_search(floor), {0: 20.0, 1: 30.0, 3: 40.0}, seconds)
    assert found is not None
    assert found.number == number


def test_we_have_no_incumbent_before_a_trial_is_complete() -> None:
    assert leading_trial(a_search(0.5), {0: 20.0}, 19.0) is None


def test_weights_of_a_peer_are_kept_as_they_were_at_each_time(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    watch = SIDES["optuna"].watch(tmp_path)
    with (tmp_path / EPOCHS_FILE).open("w") as file:
        for line in LINES:
            file.write(json.dumps(line) + "\n")
            file.flush()
            (tmp_path / "work" / line["weights"]).write_text(f"after {line['seconds']}")
            watch.look(line["seconds"])
    values = LINES[0]["values"], LINES[3]["values"]
    assert watch.keep([5.0, 35.0, 60.0]) == [
        Incumbent(35.0, 0, 2, "0-2.weights.h5", values[0]),
        Incumbent(60.0, 1, 2, "1-2.weights.h5", values[1]),
    ]
    kept = {path.name: path.read_text() for path in (tmp_path / "networks").iterdir()}
    assert kept == {"0-2.weights.h5": "after 20", "1-2.weights.h5": "after 40"}


def test_networks_of_our_incumbents_are_kept(tmp_path: Path) -> None:
    watch = SIDES["pneumosearch"].watch(tmp_path)
    assert watch.keep([10.0]) == []
    work = tmp_path / "work"
    store = Store(sqlite_url(work / "pneumosearch.db"), work)
    study = store.open_study("race", "search", "accuracy", SPEC, a_description())
    for number, accuracy in enumerate((0.7, 0.8, 0.75)):
        trial = study.ask()
        RUN.set(trial, RunSpec(config=TrialConfig(zoom=0.1), seed=number))
        HISTORY.extend(trial, a_history(0.5, accuracy))
        network = tmp_path / f"trial-{number}.keras"
        network.write_text(f"network {number}")
        store.add_artifact(trial, network, "application/zip")
        study.tell(trial, accuracy, state=TrialState.COMPLETE)
        watch.look(10.0 * number)
    changes = TrialConfig(zoom=0.1).changes()
    assert watch.keep([5.0, 60.0]) == [
        Incumbent(5.0, 0, 2, "0.keras", changes),
        Incumbent(60.0, 1, 2, "1.keras", changes),
    ]
    kept = {path.name: path.read_text() for path in (tmp_path / "networks").iterdir()}
    assert kept == {"0.keras": "network 0", "1.keras": "network 1"}


@pytest.mark.slow
def test_all_sides_are_judged_by_the_same_images(phantoms: Path, tmp_path: Path) -> None:
    course = prepare(phantoms, race_spec(StudySpec(), 32), 1.0, tmp_path / "course")
    for ours, theirs in zip(our_images(course, 32), peers_images(course, 32), strict=True):
        assert sorted(ours.labels[ours.indices]) == sorted(theirs.labels)
        images = ours.pixels[ours.indices].astype(float), theirs.pixels.astype(float)
        means = [sorted(each.mean(axis=(1, 2))) for each in images]
        assert means[0] == pytest.approx(means[1], abs=5.0)


@pytest.mark.slow
def test_our_incumbent_is_judged(phantoms: Path, tmp_path: Path) -> None:
    from pneumosearch.network import backend

    backend.start()
    from pneumosearch.network.model import plain_model

    course = prepare(phantoms, race_spec(StudySpec(), 32), 1.0, tmp_path / "course")
    (tmp_path / "networks").mkdir()
    plain_model(TrialConfig(image_size=32, width=0.25, units_1=16)).save(tmp_path / "networks" / "0.keras")
    incumbent = {"after_s": 5.0, "trial": 0, "epoch": 1, "network": "0.keras", "values": {}}
    (tmp_path / "summary.json").write_text(json.dumps({"incumbents": [incumbent]}))
    judge(course, tmp_path)
    (judged,) = json.loads((tmp_path / "judged.json").read_text())
    assert judged["worst_family"] == min(judged["families"].values())
    assert {"accuracy", "auc", "shift_accuracy", "shift_auc"} <= judged.keys()
    assert (judged["after_s"], judged["trial"]) == (5.0, 0)
