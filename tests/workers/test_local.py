"""Training processes that are replaced, killed or orphaned: the store must not show it."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from pneumosearch._utils.processes import prestarted
from pneumosearch.data.protocols import DataSource
from pneumosearch.errors import PneumosearchError
from pneumosearch.records.epoch import History
from pneumosearch.records.trial import StudyRecord
from pneumosearch.search.runner import open_search
from pneumosearch.search.session import Session, StopFlag
from pneumosearch.space import Choice
from pneumosearch.storage.store import Store
from pneumosearch.studyfile import checked_spec
from pneumosearch.training.loop import prepare
from pneumosearch.workers.crew import Crew
from pneumosearch.workers.crew import prestarted as prestarted_crew
from pneumosearch.workers.local import run_locally
from pneumosearch.workers.ray_cluster import Cluster
from pneumosearch.workers.work import Limits, Search
from tests.conftest import TINY
from tests.support.fakes import SilentListener

SPEC = checked_spec(
    {
        "name": "tiny",
        "pruner": "none",
        "fixed": {**TINY, "epochs": 2},
        "space": {"zoom": {"low": 0.0, "high": 0.5}, "filters_1": {"choices": [8, 16]}},
    },
    "test",
)


def outcome(record: StudyRecord) -> list[Any]:
    return [(t.number, t.state, t.value, t.run, [e.numbers() for e in t.history]) for t in record.trials]


def training_processes() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "spawn_main" in " ".join(child.cmdline())]


def kill_training_process() -> None:
    for child in training_processes():
        child.kill()


class KillsOnceAfterAnEpoch(SilentListener):
    """The training process gets a SIGKILL in the middle of its second trial."""

    killed = False

    def epoch_ended(self, number: int, history: History) -> None:
        super().epoch_ended(number, history)
        if number == 1 and not self.killed:
            self.killed = True
            kill_training_process()


class KillsWheneverATrialStarts(SilentListener):
    """As if each trial were too large for the machine."""

    def trial_started(self, number: int, run: Any) -> None:
        kill_training_process()


@pytest.mark.slow
def test_new_and_killed_processes_leave_the_store_of_one_undisturbed_process(
    store: Store, source: DataSource, tmp_path: Path
) -> None:
    listener = KillsOnceAfterAnEpoch()
    open_search(Session(store, source, listener, StopFlag()), SPEC)
    result = run_locally(Session(store, source, listener, StopFlag()), Search(SPEC, 3), Limits(trials_a_process=2))
    assert (result.finished, result.stopped) == (3, "")
    assert listener.killed
    twin = Store(f"sqlite:///{tmp_path}/twin.db", tmp_path / "twin")
    open_search(Session(twin, source, SilentListener(), StopFlag()), SPEC).until(3)
    assert outcome(store.record("tiny")) == outcome(twin.record("tiny"))
    assert listener.ended == [0, 1, 2]


@pytest.mark.slow
def test_trial_that_kills_its_process_twice_fails_and_the_same_failure_ends_the_study(
    store: Store, source: DataSource
) -> None:
    session = Session(store, source, KillsWheneverATrialStarts(), StopFlag())
    with pytest.raises(PneumosearchError, match="2 trials in a row failed with: its process died twice after epoch 0"):
        run_locally(session, Search(SPEC, 5), Limits(max_failures=2))
    record = store.record("tiny")
    assert [trial.state for trial in record.trials] == ["failed", "failed"]
    assert "killed by SIGKILL, perhaps out of memory" in str(record.trials[0].failure)
    assert not store.checkpoint_folder("tiny", 0).exists()


@pytest.mark.slow
def test_stopped_search_ends_after_the_epoch_and_can_go_on(store: Store, source: DataSource) -> None:
    stop = StopFlag()

    class StopsAfterAnEpoch(SilentListener):
        def epoch_ended(self, number: int, history: History) -> None:
            stop.reason = "interrupted"

    result = run_locally(Session(store, source, StopsAfterAnEpoch(), stop), Search(SPEC, 2))
    assert result.stopped == "interrupted"
    assert store.record("tiny").count("complete") <= 1
    again = run_locally(Session(store, source, SilentListener(), StopFlag()), Search(SPEC, 1))
    assert (again.finished, again.stopped) == (1, "")


@pytest.mark.slow
def test_process_started_early_trains_as_one_started_later(store: Store, source: DataSource, tmp_path: Path) -> None:
    session = Session(store, source, SilentListener(), StopFlag())
    with prestarted(1, prepare) as helpers:
        (early,) = helpers
        open_search(session, SPEC)
        assert run_locally(session, Search(SPEC, 2), Limits(trials_a_process=1), helpers=helpers).done
        assert not helpers
    assert early.exit_code == 0
    twin = Store(f"sqlite:///{tmp_path}/twin.db", tmp_path / "twin")
    run_locally(Session(twin, source, SilentListener(), StopFlag()), Search(SPEC, 2))
    assert outcome(store.record("tiny")) == outcome(twin.record("tiny"))


class CountsProcesses(SilentListener):
    """Notes after the first epoch of each trial which training processes there are; may kill the youngest then."""

    def __init__(self, *, kills: bool = False) -> None:
        super().__init__()
        self.processes: list[int] = []
        self._kills = kills

    def epoch_ended(self, number: int, history: History) -> None:
        if len(history) > 1:
            return
        there = training_processes()
        self.processes.append(len(there))
        if self._kills and len(there) > 1:
            max(there, key=psutil.Process.create_time).kill()


@pytest.mark.slow
def test_next_process_starts_before_the_last_trial_of_the_present_one_ends(store: Store, source: DataSource) -> None:
    listener = CountsProcesses()
    session = Session(store, source, listener, StopFlag())
    open_search(session, SPEC)
    assert run_locally(session, Search(SPEC, 3), Limits(trials_a_process=1)).done
    assert listener.processes == [2, 2, 1]
    assert not training_processes()


@pytest.mark.slow
def test_process_in_reserve_that_is_killed_or_not_needed_harms_nothing(store: Store, source: DataSource) -> None:
    stop, listener = StopFlag(), CountsProcesses(kills=True)
    open_search(Session(store, source, listener, stop), SPEC)
    assert run_locally(Session(store, source, listener, stop), Search(SPEC, 2), Limits(trials_a_process=1)).done
    assert listener.processes == [2, 1]

    class StopsAtOnce(SilentListener):
        def epoch_ended(self, number: int, history: History) -> None:
            stop.reason = "interrupted"

    outcome = run_locally(Session(store, source, StopsAtOnce(), stop), Search(SPEC, 9), Limits(trials_a_process=1))
    assert outcome.stopped
    assert not training_processes()


def test_unused_prestarted_processes_end_at_once() -> None:
    with prestarted(2, prepare) as helpers:
        assert len(helpers) == 2
    assert all(helper.exit_code == -signal.SIGKILL for helper in helpers)


@pytest.mark.skipif(sys.platform == "win32", reason="kills as POSIX does")
def test_process_that_still_prepares_goes_when_its_parent_is_killed() -> None:
    code = (
        "import time; from functools import partial; from pneumosearch._utils.processes import Helper\n"
        "if __name__ == '__main__':\n"
        "    print(Helper({}, partial(time.sleep, 600))._process.pid, flush=True); time.sleep(600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.communicate()
    assert psutil.wait_procs([child], timeout=60)[1] == []


def test_cluster_begins_no_process_here() -> None:
    with prestarted_crew(Crew(2, 60.0, 3, Cluster(None, 1.0, 0.0, 20))) as helpers:
        assert helpers == []


@pytest.mark.slow
def test_process_that_died_before_its_task_is_begun_anew(store: Store, source: DataSource) -> None:
    session = Session(store, source, SilentListener(), StopFlag())
    open_search(session, SPEC)
    with prestarted(1, prepare) as helpers:
        kill_training_process()
        assert run_locally(session, Search(SPEC, 1), helpers=helpers).done


def test_mistake_in_the_process_is_raised_here(store: Store, source: DataSource) -> None:
    open_search(Session(store, source, SilentListener(), StopFlag()), SPEC)
    changes: dict[str, dict[str, Any]] = {
        "another seed (232, now 1);": {"seed": 1},
        "another space.batch_size (absent, now {": {"space": {**SPEC.space, "batch_size": Choice(choices=(16, 32))}},
        "another fixed.image_size (32, now 64);": {"fixed": {**SPEC.fixed, "image_size": 64}},
    }
    for message, changed in changes.items():
        with pytest.raises(PneumosearchError, match=re.escape(f"was started with {message}")):
            run_locally(
                Session(store, source, SilentListener(), StopFlag()), Search(SPEC.model_copy(update=changed), 2)
            )


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="kills as POSIX does")
def test_training_process_goes_when_its_parent_is_killed(tmp_path: Path, phantoms: Path) -> None:
    command = [sys.executable, "-m", "pneumosearch", "study", "--trials", "2", "--data", str(phantoms)]
    parent = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    assert parent.stderr is not None
    for line in parent.stderr:
        if "epoch 1" in line:
            break
    children = psutil.Process(parent.pid).children(recursive=True)
    assert children
    os.kill(parent.pid, signal.SIGKILL)
    parent.communicate()
    deadline = time.monotonic() + 30
    while any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children):
        assert time.monotonic() < deadline, "a training process outlived its parent"
        time.sleep(0.1)
