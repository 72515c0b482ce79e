"""Several processes at one study: who may train what, and what is reclaimed."""

import itertools
import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import optuna
import psutil
import pytest
from optuna.trial import FrozenTrial, TrialState

from pneumosearch.data.protocols import DataSource
from pneumosearch.errors import ConfigError, StoreError
from pneumosearch.network.backend import resolved_precision
from pneumosearch.search.leases import Leases, LostLease, check_lease, claim, heartbeats, identity, this_process
from pneumosearch.search.runner import open_search
from pneumosearch.search.session import Session, StopFlag
from pneumosearch.storage.locks import study_lock
from pneumosearch.storage.store import Store
from pneumosearch.workers.local import run_locally
from pneumosearch.workers.work import Search, joined_work
from tests.support.fakes import SilentListener, trial_id
from tests.workers.test_local import SPEC, outcome

ELSEWHERE = {"host": "another", "pid": 1, "started": 1.0}


def running(number: int, **attributes: Any) -> FrozenTrial:
    return FrozenTrial(
        number=number,
        state=TrialState.RUNNING,
        value=None,
        values=None,
        datetime_start=None,
        datetime_complete=None,
        params={},
        distributions={},
        user_attrs=attributes,
        system_attrs={},
        intermediate_values={},
        trial_id=number,
    )


def looked_at(looks: list[tuple[float, str]]) -> list[bool]:
    """Whether the lease of a trial has expired at these times, with these heartbeats."""
    times = iter(time for time, _ in looks)
    leases = Leases(grace=60.0, clock=lambda: next(times))
    return [leases.expired(running(3, owner=ELSEWHERE, beat=beat)) for _, beat in looks]


def test_lease_of_another_machine_expires_after_two_looks_without_a_heartbeat() -> None:
    looks = [(0.0, "a"), (50.0, "b"), (100.0, "b"), (120.0, "b"), (140.0, "b"), (160.0, "b")]
    assert looked_at(looks) == [False, False, False, False, False, True]


def test_heartbeat_ends_the_suspicion() -> None:
    assert not any(looked_at([(0.0, "a"), (70.0, "a"), (80.0, "b"), (120.0, "b")]))


def test_lease_of_this_machine_expires_with_its_process() -> None:
    living = identity(psutil.Process(os.getppid()))
    leases = Leases()
    assert not leases.expired(running(0, owner=living))
    other = living.model_copy(update={"started": 1.0})  # the number is another process' now
    assert leases.expired(running(0, owner=other))
    assert leases.expired(running(0))
    assert leases.expired(running(0, owner=None))  # given back


def test_machine_of_the_same_name_is_another_machine() -> None:
    name, _, *namespace = str(this_process().host).split()
    clone = " ".join([name, "another-boot", *namespace])
    living_there = {"host": clone, "pid": 2**22 + 1, "started": 1.0}  # no process of this number is here
    assert not Leases().expired(running(0, owner=living_there))


def test_lease_of_a_process_that_ended_but_is_not_reaped_expires() -> None:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        owner, leases = identity(psutil.Process(process.pid)), Leases()
        assert not leases.expired(running(0, owner=owner))
        process.kill()
        deadline = time.monotonic() + 10
        while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert leases.expired(running(0, owner=owner))
    finally:
        process.kill()
        process.wait()


@pytest.mark.skipif(not psutil.LINUX, reason="elsewhere psutil's times do not move with the clock")
def test_process_is_known_again_after_the_clock_was_set(monkeypatch: pytest.MonkeyPatch) -> None:
    before = this_process()
    boot_time = psutil.boot_time()
    monkeypatch.setattr(psutil, "boot_time", lambda: boot_time + 3600.0)
    monkeypatch.setattr(psutil._pslinux, "boot_time", lambda: boot_time + 3600.0)
    assert this_process() == before


