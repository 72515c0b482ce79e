"""What users of Optuna, its dashboard, KerasTuner, Keras and Ray reported, tried here; README.md lists the reports."""

import json
import re
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import optuna
import psutil
import pytest
from optuna.trial import TrialState

from pneumosearch.config import RunSpec, TrialConfig
from pneumosearch.dashboard.server import pages, write_note
from pneumosearch.data.protocols import DataSource
from pneumosearch.errors import StoreError
from pneumosearch.records.attributes import FAILURE, OWNER, RUN
from pneumosearch.search import objective as objective_module
from pneumosearch.search.leases import identity
from pneumosearch.search.pruners import origins
from pneumosearch.search.runner import open_search
from pneumosearch.search.samplers import make_sampler
from pneumosearch.search.session import Session, StopFlag
from pneumosearch.space import Range, Space
from pneumosearch.storage.optuna_private import study_id, trial_id
from pneumosearch.storage.store import Store
from pneumosearch.storage.urls import sqlite_url
from pneumosearch.studyfile import StudySpec, checked_spec
from pneumosearch.training.loop import TrainingResult
from tests.conftest import ROOT
from tests.dashboard.test_protection import ask
from tests.search.keras_tuner.test_engine import a_spec
from tests.storage.test_postgres import assert_all_there, fake_study
from tests.support.fakes import SPEC as STORED_SPEC
from tests.support.fakes import SilentListener, a_description, a_history
from tests.support.mariadb import MariadbServer, NoMariadb, mariadb_server
from tests.support.searching import PROMOTING, SPEC, FakeResult, outcome, search
from tests.support.terminal import Terminal

