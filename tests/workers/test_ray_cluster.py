"""Training processes on a Ray cluster: several nodes on this machine, and a stand-in for Ray where it is missing."""

import importlib.util
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

from pneumosearch._utils.hardware import THREADS
from pneumosearch.cli.executors import cluster_of
from pneumosearch.data.protocols import DataSource
from pneumosearch.errors import ConfigError, DataError, PneumosearchError, StoreError
from pneumosearch.records.epoch import History
from pneumosearch.search.runner import Outcome, open_search
from pneumosearch.search.session import Session, StopFlag
from pneumosearch.storage.store import Store
from pneumosearch.storage.urls import absolute_url
from pneumosearch.workers.ray_cluster import Cluster, WorkerPlaced, check_storage, connected, run_on_cluster
from pneumosearch.workers.work import Limits, Search
from tests.conftest import TINY
from tests.support.fakes import SilentListener
from tests.workers.test_local import SPEC, outcome

with_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")
RANDOM = SPEC.model_copy(update={"sampler": "random"})  # whose proposals do not depend on what has ended


def a_session(store: Store, source: DataSource, listener: SilentListener | None = None) -> Session:
    return Session(store, source, listener or SilentListener(), StopFlag())


# Without Ray.


class Lost(Exception):
    """As Ray tells of a worker that it will not start again."""


class Mistake(Lost):
    """As Ray tells of an exception in a task."""


class Cancelled(Lost):
    """As Ray tells of a task that was cancelled."""


class FakeRay(ModuleType):
    """Ray, whose tasks report what their scripts say; one without an outcome or an error waits for room."""

    def __init__(self, scripts: list[list[Any]], living: tuple[str, ...] = ("n1",)) -> None:
        super().__init__("ray")
        self.scripts, self.living, self.options = scripts, living, dict[str, Any]()
        self.exceptions = SimpleNamespace(RayError=Lost, RayTaskError=Mistake, TaskCancelledError=Cancelled)
        self.util = ModuleType("ray.util")
        self.util.get_node_ip_address = lambda: "10.0.0.1"  # type: ignore[attr-defined]
        self.strategies = ModuleType("ray.util.scheduling_strategies")
        self.strategies.NodeAffinitySchedulingStrategy = Mock()  # type: ignore[attr-defined]
        self.get_runtime_context = Mock()
        self.kill = Mock()

    def nodes(self) -> list[dict[str, Any]]:
        return [{"NodeID": name, "Alive": True, "Resources": {"CPU": 1.0}} for name in self.living]

    def remote(self, target: Any) -> Any:
        return SimpleNamespace(options=partial(self._actor if isinstance(target, type) else self._tasks, target))

    def _actor(self, kind: type, **options: Any) -> Any:
        self.board = kind()
        methods = {name: SimpleNamespace(remote=getattr(self.board, name)) for name in ("report", "collect")}
        return SimpleNamespace(remote=lambda: SimpleNamespace(**methods))

    def _tasks(self, task: object, **options: Any) -> Any:
        self.options = options
        return SimpleNamespace(remote=self._begin)

    def _begin(self, worker: int, *arguments: Any) -> "FakeTask":
        return FakeTask(worker, self.scripts.pop(0) if self.scripts else [])

    def wait(self, tasks: list["FakeTask"], num_returns: int, timeout: float) -> tuple[list[Any], list[Any]]:
        for task in tasks:
            ends = [line for line in task.script if isinstance(line, Outcome | Exception)]
            self.board.report(task.worker, *(line for line in task.script if line not in ends))
            task.script = ends
        return [task for task in tasks if task.script], [task for task in tasks if not task.script]

    def get(self, what: Any) -> Any:
        [result] = what.script if isinstance(what, FakeTask) else [what]
        if isinstance(result, Lost):
            raise result
        return result

    def cancel(self, task: "FakeTask", force: bool = False) -> None:
        task.script = [Cancelled()]


class FakeTask:
    def __init__(self, worker: int, script: list[Any]) -> None:
        self.worker, self.script = worker, script


