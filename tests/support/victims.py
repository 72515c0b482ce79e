"""Processes of a disturbed study, wherever they run, and how each kind of them is killed."""

import os
import random
import secrets
import shutil
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from pneumosearch._utils.hardware import thread_variables
from pneumosearch.storage.urls import sqlite_url
from tests.support.hosts import NETWORK, Hosts
from tests.support.mariadb import MariadbServer
from tests.support.postgres import Mode, PostgresServer, free_port

TRAINING = "spawn_main"  # in the command line of a training process
#: The last digits of a training depend on how many threads it has.
ENVIRONMENT = {**os.environ, **thread_variables(1), "PYTHONFAULTHANDLER": "1"}
NODE = {"num_cpus": 1, "object_store_memory": 80_000_000, "include_dashboard": False}
_LONGEST_CUT = 30.0  # seconds
_GRACE = "8s"  # after which a machine that is cut off loses its trials
LONGEST_SILENCE = 240.0  # seconds; an epoch or a start take a few
_MOST_FAILURES = 5  # runs in a row that nobody killed
_LAST_LINES = 60


class Served:
    """An SQLite file that `pneumosearch serve` serves on a free local port.

    Args:
        folder: Where the file and what the server says are kept.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.process: subprocess.Popen[bytes] | None = None

    def url(self) -> str:
        """Return the storage URL."""
        return f"grpc://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start the server; clients wait for it."""
        command = [sys.executable, "-m", "pneumosearch", "serve", "--port", str(self.port), "--results", "served"]
        with (self.folder / "served.log").open("ab") as log:
            self.process = subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log)

    def stop(self, _: Mode = "immediate") -> None:
        """Kill it."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()


@contextmanager
def served(folder: Path) -> Iterator[Served]:
    """Serve an SQLite file in a folder."""
    server = Served(folder)
    server.start()
    try:
        yield server
    finally:
        server.stop()


Server = PostgresServer | MariadbServer | Served


def command(folder: Path, results: str, arguments: list[str]) -> subprocess.Popen[bytes]:
    """Start a command of the study on this machine."""
    line = [sys.executable, "-m", "pneumosearch", *arguments, "--data", "images", "--results", results, "--quiet"]
    with (folder / f"{results}.log").open("ab") as log:
        return subprocess.Popen(line, cwd=folder, stdout=subprocess.DEVNULL, stderr=log, env=ENVIRONMENT)


class Stuck(Exception):
    """A study does not end, or ends with a failure; with what it said last."""


class Victims(ABC):
    """The processes of a disturbed study, and how often each kind was killed.

    Args:
        folder: With `torture.toml` and the images.
        workers: Training processes.
        server: The database, where it is not an SQLite file.
        rng: Of the moments.
    """

    log = "disturbed.log"  # of the study, in that folder

    def __init__(self, folder: Path, workers: int, server: Server | None, rng: random.Random) -> None:
        self.folder, self.workers, self.server, self.rng = folder, workers, server, rng
        self.done: Counter[str] = Counter()
        self.failures = 0  # runs of the study in a row that nobody killed
        self.study: subprocess.Popen[bytes] | None = None
        self.worker: subprocess.Popen[bytes] | None = None

    def stored(self) -> str:
        """Return the storage URL by which the disturbed study is read."""
        return self.server.url() if self.server else sqlite_url(self.folder / "disturbed" / "pneumosearch.db")

    def disturb(self, kills: int, trials: int, patience: float) -> int:
        """Kill so often, asking for more trials while there is too little to kill; return how many there were.

        Raises:
            Stuck: The study does not go on.
        """
        wanted = trials
        while True:
            study = self._running(wanted)
            if sum(self.done.values()) < kills:
                self._kill_one(study, self.rng.uniform(0.0, patience))
                if self.rng.random() < 0.2:
                    shutil.rmtree(self.folder / "disturbed" / "cache", ignore_errors=True)
            else:
                ended(study, self.folder, self.log)
            self._check_failures(study)
            if study.poll() == 0:
                if sum(self.done.values()) >= kills:
                    return wanted
                wanted += trials
            print(f"{dict(self.done)}, {wanted} trials asked for", file=sys.stderr)

    def _check_failures(self, study: subprocess.Popen[bytes]) -> None:
        """Raise `Stuck` where the study has failed by itself too often: one that is killed ends with its signal."""
        code = study.poll()
        if code is not None:
            self.failures = self.failures + 1 if code > 0 else 0
        if self.failures == _MOST_FAILURES:
            raise Stuck(f"exit code {code}, {self.failures} times in a row\n{tail(self.folder / self.log)}")

    def _running(self, wanted: int) -> subprocess.Popen[bytes]:
        """Start what is not running; return the study."""
        if self.study is None or self.study.poll() is not None:
            self.study = self._start_study(["study", "torture.toml", "--trials", str(wanted)])
        self._start_others()
        return self.study

    def _kill_one(self, study: subprocess.Popen[bytes], seconds: float) -> None:
        """Wait, and kill something that is still there."""
        try:
            study.wait(seconds)
            return
        except subprocess.TimeoutExpired:
            pass
        kind = self.rng.choice([*self._kinds(), *(["database"] if self.server else [])])
        if kind == "database" and self.server:
            self.server.stop("immediate")
            self.server.start()
        else:
            self._kill(kind, study)
        self.done[kind] += 1

    @property
    def _storage(self) -> list[str]:
        return ["--storage", self.server.url()] if self.server else []

    @abstractmethod
    def _start_study(self, arguments: list[str]) -> subprocess.Popen[bytes]:
        """Start the study."""

    @abstractmethod
    def _start_others(self) -> None:
        """Start what else is to be there."""

    @abstractmethod
    def _kinds(self) -> list[str]:
        """Say what there is to kill now, but for the database."""

    @abstractmethod
    def _kill(self, kind: str, study: subprocess.Popen[bytes]) -> None:
        """Kill one of a kind."""

    def __enter__(self) -> "Victims":
        return self

    def __exit__(self, *_: object) -> None:
        for process in (self.study, self.worker):
            if process is not None:
                process.kill()
                process.wait()


class LocalVictims(Victims):
    """A study with its training processes; of several, one is of a worker that joins it."""

    _spared = True  # whether no training of the present study process was killed

    def _start_study(self, arguments: list[str]) -> subprocess.Popen[bytes]:
        self._spared = True
        arguments += ["--workers", str(max(1, self.workers - 1))]
        return command(self.folder, "disturbed", [*arguments, *self._storage])

    def _start_others(self) -> None:
        if self.workers > 1 and (self.worker is None or self.worker.poll() is not None):
            arguments = ["worker", "--name", "torture", "--wait", "1m", *self._storage]
            self.worker = command(self.folder, "disturbed", arguments)

    def _kinds(self) -> list[str]:
        # A trial at which two processes of one study died has failed by rule: only one of them dies in this way.
        trains = self._spared and self.study is not None and bool(_trainings(self.study))
        return ["study", *(["training"] if trains else []), *(["worker"] if self.worker else [])]

    def _kill(self, kind: str, study: subprocess.Popen[bytes]) -> None:
        if kind == "worker" and self.worker:
            self.worker.kill()
        elif kind == "study":
            for child in _trainings(study):
                child.kill()
            study.kill()
        else:
            self._spared = False
            for child in _trainings(study)[:1]:
                child.kill()


def ended(process: subprocess.Popen[bytes], folder: Path, log: str) -> None:
    """Wait for the end of a command; where it no longer writes to `folder`, it says in which lines it is."""
    while process.poll() is None and time.time() - _last_written(folder) < LONGEST_SILENCE:
        with suppress(subprocess.TimeoutExpired):
            process.wait(1.0)
    if process.poll() is None:
        for one in [*_trainings(process), psutil.Process(process.pid)]:
            with suppress(psutil.NoSuchProcess):
                one.send_signal(signal.SIGABRT)  # which Python's fault handler answers
        process.wait()
        raise Stuck(f"nothing was written for {LONGEST_SILENCE:.0f} s\n{tail(folder / log)}")


def _last_written(folder: Path) -> float:
    times = [0.0]
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):
            times.append(path.stat().st_mtime)
    return max(times)


def tail(log: Path) -> str:
    """Return the last lines of a log."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-_LAST_LINES:])


