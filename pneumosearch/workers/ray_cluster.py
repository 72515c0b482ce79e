"""Workers on a Ray cluster: each is a Ray task that supervises a training process on its node, as `local` does here.

Ray places the tasks and runs those again whose node or process is lost; it is ours that a trial that kills its process
each time fails in the end, and that a lost trial goes on under its own number. The first worker that asks reclaims it,
as `search.leases` says: at once on the same machine, after the grace period on another.
"""

import os
import platform
import re
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final

from pneumosearch._utils.hardware import GROWING, THREADS
from pneumosearch.data.manifest import read_manifest
from pneumosearch.errors import ConfigError, DataError, PneumosearchError, StoreError
from pneumosearch.search.events import TrialEvent
from pneumosearch.search.runner import Outcome
from pneumosearch.search.session import Session, StopFlag
from pneumosearch.storage.urls import absolute_url, is_sqlite
from pneumosearch.workers.local import Job, make_job, one_line_error, run_locally
from pneumosearch.workers.work import Limits, Work

#: How often Ray starts each worker again that was lost.
MAX_RESTARTS: Final = 20

_LOOK_AT_WORKERS: Final = 0.2  # seconds between two looks at what they report
_STEPS_EVERY: Final = 1.0  # seconds at least between two reports of a training's steps, each a message to the driver
_REACHED_WITHIN: Final = 10.0  # seconds; Ray itself would try for minutes

# Workers get these variables of this process too.
_AWS: Final = "AWS_(ACCESS_KEY_ID|SECRET_ACCESS_KEY|SESSION_TOKEN|ENDPOINT_URL|ENDPOINT_URL_S3|REGION|DEFAULT_REGION)"
_CARRIED: Final = re.compile("PNEUMOSEARCH_|(" + "|".join(("KERAS_BACKEND", *THREADS, *GROWING, _AWS)) + ")$")


@dataclass(frozen=True)
class WorkerPlaced:
    """A worker runs now, on this node."""

    node: str


#: What a worker of a cluster reports.
WorkerEvent = TrialEvent | WorkerPlaced


@dataclass(frozen=True)
class Cluster:
    """Where the workers run, and what each takes there.

    Args:
        address: HOST:PORT of the head; where not given, that of RAY_ADDRESS, of a cluster that runs on this machine, or
            of a new one on it.
        cpus: Cores of a worker, which computes with as many threads; at least one thread.
        gpus: Accelerators of a worker; several with a fraction each share one.
        max_restarts: How often each worker is started again that was lost.

    Raises:
        ConfigError: An address of Ray's client, no core, or more than one that is no whole number.
    """

    address: str | None = None
    cpus: float = 1.0
    gpus: float = 0.0
    max_restarts: int = MAX_RESTARTS

    def __post_init__(self) -> None:
        if self.address and "://" in self.address:
            raise ConfigError(
                f"--ray-address {self.address}: wanted HOST:PORT of the head, such as 10.0.0.1:6379, from one of its "
                "nodes; to run it from elsewhere, 'ray job submit'"
            )
        for name, number in (("cpus", self.cpus), ("gpus", self.gpus)):
            if number < 0 or (number > 1 and number % 1) or (name == "cpus" and not number):
                raise ConfigError(f"--worker-{name} {number:g}: wanted a whole number, or a fraction of one")

    @property
    def wish(self) -> str:
        """What a worker takes, in words."""
        return f"{self.cpus:g} CPU" + (f" and {self.gpus:g} GPU" if self.gpus else "")

    def room(self, nodes: Iterable[Mapping[str, Any]]) -> int:
        """Return for how many workers these nodes have room when nothing else runs there; `nodes` as of `ray.nodes`."""
        wanted = {"CPU": self.cpus, "GPU": self.gpus}
        wanted = {name: number for name, number in wanted.items() if number}
        free = [node["Resources"] for node in nodes if node["Alive"]]
        return sum(min(int(of.get(name, 0) / number + 1e-6) for name, number in wanted.items()) for of in free)

    def environment(self) -> dict[str, str]:
        """Return the environment variables of a worker: its share of its node, and some of this process."""
        share = dict.fromkeys(THREADS, str(max(1, int(self.cpus))))
        share |= GROWING if self.gpus else {"CUDA_VISIBLE_DEVICES": ""}  # what Ray assigns, or none
        return share | {name: value for name, value in os.environ.items() if _CARRIED.match(name)}