Install = Callable[[FakeRay], FakeRay]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Install:
    def put(ray: FakeRay) -> FakeRay:
        monkeypatch.setitem(sys.modules, "ray", ray)
        monkeypatch.setitem(sys.modules, "ray.util", ray.util)
        monkeypatch.setitem(sys.modules, "ray.util.scheduling_strategies", ray.strategies)
        return ray

    return put


def run_fake(store: Store, source: DataSource, workers: int, **cluster: Any) -> tuple[Any, list[str]]:
    said: list[str] = []
    open_search(a_session(store, source), SPEC)
    return run_on_cluster(
        a_session(store, source), Search(SPEC, 3), cluster=Cluster(**cluster), say=said.append, workers=workers
    ), said


BEGUN = WorkerPlaced("n1")
DONE = Outcome(3, "", True)


def test_without_ray_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"pip install 'pneumosearch\[ray\]'"), connected(Cluster(), "sqlite:///a.db"):
        pass


def test_cluster_that_does_not_answer_is_told_at_once(install: Install) -> None:
    ray = install(FakeRay([]))
    ray.is_initialized = lambda: False  # type: ignore[attr-defined]
    with (
        pytest.raises(ConfigError, match="--ray-address 127.0.0.1:1: cannot be used .*refused"),
        connected(Cluster("127.0.0.1:1"), "sqlite:///a.db"),
    ):
        pass


def test_cluster_that_does_not_start_here_is_told(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**options: Any) -> None:
        raise Exception("The current node timed out during startup.\nThis could happen because")

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    ray = install(FakeRay([]))
    ray.is_initialized = lambda: False  # type: ignore[attr-defined]
    ray.init = init  # type: ignore[attr-defined]
    message = r"--ray-address of this machine: cannot be used .The current node timed out during startup\.\)$"
    with pytest.raises(ConfigError, match=message), connected(Cluster(), "sqlite:///a.db"):
        pass


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"address": "ray://10.0.0.1:10001"}, "--ray-address ray://10.0.0.1:10001: wanted HOST:PORT"),
        ({"gpus": 1.5}, "--worker-gpus 1.5: wanted a whole number, or a fraction"),
        ({"gpus": -1.0}, "--worker-gpus -1: wanted"),
        ({"cpus": 0.0}, "--worker-cpus 0: wanted"),
        ({"cpus": 2.5}, "--worker-cpus 2.5: wanted"),
    ],
)
def test_options_that_ray_cannot_take_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Cluster(**options)


def test_options_of_the_cluster_need_it() -> None:
    assert cluster_of("local", None, None, None, None) is None
    assert cluster_of("ray", "h:1", None, 0.25, 0) == Cluster("h:1", 1.0, 0.25, 0)
    assert cluster_of("ray", None, 4.0, None, None) == Cluster(cpus=4.0)
    with pytest.raises(ConfigError, match="--worker-gpus: is for --executor ray"):
        cluster_of("local", None, None, 0.25, None)


def test_sqlite_is_for_a_cluster_of_one_machine() -> None:
    check_storage("sqlite:///a.db", "10.0.0.1", ["10.0.0.1", "10.0.0.1"])
    check_storage("postgresql://db/studies", "10.0.0.1", ["10.0.0.1", "10.0.0.2"])
    with pytest.raises(StoreError, match=r"another .10.0.0.2.; give --storage postgresql:.*grpc:"):
        check_storage("sqlite:///a.db", "10.0.0.1", ["10.0.0.1", "10.0.0.2"])


def test_storage_has_the_same_name_in_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute_url("sqlite:///r/a.db") == f"sqlite:///{tmp_path}/r/a.db"
    assert absolute_url("postgresql://me:secret@db/studies") == "postgresql://me:secret@db/studies"


def test_worker_has_its_share_and_what_the_driver_was_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*THREADS, "TF_FORCE_GPU_ALLOW_GROWTH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    monkeypatch.setenv("KERAS_HOME", "/only/here")
    plain = Cluster(cpus=4).environment()
    assert (plain["TF_NUM_INTRAOP_THREADS"], plain["CUDA_VISIBLE_DEVICES"], plain["KERAS_BACKEND"]) == ("4", "", "jax")
    assert "KERAS_HOME" not in plain
    shared = Cluster(cpus=0.5, gpus=0.25).environment()
    assert (shared["OMP_NUM_THREADS"], shared["TF_FORCE_GPU_ALLOW_GROWTH"]) == ("1", "true")
    assert "CUDA_VISIBLE_DEVICES" not in shared  # as Ray sets it
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert Cluster().environment()["OMP_NUM_THREADS"] == "7"


