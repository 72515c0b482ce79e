"""Kills the processes of a real study at random times, resumes it, and compares it with an undisturbed twin."""

import json
import random
import sys
import tempfile
from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from pneumosearch.data.phantoms import write_phantoms
from pneumosearch.records.trial import StudyRecord, TrialRecord
from pneumosearch.storage.store import Store
from pneumosearch.storage.urls import sqlite_url
from tests.support.hosts import network
from tests.support.mariadb import mariadb_server
from tests.support.postgres import postgres_server
from tests.support.victims import (
    HostVictims,
    LocalVictims,
    RayVictims,
    Server,
    Stuck,
    Victims,
    command,
    ended,
    served,
    tail,
)

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


class Storage(StrEnum):
    """Storage of the disturbed study; its twin is always in an SQLite file."""

    sqlite = "sqlite"
    postgresql = "postgresql"
    mysql = "mysql"
    grpc = "grpc"


class Place(StrEnum):
    """Executor of the disturbed study."""

    local = "local"
    ray = "ray"
    hosts = "hosts"


def torture(
    kills: Annotated[int, typer.Option(min=1, help="Number of kills.")] = 20,
    trials: Annotated[
        int, typer.Option(min=1, help="Trials of the study; more are added until the number of kills is reached.")
    ] = 6,
    seed: Annotated[int, typer.Option(help="Seed of the random times.")] = 0,
    pruner: Annotated[str, typer.Option(help="Pruner for one process; several processes use none.")] = "promote",
    workers: Annotated[
        int,
        typer.Option(min=1, help="Training processes. One of several is a worker that joins the study."),
    ] = 1,
    executor: Annotated[
        Place,
        typer.Option(
            help="Where they run: on this machine, on nodes of a Ray cluster on it, or on machines of their own in "
            "network namespaces (Linux, root), which get cut off; the first of these serves the storage by gRPC."
        ),
    ] = Place.local,
    storage: Annotated[Storage, typer.Option(help="Storage of the study.")] = Storage.sqlite,
    patience: Annotated[float, typer.Option(help="Maximum time between two kills in seconds.")] = 15.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Kill a study, its workers, trainings, nodes, network or database repeatedly. No trial may be lost or differ.

    The kills hit start-up, decoding (the cache is deleted from time to time), epochs, checkpoints and writes to the
    storage. With several processes the sampler is "random", so that a trial does not depend on earlier results.

    Example: scripts/torture --kills 20 --workers 3 --storage postgresql --json
    """
    if executor == Place.hosts and (workers < 2 or storage != Storage.grpc):
        raise typer.BadParameter("hosts wants --workers 2 or more, and --storage grpc")
    rng = random.Random(seed)  # noqa: S311  not secret
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        write_phantoms(folder / "images", n_images=160, seed=1)
        settings = {"PRUNER": pruner, "SAMPLER": "tpe"} if workers == 1 else {"PRUNER": "none", "SAMPLER": "random"}
        text = STUDY
        for key, value in settings.items():
            text = text.replace(key, value)
        (folder / "torture.toml").write_text(text)
        victims = _victims(stack, executor, folder, workers, storage, rng)
        try:
            wanted = victims.disturb(kills, trials, patience)
            twin = command(folder, "twin", ["study", "torture.toml", "--trials", str(wanted)])
            ended(twin, folder, "twin.log")
            if twin.returncode:
                raise Stuck(f"the twin ended with exit code {twin.returncode}\n{tail(folder / 'twin.log')}")
        except Stuck as stuck:
            print(f"stuck after {dict(victims.done)}: {stuck}", file=sys.stderr)
            raise typer.Exit(1) from stuck
        undisturbed = Store(sqlite_url(folder / "twin" / "pneumosearch.db"), folder / "twin", must_exist=True)
        disturbed = Store(victims.stored(), folder / "disturbed", must_exist=True)
        compared = compare(disturbed.record("torture"), undisturbed.record("torture"))
    result: dict[str, Any] = {"executor": executor.value, "workers": workers, "storage": storage.value}
    result |= {"kills": sum(victims.done.values()), "killed": dict(victims.done), **compared}
    print(json.dumps(result) if as_json else "\n".join(f"{key}: {value}" for key, value in result.items()))
    if any(result[key] for key in ("trials_lost", "trials_repeated", "histories_differing")):
        raise typer.Exit(1)


def _victims(
    stack: ExitStack, executor: Place, folder: Path, workers: int, storage: Storage, rng: random.Random
) -> Victims:
    if executor == Place.hosts:
        return stack.enter_context(HostVictims(stack.enter_context(network()), folder, workers, rng))
    server: Server | None = None
    if storage == Storage.postgresql:
        server = stack.enter_context(postgres_server())
    elif storage == Storage.mysql:
        server = stack.enter_context(mariadb_server())
    elif storage == Storage.grpc:
        server = stack.enter_context(served(folder))
    kind = RayVictims if executor == Place.ray else LocalVictims
    return stack.enter_context(kind(folder, workers, server, rng))


def compare(disturbed: StudyRecord, twin: StudyRecord) -> dict[str, int]:
    """Count the trials of the twin that are lost, repeated or different in the disturbed study."""
    ended = [_essence(trial) for trial in disturbed.trials if trial.state in ("complete", "pruned")]
    runs = [essence["run"] for essence in ended]
    expected = [_essence(trial) for trial in twin.trials]
    lost = [essence for essence in expected if essence["run"] not in runs]
    differing = [essence for essence in expected if essence not in [*ended, *lost]]
    counts = {"trials_lost": len(lost), "trials_repeated": len(ended) - len(expected) + len(lost)}
    counts["histories_differing"] = len(differing)
    if any(counts.values()):
        for name, study in (("disturbed", disturbed), ("twin", twin)):
            print(
                f"{name}:",
                *(_essence(trial) | {"failure": trial.failure} for trial in study.trials),
                sep="\n",
                file=sys.stderr,
            )
    return {"trials": len(expected), **counts}


def _essence(trial: TrialRecord) -> dict[str, Any]:
    """Return all values of a trial except times and paths."""
    run = trial.run.model_dump() if trial.run else None
    history = [[epoch.numbers() for epoch in one] for one in trial.histories]
    return {"number": trial.number, "state": trial.state, "run": run, "value": trial.value, "history": history}


if __name__ == "__main__":
    typer.run(torture)