def _trainings(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    try:
        children = psutil.Process(process.pid).children(recursive=True)
        return [child for child in children if TRAINING in " ".join(child.cmdline())]
    except psutil.NoSuchProcess:
        return []


class RayVictims(Victims):
    """A study whose training processes run on nodes of a Ray cluster, each of which has room for one."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        from ray.cluster_utils import Cluster

        self.cluster: Any = Cluster(initialize_head=True, head_node_args={**NODE, "num_cpus": 0})

    def _start_study(self, arguments: list[str]) -> subprocess.Popen[bytes]:
        self._add_nodes()
        arguments += ["--workers", str(self.workers), "--executor", "ray", "--ray-address", self.cluster.address]
        return command(self.folder, "disturbed", [*arguments, "--max-restarts", "1000", *self._storage])

    def _add_nodes(self) -> None:
        while len(self.cluster.worker_nodes) < self.workers:
            self.cluster.add_node(**NODE)

    _start_others = _add_nodes

    def _kinds(self) -> list[str]:
        return ["study", "node"]

    def _kill(self, kind: str, study: subprocess.Popen[bytes]) -> None:
        if kind == "study":
            study.kill()
        else:
            node = self.rng.choice(sorted(self.cluster.worker_nodes, key=lambda node: str(node.unique_id)))
            self.cluster.remove_node(node, allow_graceful=False)

    def __exit__(self, *about: object) -> None:
        super().__exit__(*about)
        self.cluster.shutdown()


class HostVictims(Victims):
    """A study on one machine, which serves its storage, and a worker on each of the others, which get cut off."""

    log = "log"

    def __init__(self, hosts: Hosts, folder: Path, workers: int, rng: random.Random) -> None:
        super().__init__(folder, workers, None, rng)
        self.hosts, self.joined = hosts, dict[int, subprocess.Popen[bytes]]()
        self.names = {number: hosts.add(number) for number in range(1, workers + 1)}
        self.environment = {**ENVIRONMENT, "PNEUMOSEARCH_TOKEN": secrets.token_hex(16)}
        self.server = _ServedOnHost(self)

    def stored(self) -> str:
        """Return the URL of the file that the first machine serves: its network is not ours."""
        return sqlite_url(self.folder / "disturbed" / "pneumosearch.db")

    def begin(self, number: int, arguments: list[str]) -> subprocess.Popen[bytes]:
        """Start a command on a machine, in the folder of the first or one of its own."""
        folder = self.folder if number == 1 else self.folder / f"host{number}"
        results = "disturbed" if number == 1 else "results"
        return self.hosts.start(
            self.names[number], folder, *arguments, "--results", results, environment=self.environment
        )

    def _start_study(self, arguments: list[str]) -> subprocess.Popen[bytes]:
        return self.begin(1, [*arguments, *self._reached])

    @property
    def _reached(self) -> list[str]:
        images = str(self.folder / "images")
        return ["--data", images, "--quiet", "--grace", _GRACE, *self._storage]

    def _start_others(self) -> None:
        for number in range(2, self.workers + 1):
            if number not in self.joined or self.joined[number].poll() is not None:
                arguments = ["worker", "--name", "torture", "--wait", "1m", *self._reached]
                self.joined[number] = self.begin(number, arguments)

    def _kinds(self) -> list[str]:
        return ["study", "worker", "network"]

    def _kill(self, kind: str, study: subprocess.Popen[bytes]) -> None:
        number = self.rng.choice(sorted(self.joined))
        if kind == "study":
            study.kill()
        elif kind == "worker":
            self.joined[number].kill()
        else:
            self.hosts.plugged(number, is_in=False)
            time.sleep(self.rng.uniform(1.0, _LONGEST_CUT))
            self.hosts.plugged(number, is_in=True)


class _ServedOnHost(Served):
    """`pneumosearch serve` on the first of some machines, for the others."""

    def __init__(self, victims: HostVictims) -> None:
        super().__init__(victims.folder)
        self._victims, self.port = victims, 13013
        self.start()

    def url(self) -> str:
        return f"grpc://{NETWORK}.1:{self.port}"

    def start(self) -> None:
        self.process = self._victims.begin(1, ["serve", "--host", f"{NETWORK}.1", "--port", str(self.port)])