def test_room_is_counted_node_by_node() -> None:
    nodes = [
        {"Alive": True, "Resources": {"CPU": 8.0, "GPU": 1.0}},
        {"Alive": True, "Resources": {"CPU": 3.0}},
        {"Alive": False, "Resources": {"CPU": 64.0}},
    ]
    assert Cluster(cpus=2).room(nodes) == 5
    assert Cluster(cpus=2, gpus=0.3).room(nodes) == 3
    assert Cluster(gpus=2).room(nodes) == 0


def test_workers_without_room_do_not_keep_an_ended_study_waiting(
    store: Store, source: DataSource, install: Install
) -> None:
    install(FakeRay([[BEGUN, DONE]]))
    result, said = run_fake(store, source, 2)
    assert (result.finished, result.done) == (3, True)
    assert said == ["1 CPU a worker: the cluster has room for 1 of 2 now; the others wait for it"]


def test_interrupted_while_all_wait_for_room(store: Store, source: DataSource, install: Install) -> None:
    install(FakeRay([], living=()))
    session = a_session(store, source)
    open_search(session, SPEC)
    session.stop.reason = "interrupted"
    result = run_on_cluster(session, Search(SPEC, 3), cluster=Cluster(), say=lambda text: None, workers=2)
    assert (result.finished, result.stopped, result.done) == (0, "interrupted", False)


def test_lost_workers_are_told_and_made_up_for_so_often(store: Store, source: DataSource, install: Install) -> None:
    ray = install(FakeRay([[BEGUN, BEGUN, DONE]]))
    result, said = run_fake(store, source, 1, max_restarts=2)
    assert result.done
    assert said == ["worker 0 was lost; it is started again"]
    assert ray.options["max_retries"] == 2
    install(FakeRay([[BEGUN, BEGUN, Lost("Task failed.\nThe node has died")]]))
    message = r"worker 0 was lost .The node has died., and --max-restarts is 1; the same command goes on"
    with pytest.raises(PneumosearchError, match=message):
        run_fake(store, source, 1, max_restarts=1)


def test_lost_worker_without_room_does_not_keep_an_ended_study_waiting(
    store: Store, source: DataSource, install: Install
) -> None:
    install(FakeRay([[BEGUN, DONE], [WorkerPlaced("n2")]]))  # n2 is gone
    assert run_fake(store, source, 2)[0].done


def test_worker_that_cannot_start_is_told_with_its_reason(store: Store, source: DataSource, install: Install) -> None:
    install(FakeRay([[Mistake("The task failed.\nModuleNotFoundError: No module named 'pneumosearch'")]]))
    with pytest.raises(PneumosearchError, match="worker 0 does not start: ModuleNotFoundError: No module named 'pneu"):
        run_fake(store, source, 1)


# With Ray.

SMALL = {"num_cpus": 1, "object_store_memory": 80_000_000, "include_dashboard": False}


