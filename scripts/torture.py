"""Kills the processes of a real study at random moments, goes on, and compares it with a twin that nobody disturbed."""

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import psutil
import typer

from pneumosearch.data.phantoms import write_phantoms
from pneumosearch.records import StudyRecord, TrialRecord
from pneumosearch.resources import environments
from pneumosearch.store import Store
from postgres import Mode, PostgresServer, free_port, postgres_server

STUDY = """
name = "torture"
sampler = "SAMPLER"
pruner = "PRUNER"
[fixed]
image_size = 32
width = 0.25
units_1 = 16
[space]
zoom = { low = 0.0, high = 0.5 }
filters_1 = { choices = [8, 16] }
epochs = { low = 4, high = 10 }
"""
TRAINING = "spawn_main"  # in the command line of a training process


class Storage(StrEnum):
    """Where the disturbed study is kept; its twin is always in an SQLite file."""

    sqlite = "sqlite"
    postgresql = "postgresql"
    grpc = "grpc"


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
def _served(folder: Path) -> Iterator[Served]:
    server = Served(folder)
    server.start()
    try:
        yield server
    finally:
        server.stop()


Server = PostgresServer | Served


def torture(
    kills: Annotated[int, typer.Option(min=1, help="Kills to reach.")] = 20,
    trials: Annotated[
        int, typer.Option(min=1, help="Trials of the study; more are asked for while kills are missing.")
    ] = 6,
    seed: Annotated[int, typer.Option(help="Of the moments.")] = 0,
    pruner: Annotated[str, typer.Option(help="Of the study, where one process trains; several have none.")] = "promote",
    workers: Annotated[
        int, typer.Option(min=1, help="Training processes. Of several, one is of a worker that joins the study.")
    ] = 1,
    storage: Annotated[Storage, typer.Option(help="Where the study is kept.")] = Storage.sqlite,
    patience: Annotated[float, typer.Option(help="Longest time between two kills, s.")] = 15.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Kill a study, its workers, its trainings or its database, again and again; nothing may be lost or differ.

    Moments fall in start, decoding (the cache is removed now and then), epochs, checkpoints and records alike. With
    several processes the sampler is "random", so that a trial does not depend on what has ended before it.

    Example: scripts/torture --kills 20 --workers 3 --storage postgresql --json
    """
    rng = random.Random(seed)  # noqa: S311  moments are no secrets
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        write_phantoms(folder / "images", n_images=160, seed=1)
        settings = {"PRUNER": pruner, "SAMPLER": "tpe"} if workers == 1 else {"PRUNER": "none", "SAMPLER": "random"}
        text = STUDY
        for key, value in settings.items():
            text = text.replace(key, value)
        (folder / "torture.toml").write_text(text)
        server = stack.enter_context(_server(storage, folder)) if storage != Storage.sqlite else None
        victims = stack.enter_context(Victims(folder, workers, server, rng))
        wanted = victims.disturb(kills, trials, patience)
        _command(folder, "twin", ["study", "torture.toml", "--trials", str(wanted), "--workers", str(workers)]).wait()
        compared = compare(_record(folder, "disturbed", server), _record(folder, "twin"))
    result: dict[str, Any] = {"workers": workers, "storage": storage.value, "kills": sum(victims.done.values())}
    result |= {"killed": dict(victims.done), **compared}
    print(json.dumps(result) if as_json else "\n".join(f"{key}: {value}" for key, value in result.items()))
    if any(result[key] for key in ("trials_lost", "trials_repeated", "histories_differing")):
        raise typer.Exit(1)


def _server(storage: Storage, folder: Path) -> AbstractContextManager[Server]:
    return postgres_server() if storage == Storage.postgresql else _served(folder)


class Victims(AbstractContextManager["Victims"]):
    """The processes of a disturbed study, its database among them, and how often each kind was killed."""

    def __init__(self, folder: Path, workers: int, server: Server | None, rng: random.Random) -> None:
        self.folder, self.workers, self.server, self.rng = folder, workers, server, rng
        self.done: Counter[str] = Counter()
        self.study: subprocess.Popen[bytes] | None = None
        self.worker: subprocess.Popen[bytes] | None = None
        self._spared = True  # whether no training of the present study process was killed

    def disturb(self, kills: int, trials: int, patience: float) -> int:
        """Kill so often, asking for more trials while there is too little to kill; return how many there were."""
        wanted = trials
        while True:
            self._start(wanted)
            if sum(self.done.values()) < kills:
                self._kill_one(self.rng.uniform(0.0, patience))
                if self.rng.random() < 0.2:
                    shutil.rmtree(self.folder / "disturbed" / "cache", ignore_errors=True)
            study = self._study()
            if sum(self.done.values()) >= kills:
                study.wait()
            if study.poll() == 0:
                if sum(self.done.values()) >= kills:
                    return wanted
                wanted += trials
            print(f"{dict(self.done)}, {wanted} trials asked for", file=sys.stderr)

    def _study(self) -> subprocess.Popen[bytes]:
        if self.study is None:
            raise RuntimeError("the study was never started")
        return self.study

    def _start(self, wanted: int) -> None:
        """Start what is not running."""
        storage = ["--storage", self.server.url()] if self.server else []
        if self.study is None or self.study.poll() is not None:
            own = max(1, self.workers - 1)
            arguments = ["study", "torture.toml", "--trials", str(wanted), "--workers", str(own), *storage]
            self._spared = True
            self.study = _command(self.folder, "disturbed", arguments, self.workers)
        if self.workers > 1 and (self.worker is None or self.worker.poll() is not None):
            arguments = ["worker", "--name", "torture", "--wait", "1m", *storage]
            self.worker = _command(self.folder, "disturbed", arguments, self.workers)

    def _kill_one(self, seconds: float) -> None:
        """Wait, and kill something that is still there."""
        study = self._study()
        try:
            study.wait(seconds)
            return
        except subprocess.TimeoutExpired:
            pass
        # A trial at which two processes of one study died has failed by rule: only one of them dies in this way.
        there = {"study": True, "training": self._spared, "worker": bool(self.worker), "database": bool(self.server)}
        kind = self.rng.choice([kind for kind, is_there in there.items() if is_there])
        if kind == "training" and not _trainings(study):
            return
        self._kill(kind, study)
        self.done[kind] += 1

    def _kill(self, kind: str, study: subprocess.Popen[bytes]) -> None:
        if kind == "database" and self.server:
            self.server.stop("immediate")
            self.server.start()
        elif kind == "worker" and self.worker:
            self.worker.kill()
        elif kind == "study":
            for child in _trainings(study):
                child.kill()
            study.kill()
        else:
            self._spared = False
            for child in _trainings(study)[:1]:
                child.kill()

    def __exit__(self, *_: object) -> None:
        for process in (self.study, self.worker):
            if process is not None:
                process.kill()
                process.wait()


def _trainings(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    try:
        children = psutil.Process(process.pid).children(recursive=True)
        return [child for child in children if TRAINING in " ".join(child.cmdline())]
    except psutil.NoSuchProcess:
        return []


def _command(folder: Path, results: str, arguments: list[str], workers: int = 1) -> subprocess.Popen[bytes]:
    """Start a command of the study; each training has its share of the cores, as the last digits depend on that."""
    command = [sys.executable, "-m", "pneumosearch", *arguments, "--data", "images", "--results", results, "--quiet"]
    environment = {**os.environ, **environments(workers)[0]}
    with (folder / f"{results}.log").open("ab") as log:
        return subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=log, env=environment)


def _record(folder: Path, results: str, server: Server | None = None) -> StudyRecord:
    url = server.url() if server else f"sqlite:///{folder / results}/pneumosearch.db"
    return Store(url, folder / results, must_exist=True).record("torture")


def compare(disturbed: StudyRecord, twin: StudyRecord) -> dict[str, int]:
    """Count trials of the twin that the disturbed study lost, has twice, or has with other numbers."""
    ended = [_essence(trial) for trial in disturbed.trials if trial.state in ("complete", "pruned")]
    runs = [essence["run"] for essence in ended]
    expected = [_essence(trial) for trial in twin.trials]
    lost = [essence for essence in expected if essence["run"] not in runs]
    return {
        "trials": len(expected),
        "trials_lost": len(lost),
        "trials_repeated": len(ended) - len(expected) + len(lost),
        "histories_differing": sum(essence not in ended for essence in expected if essence not in lost),
    }


def _essence(trial: TrialRecord) -> dict[str, Any]:
    """All of a trial but times and paths."""
    run = trial.run.model_dump() if trial.run else None
    history = [epoch.numbers() for epoch in trial.history]
    return {"number": trial.number, "state": trial.state, "run": run, "value": trial.value, "history": history}


if __name__ == "__main__":
    typer.run(torture)