def test_training_notices_that_its_trial_was_reclaimed(store: Store) -> None:
    study = optuna.create_study(storage=store.storage)
    trial = study.ask()
    check_lease(trial)  # of a loop that is not ours
    claim(trial, epochs=0)
    check_lease(trial)
    store.storage.set_trial_user_attr(trial_id(study, store.storage, trial.number), "owner", ELSEWHERE)
    with pytest.raises(LostLease):
        check_lease(trial)


def test_heartbeats_come_until_the_training_ends(store: Store) -> None:
    study = optuna.create_study(storage=store.storage)
    id_ = trial_id(study, store.storage, study.ask().number)

    def stored() -> dict[str, Any]:
        return store.storage.get_trial(id_).user_attrs

    with heartbeats(store.storage, id_, grace=0.04):
        deadline = time.monotonic() + 10
        while "beat" not in stored():
            assert time.monotonic() < deadline
            time.sleep(0.01)
    last = stored()["beat"]
    time.sleep(0.1)
    assert stored()["beat"] == last


def hold_lock(url: str, held: Any) -> None:
    with study_lock(Store(url, Path("results")).storage, "s"):
        held.set()
        time.sleep(60)


def test_lock_is_one_processs_until_it_ends_even_by_a_kill(store: Store) -> None:
    context = multiprocessing.get_context("spawn")
    held = context.Event()
    process = context.Process(target=hold_lock, args=(store.url, held), daemon=True)
    process.start()
    assert held.wait(60)
    with pytest.raises(StoreError, match="another process holds it"), study_lock(store.storage, "s", patience=0.1):
        pass
    process.kill()
    process.join()
    with study_lock(store.storage, "s", patience=10):
        pass


@pytest.mark.slow
def test_two_processes_train_each_trial_once_and_as_one_process_would(
    store: Store, source: DataSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = SPEC.model_copy(update={"sampler": "random"})  # whose proposals do not depend on what has ended
    for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, "1")
    open_search(Session(store, source, SilentListener(), StopFlag()), spec)
    result = run_locally(Session(store, source, SilentListener(), StopFlag()), Search(spec, 6), workers=2)
    assert (result.finished, result.stopped, result.done) == (6, "", True)
    twin = Store(f"sqlite:///{tmp_path}/twin.db", tmp_path / "twin")
    open_search(Session(twin, source, SilentListener(), StopFlag()), spec)
    run_locally(Session(twin, source, SilentListener(), StopFlag()), Search(spec, 6))
    assert outcome(store.record("tiny")) == outcome(twin.record("tiny"))
    pids = {trial.user_attrs["owner"]["pid"] for trial in store.load_study("tiny").get_trials()}
    assert len(pids) == 2
    assert os.getpid() not in pids


def test_worker_joins_with_what_the_store_says(store: Store, source: DataSource) -> None:
    open_search(Session(store, source, SilentListener(), StopFlag()), SPEC)
    with pytest.raises(StoreError, match="does not say how many trials"):
        joined_work(store, "tiny")
    store.set_goal("tiny", 7)
    held = {"trials": 7, "precision": resolved_precision("auto")}  # a study keeps the precision it began with
    assert joined_work(store, "tiny") == Search(SPEC.model_copy(update=held), 7)


def test_several_processes_are_not_for_keras_tuner(store: Store, source: DataSource) -> None:
    spec = SPEC.model_copy(update={"engine": "keras-tuner", "tuner": "random"})
    with pytest.raises(ConfigError, match="one process at a time"):
        run_locally(Session(store, source, SilentListener(), StopFlag()), Search(spec, 3), workers=2)


def test_lost_processes_end_a_trial_that_gets_no_further(store: Store, source: DataSource) -> None:
    run = open_search(Session(store, source, SilentListener(), StopFlag()), SPEC)
    numbers = [run.next_trial().number for _ in itertools.repeat(None, 11)]
    assert numbers == [0] * 10 + [1]
    assert "taken up 10 times after epoch 0" in str(store.record("tiny").trials[0].failure)