@pytest.fixture(scope="module")
def head() -> Iterator[Any]:
    """A Ray cluster of one node on this machine, with room for one worker."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster as Nodes

    nodes: Any = Nodes(initialize_head=True, head_node_args=SMALL)
    yield nodes
    nodes.shutdown()


@pytest.fixture
def second(head: Any) -> Iterator[Any]:
    """A second node of it, for another worker."""
    node = head.add_node(**SMALL)
    yield node
    if node in head.worker_nodes:
        head.remove_node(node)


def twin_of(source: DataSource, folder: Path, n_trials: int) -> Store:
    """The same study, trained in this process alone."""
    store = Store(f"sqlite:///{folder}/twin.db", folder / "twin")
    open_search(a_session(store, source), RANDOM).until(n_trials)
    return store


@pytest.mark.slow
@with_ray
@pytest.mark.usefixtures("second")
def test_cluster_trains_each_trial_once_and_as_this_machine_would(
    head: Any, store: Store, source: DataSource, tmp_path: Path
) -> None:
    class Counts(SilentListener):
        started = most = 0  # in all, and at once

        def trial_started(self, number: int, run: Any) -> None:
            self.started += 1
            self.most = max(self.most, self.started - len(self.ended))

    listener = Counts()
    session = a_session(store, source, listener)
    with connected(Cluster(head.address), store.url):
        open_search(session, RANDOM)
        result = run_on_cluster(
            session, Search(RANDOM, 5), Limits(trials_a_process=2), cluster=Cluster(), say=print, workers=3
        )
    assert (result.finished, result.stopped, result.done) == (5, "", True)
    assert listener.most == 2  # the third worker waits for room
    assert sorted(listener.ended) == list(range(5))
    assert outcome(store.record("tiny")) == outcome(twin_of(source, tmp_path, 5).record("tiny"))
    pids = {trial.user_attrs["owner"]["pid"] for trial in store.load_study("tiny").get_trials()}
    assert len(pids) >= 3  # two at once, replaced after two trials
    assert os.getpid() not in pids


@pytest.mark.slow
@with_ray
def test_study_ends_with_its_trials_when_a_node_is_lost(
    head: Any, second: Any, store: Store, source: DataSource, tmp_path: Path
) -> None:
    class LosesANode(SilentListener):
        """The second node goes at once, as by a power cut, when both workers train."""

        started: set[int] = set()  # noqa: RUF012  of this one test

        def trial_started(self, number: int, run: Any) -> None:
            self.started.add(number)

        def epoch_ended(self, number: int, history: History) -> None:
            if len(self.started) > 1 and second in head.worker_nodes:
                head.remove_node(second, allow_graceful=False)

    said: list[str] = []  # "worker 0 was..." or "worker 1 was...", whichever was there
    session = a_session(store, source, LosesANode())
    with connected(Cluster(head.address), store.url):
        open_search(session, RANDOM)
        result = run_on_cluster(session, Search(RANDOM, 5), cluster=Cluster(), say=said.append, workers=2)
    assert (result.finished, result.done) == (5, True)
    assert {line.partition(" was ")[2] for line in said} <= {"lost; it is started again"}
    assert outcome(store.record("tiny")) == outcome(twin_of(source, tmp_path, 5).record("tiny"))


@pytest.mark.slow
@with_ray
def test_node_that_lacks_the_images_is_named(head: Any, store: Store, source: DataSource, tmp_path: Path) -> None:
    open_search(a_session(store, source), SPEC)
    missing = replace(source, manifest=replace(source.manifest, folder=tmp_path / "only-elsewhere"))
    with (
        connected(Cluster(head.address), store.url),
        pytest.raises(DataError, match=r"node .*\d\): .*only-elsewhere: no such folder"),
    ):
        run_on_cluster(a_session(store, missing), Search(SPEC, 3), cluster=Cluster(), say=print)


@pytest.mark.slow
@with_ray
def test_study_command_on_a_cluster_stops_at_ctrl_c_and_goes_on(head: Any, phantoms: Path, tmp_path: Path) -> None:
    fixed = "\n".join(f"{name} = {value}" for name, value in {**TINY, "epochs": 2}.items())
    (tmp_path / "tiny.toml").write_text(
        f'name = "tiny"\npruner = "none"\n[fixed]\n{fixed}\n[space]\nzoom = {{low = 0.0, high = 0.5}}\n'
    )
    command = [sys.executable, "-m", "pneumosearch", "study", "tiny.toml", "--trials", "2", "--data", str(phantoms)]
    command += ["--executor", "ray", "--ray-address", head.address]
    first = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert first.stderr is not None
    for line in first.stderr:
        if "trial 0: epoch 1" in line:
            first.send_signal(signal.SIGINT)
            break
    rest = first.communicate()[1]
    assert first.returncode == 130, rest
    assert "stopping after this epoch" in rest
    assert "stopped (interrupted) with" in rest
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "2 of 2 trials (2 complete, 0 pruned, 0 failed)" in again.stderr
    assert Store(f"sqlite:///{tmp_path}/results/pneumosearch.db", tmp_path).record("tiny").count("complete") == 2