MYSQL_TEXT = 65_535  # bytes that MySQL keeps in one attribute
_TABLE = Path(__file__).parent / "README.md"
_NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
_REPORT = re.compile(r"https://github\.com/[\w-]+/[\w-]+/issues/\d+")


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Replace trainings by ones that save each epoch and go on from there; list (seed, epochs there before)."""
    begun: list[tuple[int, int]] = []

    def train(run: RunSpec, dataset: Any, folder: Path, on_epoch: Any, *_: Any) -> TrainingResult:
        folder.mkdir(parents=True, exist_ok=True)
        state = folder / "epochs"
        before = int(state.read_text()) if state.exists() else 0
        begun.append((run.seed, before))
        history = a_history(*[0.9 - run.config.zoom + 0.01 * epoch for epoch in range(run.config.epochs)])
        for epoch in range(before or 1, len(history) + 1):
            state.write_text(str(epoch))
            on_epoch(history[:epoch])
        return FakeResult(run.config, history, None, 123)

    monkeypatch.setattr(objective_module, "train", train)
    monkeypatch.setattr(objective_module, "learning_curves", lambda history, path, title: path.touch())
    return begun


class StopsAt(SilentListener):
    """Stops a search after an epoch of a trial."""

    def __init__(self, stop: StopFlag, number: int, epoch: int) -> None:
        super().__init__()
        self.stop, self.at = stop, (number, epoch)

    def epoch_ended(self, number: int, history: Any) -> None:
        super().epoch_ended(number, history)
        if (number, len(history)) == self.at:
            self.stop.reason = "interrupted"


def stopped_search(store: Store, source: DataSource, spec: StudySpec, number: int, epoch: int) -> None:
    stop = StopFlag()
    result = open_search(Session(store, source, StopsAt(stop, number, epoch), stop), spec).until(9)
    assert result.stopped == "interrupted"


def a_twin(tmp_path: Path, source: DataSource, spec: StudySpec, n_trials: int) -> list[Any]:
    """What an undisturbed search stores."""
    twin = Store(sqlite_url(tmp_path / "twin.db"), tmp_path / "twin")
    search(twin, source, spec).until(n_trials)
    return outcome(twin.record("tiny"))


@pytest.mark.parametrize("spec", [SPEC, PROMOTING], ids=["stopped", "promoted"])
def test_trial_without_its_checkpoint_begins_again(
    store: Store, source: DataSource, tmp_path: Path, trained: list[tuple[int, int]], spec: StudySpec
) -> None:
    spec = spec.model_copy(update={"fixed": {**spec.fixed, "epochs": 4}})
    if spec.pruner == "promote":  # the checkpoints of all stopped trials are gone
        search(store, source, spec).until(6, at_most=6)
    else:
        stopped_search(store, source, spec, 1, 2)
    shutil.rmtree(store.results / "checkpoints")
    search(store, source, spec).until(6)
    trials = store.load_study("tiny").get_trials(deepcopy=False)
    assert all(trial.state in (TrialState.COMPLETE, TrialState.PRUNED) for trial in trials)
    assert len(set(origins(trials).values())) == 6
    assert outcome(store.record("tiny")) == a_twin(tmp_path, source, spec, 6)


def test_results_that_were_moved_go_on_from_their_checkpoints(
    source: DataSource, tmp_path: Path, trained: list[tuple[int, int]]
) -> None:
    before = tmp_path / "before"
    before.mkdir()
    stopped_search(Store(sqlite_url(before / "store.db"), before / "results"), source, SPEC, 1, 1)
    shutil.move(before, tmp_path / "after")
    moved = Store(sqlite_url(tmp_path / "after" / "store.db"), tmp_path / "after" / "results")
    search(moved, source).until(3)
    assert trained[-2] == (233, 1)
    assert moved.network("tiny", 0) == b"network"
    assert outcome(moved.record("tiny")) == a_twin(tmp_path, source, SPEC, 3)


GRID = {"zoom": {"low": 0.1, "high": 0.3, "step": 0.1}, "batch_size": {"choices": [16, 32]}}


@pytest.mark.usefixtures("trained")
def test_grid_search_that_stops_within_a_trial_goes_on_to_its_end(
    store: Store, source: DataSource, tmp_path: Path
) -> None:
    spec = a_spec("grid", GRID, epochs=2)
    stopped_search(store, source, spec, 3, 1)
    assert search(store, source, spec).until(50).finished == 6
    assert outcome(store.record("tiny")) == a_twin(tmp_path, source, spec, 50)


@pytest.mark.usefixtures("trained")
@pytest.mark.parametrize("tuner", ["random", "bayesian", "hyperband"])
def test_tuner_ends_where_its_space_does(store: Store, source: DataSource, tuner: str) -> None:
    spec = a_spec(tuner, {"batch_size": {"choices": [16, 32]}, "vertical_flip": {"choices": [True, False]}}, epochs=3)
    result = search(store, source, spec).until(60)
    assert result.done
    assert result.finished <= 60


class Reclaimed(SilentListener):
    """Another process takes the trial over while this one ends its first epoch; `ends` it too, or stops this one."""

    def __init__(self, store: Store, stop: StopFlag, then: str) -> None:
        super().__init__()
        self.store, self.stop, self.then = store, stop, then

    def epoch_ended(self, number: int, history: Any) -> None:
        super().epoch_ended(number, history)
        study = self.store.load_study("tiny")
        trial = study.get_trials(deepcopy=False)[number]
        OWNER.set_by_id(self.store.storage, trial_id(trial), identity(psutil.Process().parent() or psutil.Process()))
        if self.then == "ended":
            study.tell(number, 0.5)
        if self.then == "interrupt":
            self.stop.reason = "interrupted"


@pytest.mark.usefixtures("trained")
@pytest.mark.parametrize("then", ["epoch", "ended", "interrupt", "error"])
def test_process_that_lost_its_trial_leaves_it_to_the_other(
    store: Store, source: DataSource, monkeypatch: pytest.MonkeyPatch, then: str
) -> None:
    stop = StopFlag()

    def fails(run: RunSpec, dataset: Any, folder: Path, on_epoch: Any, *_: Any) -> TrainingResult:
        on_epoch(a_history(0.5))
        raise MemoryError("no room")

    if then == "error":
        monkeypatch.setattr(objective_module, "train", fails)
    run = open_search(Session(store, source, Reclaimed(store, stop, then), stop), SPEC)
    run.until(1, at_most=1)
    trial = store.load_study("tiny").get_trials(deepcopy=False)[0]
    assert trial.state == (TrialState.COMPLETE if then == "ended" else TrialState.RUNNING)
    assert not FAILURE.on(trial)
    owner = OWNER.of(trial)
    assert owner is not None
    assert owner.pid == (psutil.Process().ppid())


def test_trial_that_ended_before_its_process_was_lost_stays_as_it_is(store: Store) -> None:
    fake_study(store, 1)
    assert store.fail_trial("fake", 0, "its process died twice").state == "complete"


@pytest.mark.parametrize("choices", [[32, 64], [16, 32, 64]])
def test_changed_choices_are_refused_in_one_line(store: Store, source: DataSource, choices: list[int]) -> None:
    search(store, source)
    values = SPEC.model_dump(mode="json")
    values["space"] = {**values["space"], "batch_size": {"choices": choices}}
    with pytest.raises(StoreError, match=r"study 'tiny' was started with another space.*choose another --name") as told:
        search(store, source, checked_spec(values, "test"))
    assert "\n" not in str(told.value)


def test_many_processes_make_a_new_file_at_once(tmp_path: Path) -> None:
    url, together = sqlite_url(tmp_path / "store.db"), threading.Barrier(12)

    def begin(number: int) -> str:
        together.wait()
        store = Store(url, tmp_path / "results")
        return store.open_study("fake", "search", "accuracy", STORED_SPEC, a_description()).study_name

    with ThreadPoolExecutor(12) as pool:
        assert list(pool.map(begin, range(12))) == ["fake"] * 12
    assert Store(url, tmp_path / "results").names() == ["fake"]


def test_dashboard_that_reads_does_not_disturb_a_study(store: Store) -> None:
    study, ended = fake_study(store, 1), threading.Event()
    seen: list[int] = []

    def look() -> None:
        looking = Store(store.url, store.results, must_exist=True)
        app = pages(looking)
        while not ended.is_set():
            status, answer = ask(looking, "GET", f"/api/studies/{study_id(study)}", app=app)
            seen.append(len(answer["trials"]) if status == 200 else -1)
            write_note(looking, "fake")

    with ThreadPoolExecutor(2) as pool:
        looks = [pool.submit(look) for _ in range(2)]
        try:
            assert_all_there(fake_study(store, 20), 20)
        finally:
            ended.set()
        for each in looks:
            each.result()
    assert seen
    assert -1 not in seen


def unfinished(store: Store, *states: str) -> optuna.Study:
    """A study of ours whose trials have these states; none is complete."""
    study = store.open_study("fake", "search", "accuracy", STORED_SPEC, a_description())
    for number, state in enumerate(states):
        if state == "waiting":
            study.enqueue_trial({"zoom": 0.3})
            continue
        trial = study.ask()
        RUN.set(trial, RunSpec(config=TrialConfig(zoom=trial.suggest_categorical("zoom", [0.3])), seed=number))
        if state == "failed":
            FAILURE.set(trial, "epoch 1: training loss is nan")
            study.tell(trial, state=TrialState.FAIL)
        if state == "pruned":
            trial.report(0.5, 1)
            study.tell(trial, state=TrialState.PRUNED)
    return study


UNFINISHED = [(), ("running",), ("failed",), ("pruned",), ("failed", "pruned", "running", "waiting")]


@pytest.mark.parametrize("states", UNFINISHED, ids="-".join)
def test_dashboard_shows_a_study_without_a_complete_trial(store: Store, states: tuple[str, ...]) -> None:
    study = unfinished(store, *states)
    status, answer = ask(store, "GET", f"/api/studies/{study_id(study)}")
    assert status == 200
    assert len(answer["trials"]) == len(states)


@pytest.mark.parametrize("states", UNFINISHED, ids="-".join)
def test_report_shows_a_study_without_a_complete_trial(tmp_path: Path, states: tuple[str, ...]) -> None:
    store = Store(sqlite_url(tmp_path / "store.db"), tmp_path / "results")
    unfinished(store, *states)
    terminal, where = Terminal(tmp_path), ("--name", "fake", "--storage", store.url)
    for form in ("table", "csv", "markdown"):
        said, _ = terminal.call("report", *where, "--format", form)
        assert said
    assert json.loads(terminal.call("report", *where, "--json")[0])["counts"]["complete"] == 0
    terminal.call("report", *where, "--html", "report.html")
    assert "fake" in (tmp_path / "report.html").read_text()
    for command in (("confirm", "--name", "fake", "--data", "."), ("export", "fake", "0", "out")):
        _, told = terminal.call(*command, "--storage", store.url, code=1)
        assert told.count("\n") == 1


def test_new_study_shows_no_trials_of_a_deleted_one_of_its_name(store: Store) -> None:
    app = pages(store)
    first = fake_study(store, 3)
    assert len(ask(store, "GET", f"/api/studies/{study_id(first)}", app=app)[1]["trials"]) == 3
    assert ask(store, "DELETE", f"/api/studies/{study_id(first)}", app=app)[0] == 204
    second = fake_study(Store(store.url, store.results), 1)
    assert len(ask(store, "GET", f"/api/studies/{study_id(second)}", app=app)[1]["trials"]) == 1


@pytest.fixture(scope="module")
def mariadb() -> Iterator[MariadbServer]:
    with ExitStack() as stack:
        try:
            yield stack.enter_context(mariadb_server())
        except NoMariadb as error:
            pytest.skip(str(error))


def cma_es_states(study: optuna.Study, n_trials: int) -> list[str]:
    """The stored parts of a search in 26 dimensions, which is told of each trial."""
    space = Space({"zoom": Range(low=0.0, high=0.5)})
    for number in range(n_trials):
        study.sampler = make_sampler("cmaes", space, study_seed=1, trial_seed=number)
        trial = study.ask()
        study.tell(trial, sum(trial.suggest_float(f"x{i}", 0.0, 1.0) for i in range(26)))
    system = [trial.system_attrs for trial in study.get_trials(deepcopy=False)]
    return [value for attrs in system for key, value in attrs.items() if ":json:" in key]


def test_state_of_cma_es_in_26_dimensions_is_stored_in_small_parts() -> None:
    parts = cma_es_states(optuna.create_study(), 32)
    assert parts
    assert max(map(len, parts)) < 2048


def test_mariadb_keeps_the_state_of_cma_es_in_26_dimensions(mariadb: MariadbServer, tmp_path: Path) -> None:
    store = Store(mariadb.new_database("cmaes"), tmp_path)
    assert cma_es_states(optuna.create_study(storage=store.storage, study_name="a"), 32)


LONG = "\N{LUNGS}" * 60  # bytes of a name on disk: 240, of 255


def test_attributes_stay_below_what_mysql_keeps(store: Store) -> None:
    trial = store.open_study("a", "search", "accuracy", STORED_SPEC, a_description()).ask()
    FAILURE.set(trial, "ValueError: " + LONG * 1000)
    assert max(len(json.dumps(value)) for value in trial.user_attrs.values()) < MYSQL_TEXT / 2
    for names in ([f"{i}.jpeg" for i in range(4000)], [f"a/{LONG}/{LONG}{i}.jpeg" for i in range(4000)]):
        description = a_description().with_skipped(names)
        assert len(json.dumps(description.model_dump(mode="json"))) < MYSQL_TEXT / 2
        assert list(description.skipped) == names[: len(description.skipped)]
        assert (bool(description.skipped), description.n_skipped) == (True, 4000)


def test_few_unreadable_images_are_all_named() -> None:
    description = a_description().with_skipped(["a.jpeg", "b.jpeg"])
    assert (description.skipped, description.n_skipped) == (("a.jpeg", "b.jpeg"), None)


def test_reports_are_listed_each_with_a_test_that_exists() -> None:
    rows = [line for line in _TABLE.read_text(encoding="utf-8").splitlines() if line.startswith("| [")]
    assert len(set(_REPORT.findall("\n".join(rows)))) >= 20
    for row in rows:
        assert _REPORT.search(row), row
        named = _NAMED.findall(row)
        assert named, row
        for path, function in named:
            assert f"\ndef {function}(" in (ROOT / path).read_text(encoding="utf-8"), f"{path}::{function}"
