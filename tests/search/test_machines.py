"""Studies that go on on another machine: another results folder, the same database, the same artifacts."""

import os
import signal
import sqlite3
import sys
from pathlib import Path
from typing import Any

import pytest

from pneumosearch.data.protocols import DataSource
from pneumosearch.errors import ArtifactsError, ConfigError
from pneumosearch.search import objective as objective_module
from pneumosearch.search.pruners import make_pruner
from pneumosearch.search.rerun import rerun_trial
from pneumosearch.search.runner import open_search
from pneumosearch.search.session import Session, StopFlag
from pneumosearch.storage.artifact_backends import MARKER
from pneumosearch.storage.artifacts import Artifacts
from pneumosearch.storage.store import Store
from pneumosearch.studyfile import checked_spec, read_study_file
from tests.conftest import ROOT, TINY
from tests.support.fakes import SilentListener
from tests.support.machines import Hosts, shared, taken_up
from tests.support.s3 import SECRET
from tests.support.searching import (
    PROMOTING,
    SPEC,
    a_session,
    outcome,
    search,
    train_resumably,
    train_the_second,
)
from tests.support.terminal import Terminal

STUDY = """
name = "tiny"
pruner = "none"
[fixed]
image_size = 32
width = 0.25
epochs = 4
[space]
zoom = { low = 0.0, high = 0.5 }
"""


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objective_module, "train", train_resumably)


@pytest.mark.usefixtures("fake")
def test_shared_states_are_kept_for_those_that_may_go_on_and_no_others(host: Hosts, source: DataSource) -> None:
    stores = host("a"), host("b")
    for turn, n in enumerate((6, 15)):
        search(stores[turn % 2], source, PROMOTING).until(n)
    study = stores[0].load_study("tiny")
    there = {int(name) for name in shared(stores[0]).names("checkpoints/tiny")}
    assert 0 < len(there) <= 10
    assert there <= make_pruner(PROMOTING).kept(study)  # type: ignore[attr-defined]
    assert any(trial.earlier for trial in stores[0].record("tiny").trials)


@pytest.mark.usefixtures("fake")
def test_no_state_is_left_of_a_study_without_promotion(host: Hosts, source: DataSource) -> None:
    store = host("a")
    search(store, source).until(3)
    assert shared(store).names("checkpoints/tiny") == []
    assert store.states("tiny") == set()


@pytest.mark.usefixtures("fake")
def test_a_place_that_goes_away_parks_the_trial_and_nothing_is_lost(
    host: Hosts, source: DataSource, tmp_path: Path
) -> None:
    store, marker = host("a"), tmp_path / "shared" / MARKER
    search(store, source).until(2)
    marker.rename(tmp_path / "away")
    with pytest.raises(
        ArtifactsError, match=r"^artifacts in .*shared: .*marker.*the same command goes on when it can$"
    ):
        search(store, source).until(4)
    states = [trial.state for trial in store.record("tiny").trials]
    assert states == ["complete", "complete", "running"]
    (tmp_path / "away").rename(marker)
    assert search(host("b"), source).until(4).finished == 4
    twin = Store(f"sqlite:///{tmp_path}/twin.db", tmp_path / "twin")
    search(twin, source).until(4)
    assert outcome(store.record("tiny")) == outcome(twin.record("tiny"))


