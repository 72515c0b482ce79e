"""Training processes on a Ray cluster: they work as those of one machine do, and are Ray actors.

A lost process is restarted wherever there is room. The first process that asks reclaims its trial, as
`search.leases` says: at once on the same machine, after the grace period on another.
"""

import os
import platform
import re
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from queue import SimpleQueue
from typing import Any, Final

from pneumosearch._utils.hardware import GROWING, THREADS
from pneumosearch.data.manifest import read_manifest
from pneumosearch.errors import ConfigError, DataError, PneumosearchError, StoreError
from pneumosearch.search.runner import Outcome
from pneumosearch.search.session import Session, StopFlag
from pneumosearch.storage.urls import absolute_url, is_sqlite
from pneumosearch.workers.local import Job, make_job, one_line_error, train_trials
from pneumosearch.workers.supervisor import Failed, ProcessEvent, TrainingProcess, supervise
from pneumosearch.workers.work import Limits, Work

#: Lost processes that a run of the study command restarts.
MAX_RESTARTS: Final = 20

_LOOK_AT_STOP: Final = 0.2  # seconds between two looks at whether to stop
_STEPS_EVERY: Final = 1.0  # seconds at least between two reports of a training's steps, each a message to the driver
_REACHED_WITHIN: Final = 10.0  # seconds; Ray itself would try for minutes
_GONE: Final = "its node is gone or cannot be reached"

# Workers get these variables of this process too.
_AWS: Final = "AWS_(ACCESS_KEY_ID|SECRET_ACCESS_KEY|SESSION_TOKEN|ENDPOINT_URL|ENDPOINT_URL_S3|REGION|DEFAULT_REGION)"
_CARRIED: Final = re.compile("PNEUMOSEARCH_|(" + "|".join(("KERAS_BACKEND", *THREADS, *GROWING, _AWS)) + ")$")


@dataclass(frozen=True)
class WorkerPlaced:
    """A worker runs now, on this node."""

    node: str


#: What a worker of a cluster sends.
WorkerEvent = ProcessEvent | WorkerPlaced


@dataclass(frozen=True)
class Cluster:
    """Where the workers run, and what each takes there.

    Args:
        address: HOST:PORT of the head; where not given, that of RAY_ADDRESS, of a cluster that runs on this machine, or
            of a new one on it.
        cpus: Cores of a worker, which computes with as many threads; at least one thread.
        gpus: Accelerators of a worker; several with a fraction each share one.
        max_restarts: Lost workers that are restarted.

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
        PneumosearchError: As `local.run_locally`; images are missing on a node, or too many workers were lost.
    """
    job = _portable(make_job(session, work, limits, workers), cluster)
    ray = _ray()
    room = cluster.room(ray.nodes())
    if room < workers:
        say(f"{cluster.wish} a worker: the cluster has room for {room} of {workers} now; the others wait for it")
    actors = _Actors(ray, job, cluster, say, partial(work.n_ended, session.store))
    return supervise(session, work.study, actors, workers, job.limits.max_failures)


def _portable(job: Job, cluster: Cluster) -> Job:
    """Return the job with paths and environment that mean the same on all nodes."""
    manifest = replace(job.source.manifest, folder=job.source.manifest.folder.resolve())
    source = replace(job.source, manifest=manifest, cache_dir=job.source.cache_dir.resolve())
    url, every = absolute_url(job.url), None if job.steps_every is None else max(job.steps_every, _STEPS_EVERY)
    here = replace(job, url=url, results=job.results.resolve(), source=source)
    return replace(here, environment=cluster.environment(), steps_every=every)