@contextmanager
def connected(cluster: Cluster, url: str) -> Iterator[None]:
    """Connect to a Ray cluster while the block runs; an open connection is used, and stays open.

    Args:
        cluster: Which.
        url: Of the storage.

    Raises:
        ConfigError: Ray is not installed, or the cluster cannot be reached.
        StoreError: The storage is an SQLite file, and the cluster has other machines.
    """
    ray = _ray()
    ours = not ray.is_initialized()
    if ours:
        _connect(ray, cluster.address)
    try:
        check_storage(url, _address(), [node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]])
        yield
    finally:
        if ours:
            ray.shutdown()


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise ConfigError(f"--executor ray needs Ray: pip install 'pneumosearch[ray]' ({error})") from error
    return ray


def _connect(ray: Any, address: str | None) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nobody was asked
    address = address or os.environ.get("RAY_ADDRESS")
    host, _, port = (address or "").rpartition(":")
    try:
        if host and port.isdecimal():
            socket.create_connection((host, int(port)), _REACHED_WITHIN).close()
        ray.init(address=address, include_dashboard=False, log_to_driver=False, logging_level="error")
    except Exception as error:  # Ray raises bare ones, as when a node does not start in time
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(f"--ray-address {address or 'of this machine'}: cannot be used ({reason})") from error


def check_storage(url: str, home: str, addresses: Iterable[str]) -> None:
    """Raise `StoreError` for an SQLite file where one of the nodes is not on the machine whose address is `home`."""
    other = next((address for address in addresses if address != home), None)
    if other is not None and is_sqlite(url):
        raise StoreError(
            f"{url}: an SQLite file is for one machine, and the cluster has another ({other}); give --storage "
            "postgresql://USER:PASSWORD@HOST/DATABASE, or the grpc://HOST:PORT of a storage proxy"
        )


def run_on_cluster(
    session: Session,
    work: Work,
    limits: Limits | None = None,
    *,
    cluster: Cluster,
    say: Callable[[str], None],
    workers: int = 1,
) -> Outcome:
    """Do as `local.run_locally` on the cluster that this process is connected to.

    Args:
        session: Store, images, listener, and the flag to stop.
        work: What is trained.
        limits: Of each worker.
        cluster: What each worker takes.
        say: Takes a line about lost workers, or about missing room.
        workers: Workers at a time.

    Raises:
        PneumosearchError: As `local.run_locally`; images are missing on a node, or a worker was lost too often.
    """
    job = _portable(make_job(session, work, limits, workers))
    ray = _ray()
    room = cluster.room(ray.nodes())
    if room < workers:
        say(f"{cluster.wish} a worker: the cluster has room for {room} of {workers} now; the others wait for it")
    board = _board(ray)
    share = {"num_cpus": cluster.cpus, "num_gpus": cluster.gpus}
    train = ray.remote(_train).options(max_retries=cluster.max_restarts, scheduling_strategy="SPREAD", **share)
    begun = {train.remote(n, job, cluster.environment(), _address(), board): n for n in range(workers)}
    driver = _Driver(ray, board, begun, session, partial(work.n_ended, session.store), say, cluster.max_restarts)
    try:
        return max(driver.follow(), key=lambda outcome: (outcome.done, outcome.finished))
    finally:
        for task in begun:
            ray.cancel(task, force=True)
        ray.kill(board)


def _portable(job: Job) -> Job:
    """Return the job with paths that mean the same on all nodes."""
    manifest = replace(job.source.manifest, folder=job.source.manifest.folder.resolve())
    source = replace(job.source, manifest=manifest, cache_dir=job.source.cache_dir.resolve())
    url, every = absolute_url(job.url), None if job.steps_every is None else max(job.steps_every, _STEPS_EVERY)
    return replace(job, url=url, results=job.results.resolve(), source=source, steps_every=every)


class _Board:
    """What the workers report, and the driver's order to them: an actor on the driver's node."""

    def __init__(self) -> None:
        self._events: list[tuple[int, WorkerEvent]] = []
        self._order = ""

    def report(self, worker: int, *events: WorkerEvent) -> str:
        """Take events of a worker; return why it is to stop, empty where it is not."""
        self._events += [(worker, event) for event in events]
        return self._order

    def collect(self, order: str) -> list[tuple[int, WorkerEvent]]:
        """Return the events since the last call; from now on, tell the workers this order."""
        events, self._events, self._order = self._events, [], order
        return events