@pytest.mark.usefixtures("fake")
def test_a_place_that_goes_away_while_cleaning_up_does_not_undo_the_trial(
    host: Hosts, source: DataSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(self: Artifacts, folder: str) -> list[str]:
        raise ArtifactsError("gone")

    with monkeypatch.context() as patch:
        patch.setattr(Artifacts, "names", away)
        assert search(host("a"), source).until(2).finished == 2
    store = host("b")
    search(store, source).until(3)
    assert store.states("tiny") == set()


@pytest.mark.usefixtures("fake")
def test_networks_are_there_on_other_machines_even_where_sending_one_was_cut_off(
    host: Hosts, source: DataSource, tmp_path: Path
) -> None:
    a, b = host("a"), host("b")
    search(a, source).until(1)
    assert b.network("tiny", 0) == b"network"
    for path in (tmp_path / "shared").iterdir():
        if path.is_file() and path.read_bytes() == b"network":
            path.unlink()
    assert b.network("tiny", 0) is None
    network = tmp_path / "trial-0.keras"
    network.write_bytes(b"network")
    b.add_artifact(taken_up(b), network, "application/zip")  # as the process that takes the trial up does
    assert a.network("tiny", 0) == b"network"


def test_the_place_is_stored_with_the_study_and_used_by_those_who_join(
    host: Hosts, source: DataSource, tmp_path: Path
) -> None:
    search(host("a"), source)
    joining = Store(f"sqlite:///{tmp_path}/store.db", tmp_path / "b")
    joining.use_artifacts_of("no-such-study")
    assert joining.artifacts_url is None
    joining.use_artifacts_of("tiny")
    assert joining.artifacts_url == str(tmp_path / "shared")
    host("c", str(tmp_path / "moved")).set_artifacts("tiny")
    late = Store(f"sqlite:///{tmp_path}/store.db", tmp_path / "d")
    late.use_artifacts_of("tiny")
    assert late.artifacts_url == str(tmp_path / "moved")


def test_a_place_that_a_hostile_store_names_is_refused(host: Hosts, source: DataSource, tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path}/store.db", tmp_path / "a")
    search(store, source)
    store.load_study("tiny").set_user_attr("artifacts", "http://evil.example/x")
    with pytest.raises(ConfigError, match="wanted a folder"):
        store.use_artifacts_of("tiny")


class Killed(BaseException):
    """What no training survives."""


class KilledAfter(SilentListener):
    """Ends the process, as far as the store can see, after an epoch of a trial."""

    def __init__(self, number: int, epoch: int) -> None:
        super().__init__()
        self.at = (number, epoch)

    def epoch_ended(self, number: int, history: Any) -> None:
        super().epoch_ended(number, history)
        if (number, len(history)) == self.at:
            raise Killed


@pytest.mark.slow
def test_real_training_killed_on_one_machine_ends_on_another_with_the_same_digits(
    host: Hosts, source: DataSource, tmp_path: Path
) -> None:
    spec = SPEC.model_copy(update={"fixed": {**SPEC.fixed, "epochs": 4}})
    a, b = host("a"), host("b")
    with pytest.raises(Killed):
        open_search(Session(a, source, KilledAfter(0, 2), StopFlag()), spec).until(1)
    second = search(b, source, spec)
    second.until(1)
    listener = second.objective.session.listener
    assert isinstance(listener, SilentListener)
    assert listener.epochs == [(0, 2), (0, 3), (0, 4)]  # told at once of the two it did not train
    twin = Store(f"sqlite:///{tmp_path}/twin.db", tmp_path / "twin")
    search(twin, source, spec).until(1)
    assert outcome(b.record("tiny")) == outcome(twin.record("tiny"))
    assert b.network("tiny", 0)


@pytest.mark.slow
@pytest.mark.usefixtures("second_is_best")
def test_a_trial_promoted_on_another_machine_has_the_digits_of_one_never_stopped(
    host: Hosts, source: DataSource, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objective_module, "train", train_the_second)
    few = {"fixed": {**TINY, "epochs": 3}, "rungs": [1]}
    spec = checked_spec({**PROMOTING.model_dump(mode="json"), **few}, "test")
    with caplog.at_level("INFO", "pneumosearch"):
        for turn in range(10):  # each trial, and each promotion, on a machine of its own
            store = host(f"machine-{turn}")
            if search(store, source, spec).until(4, at_most=1).done:
                break
    record = store.record("tiny")
    went_on = next(trial for trial in record.trials if trial.earlier)
    assert f"took checkpoints/tiny/{went_on.earlier[-1]}/epoch-0001.zip" in caplog.text
    comparison = rerun_trial(a_session(store, source), record, went_on.number)
    assert comparison is not None
    assert comparison.identical


@pytest.mark.slow
def test_a_study_killed_on_one_machine_is_ended_by_a_worker_on_another_over_s3(
    bucket: str, tmp_path: Path, phantoms: Path, source: DataSource
) -> None:
    """As a user types it: three machines, which share a database and a bucket."""
    database, data = f"sqlite:///{tmp_path}/store.db", ("--data", str(phantoms))
    terminals = {}
    for name in "abc":
        (tmp_path / name).mkdir()
        terminals[name] = Terminal(tmp_path / name)
        terminals[name].environment |= {
            "PNEUMOSEARCH_STORAGE": database,
            "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]),
        }
    file = tmp_path / "tiny.toml"
    file.write_text(STUDY)
    arguments = ("study", str(file), "--trials", "1", *data, "--artifacts", bucket)
    with terminals["a"].start(*arguments) as process:
        assert process.stderr is not None
        next(line for line in process.stderr if "epoch 2" in line)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    _, said = terminals["b"].run("worker", "--name", "tiny", *data)
    assert "epoch 1:" not in said  # it went on
    image = next((phantoms / "test" / "NORMAL").iterdir())
    prediction = terminals["c"].json("predict", str(image), "--name", "tiny")
    assert prediction
    undisturbed = Store(f"sqlite:///{tmp_path}/twin.db", tmp_path / "twin")
    search(undisturbed, source, read_study_file(file)).until(1)
    store = Store(database, tmp_path)
    assert outcome(store.record("tiny")) == outcome(undisturbed.record("tiny"))
    with sqlite3.connect(tmp_path / "store.db") as connection:
        everything = "\n".join(connection.iterdump())
    connection.close()
    assert bucket in everything
    assert SECRET not in everything