class _Actors:
    """Training processes of the cluster."""

    def __init__(
        self, ray: Any, job: Job, cluster: Cluster, say: Callable[[str], None], ended: Callable[[], int]
    ) -> None:
        self._ray, self._job, self._cluster, self._say, self._ended = ray, job, cluster, say, ended
        share = {"num_cpus": cluster.cpus, "num_gpus": cluster.gpus}
        # Two calls at once: one that trains, and one that takes orders.
        self._worker = ray.remote(_Worker).options(max_concurrency=2, scheduling_strategy="SPREAD", **share)
        self._lost = 0
        self._done = False

    def start(self, number: int) -> "_Actor":
        return _Actor(self._ray, self._worker.remote(self._job, _address()))

    def events(self, processes: Mapping[int, "_Actor"]) -> Iterator[tuple[int, ProcessEvent | None]]:
        streams = [process.stream for process in processes.values()]
        ready, _ = self._ray.wait(streams, num_returns=1, timeout=_LOOK_AT_STOP)
        if ready:
            ready, _ = self._ray.wait(streams, num_returns=len(streams), timeout=0)
        for number, process in processes.items():
            if any(process.stream is stream for stream in ready):
                yield from ((number, event) for event in self._next(number, process))
            elif process.waits and (self._done or process.ordered):  # there may never be room for it
                yield number, Outcome(self._ended(), "" if self._done else process.ordered, self._done)

    def _next(self, number: int, process: "_Actor") -> Iterator[ProcessEvent | None]:
        try:
            event: WorkerEvent = self._ray.get(next(process.stream))
        except (StopIteration, self._ray.exceptions.RayError) as error:
            process.died_of(error)
            self._count_loss(number, process)
            yield None
            return
        match event:
            case WorkerPlaced(node):
                process.runs_on(node)
                return
            case Outcome(done=True):
                self._done = True
        yield event

    def _count_loss(self, number: int, process: "_Actor") -> None:
        self._lost += 1
        if self._lost > self._cluster.max_restarts:
            raise PneumosearchError(
                f"stopped: {self._lost} workers were lost (the last: {process.ended_by}), and --max-restarts is "
                f"{self._cluster.max_restarts}; the same command goes on from what was saved"
            )
        self._say(f"worker {number} was lost ({process.ended_by}); it is restarted")


class _Actor(TrainingProcess):
    """One process of the cluster, seen by its driver."""

    def __init__(self, ray: Any, actor: Any) -> None:
        super().__init__()
        self._ray, self._actor = ray, actor
        self.stream = actor.events.remote()
        self._node: str | None = None  # where it runs; None before it runs
        self.ordered = ""
        self._ended_by, self._blameless = "", False

    @property
    def waits(self) -> bool:
        """Whether it waits for room on a node."""
        return self._node is None

    def runs_on(self, node: str) -> None:
        """Remember the node on which it runs now."""
        self._node = node

    def order(self, reason: str) -> None:
        if not self.ordered:
            self.ordered = reason
            self._actor.order.remote(reason)

    def end(self) -> None:
        self._ray.kill(self._actor)

    def died_of(self, error: Exception) -> None:
        """Remember how it died."""
        living = {node["NodeID"] for node in self._ray.nodes() if node["Alive"]}
        # A node that dies is unreachable at first, and may still be chosen for a process that then never runs.
        unreachable = isinstance(error, self._ray.exceptions.ActorUnavailableError) or "never ran" in str(error)
        self._blameless = unreachable or (self._node is not None and self._node not in living)
        detail = re.search("Worker exit detail: (.*)", str(error))
        lines = [detail[1]] if detail else str(error).strip().splitlines()[-1:]
        self._ended_by = _GONE if self._blameless else " ".join(lines) or type(error).__name__

    @property
    def ended_by(self) -> str:
        return self._ended_by

    @property
    def blameless(self) -> bool:
        return self._blameless


class _Worker:
    """A training process of the cluster, on its node.

    Args:
        job: What is trained, and how much of it.
        home: Address of the machine whose SQLite file may be the storage.
    """

    def __init__(self, job: Job, home: str) -> None:
        os.environ.update(job.environment)  # before anything looks at it
        self._job, self._home = job, home
        self._unsent: SimpleQueue[ProcessEvent] = SimpleQueue()
        self._stop = StopFlag()

    def events(self) -> Iterator[WorkerEvent]:
        """Train, and yield what happens."""
        yield WorkerPlaced(_ray().get_runtime_context().get_node_id())
        threading.Thread(target=self._train, daemon=True).start()
        while True:
            event = self._unsent.get()
            yield event
            if isinstance(event, Outcome | Failed):
                return

    def order(self, reason: str) -> None:
        """Stop after the present epoch."""
        self._stop.reason = reason

    def _train(self) -> None:
        job = self._job
        try:
            check_storage(job.url, self._home, [_address()])
            # The images of this node: it may lack some or have others, and the study compares them by content.
            manifest = job.source.manifest
            here = read_manifest(manifest.folder, manifest.patient_pattern, manifest.classes)
            source = replace(job.source, manifest=here)
            train_trials(replace(job, source=source), self._unsent.put, self._stop)
        except (DataError, StoreError) as error:
            self._unsent.put(Failed(type(error)(f"node {platform.node()} ({_address()}): {error}")))
        except Exception as error:  # noqa: BLE001  the driver shows it in one line
            self._unsent.put(Failed(one_line_error(error)))


def _address() -> str:
    """Return the address of this machine in the cluster."""
    return str(_ray().util.get_node_ip_address())