def _board(ray: Any) -> Any:
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(_Board).options(num_cpus=0, scheduling_strategy=here).remote()


@dataclass
class _Driver:
    """Passes on what the workers report until all have ended."""

    ray: Any
    board: Any
    begun: Mapping[Any, int]  # tasks, each with the number of its worker
    session: Session
    n_ended: Callable[[], int]
    say: Callable[[str], None]
    max_restarts: int
    nodes: dict[int, str] = field(default_factory=dict)  # where each worker was placed last

    def follow(self) -> list[Outcome]:
        """Return how each worker ended. Raises `PneumosearchError` where one sent it, or was lost too often."""
        outcomes, tasks = list[Outcome](), list(self.begun)
        while tasks:
            ended, tasks = self.ray.wait(tasks, num_returns=len(tasks), timeout=_LOOK_AT_WORKERS)
            self._pass_on()
            outcomes += map(self._outcome, ended)
            if self.session.stop.reason or any(outcome.done for outcome in outcomes):
                self._leave_out_waiting(tasks)
        return outcomes

    def _pass_on(self) -> None:
        order = self.session.stop.reason if self.session.stop() else ""
        for worker, event in self.ray.get(self.board.collect.remote(order)):
            if not isinstance(event, WorkerPlaced):
                self.session.listener(event)
                continue
            if worker in self.nodes:
                self.say(f"worker {worker} was lost; it is started again")
            self.nodes[worker] = event.node

    def _outcome(self, task: Any) -> Outcome:
        try:
            result: Outcome | PneumosearchError = self.ray.get(task)
        except self.ray.exceptions.TaskCancelledError:
            return Outcome(self.n_ended(), self.session.stop.reason, False)
        except self.ray.exceptions.RayTaskError as error:
            raise PneumosearchError(f"worker {self.begun[task]} does not start: {_last_line(error)}") from error
        except self.ray.exceptions.RayError as error:
            raise PneumosearchError(
                f"stopped: worker {self.begun[task]} was lost ({_last_line(error)}), and --max-restarts is "
                f"{self.max_restarts}; the same command goes on from what was saved"
            ) from error
        if isinstance(result, PneumosearchError):
            raise result
        return result

    def _leave_out_waiting(self, tasks: Iterable[Any]) -> None:
        """Cancel the workers that have no node, or no longer: there may never be room for them."""
        living = {node["NodeID"] for node in self.ray.nodes() if node["Alive"]}
        for task in tasks:
            if self.nodes.get(self.begun[task]) not in living:
                self.ray.cancel(task)


def _last_line(error: Exception) -> str:
    return next(reversed(str(error).strip().splitlines()), type(error).__name__)


def _train(worker: int, job: Job, environment: Mapping[str, str], home: str, board: Any) -> Outcome | PneumosearchError:
    """Supervise a training process on this node until nothing is left to train; `home` as of `check_storage`."""
    os.environ.update(environment)  # before anything looks at it
    ray = _ray()

    def report(*events: WorkerEvent) -> str:
        # Not `ray.get`: Ray would lend the cores of a task that waits by it to another one.
        return str(board.report.remote(worker, *events).future().result())

    try:
        report(WorkerPlaced(ray.get_runtime_context().get_node_id()))
        check_storage(job.url, home, [_address()])
        # The images of this node: it may lack some or have others, and the study compares them by content.
        manifest = job.source.manifest
        here = read_manifest(manifest.folder, manifest.patient_pattern, manifest.classes)
        job = replace(job, source=replace(job.source, manifest=here))
        return run_locally(job.session(report, _Ordered(report)), job.work, job.limits)
    except (DataError, StoreError) as error:
        return type(error)(f"node {platform.node()} ({_address()}): {error}")
    except Exception as error:  # noqa: BLE001  the driver shows it in one line
        return one_line_error(error)


class _Ordered(StopFlag):
    """Set where the driver says so."""

    def __init__(self, ask: Callable[[], str]) -> None:
        super().__init__()
        self._ask = ask

    def __call__(self) -> bool:
        self.reason = self.reason or self._ask()
        return bool(self.reason)


def _address() -> str:
    """Return the address of this machine in the cluster."""
    return str(_ray().util.get_node_ip_address())
