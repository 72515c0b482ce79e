"""Kills a real study with SIGKILL at random moments, goes on, and compares it with a twin that nobody disturbed."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import psutil
import typer

from pneumosearch.data.phantoms import write_phantoms
from pneumosearch.records import StudyRecord, TrialRecord
from pneumosearch.store import Store

STUDY = """
name = "torture"
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


def torture(
    kills: Annotated[int, typer.Option(min=1, help="Kills to reach.")] = 20,
    trials: Annotated[
        int, typer.Option(min=1, help="Trials of the study; more are asked for while kills are missing.")
    ] = 6,
    seed: Annotated[int, typer.Option(help="Of the moments.")] = 0,
    pruner: Annotated[str, typer.Option(help="Of the study.")] = "promote",
    patience: Annotated[float, typer.Option(help="Longest time between start and kill, s.")] = 15.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Kill a study, or only its training process, again and again; nothing may be lost, repeated or different.

    Moments fall in start, decoding (the cache is removed now and then), epochs, checkpoints and records alike.

    Example: scripts/torture --kills 20 --json
    """
    with tempfile.TemporaryDirectory() as name:
        folder, rng = Path(name), random.Random(seed)  # noqa: S311  moments are no secrets
        write_phantoms(folder / "images", n_images=160, seed=1)
        (folder / "torture.toml").write_text(STUDY.replace("PRUNER", pruner))
        done, wanted = _disturb(folder, kills, trials, patience, rng)
        _study(folder, "twin", wanted).wait()
        result = {"kills": done, **compare(_record(folder, "disturbed"), _record(folder, "twin"))}
    print(json.dumps(result) if as_json else "\n".join(f"{key}: {value}" for key, value in result.items()))
    if any(result[key] for key in ("trials_lost", "trials_repeated", "histories_differing")):
        raise typer.Exit(1)


def _disturb(folder: Path, kills: int, trials: int, patience: float, rng: random.Random) -> tuple[int, int]:
    """Return how many kills there were, and how many trials the study then had."""
    done, wanted = 0, trials
    while True:
        process = _study(folder, "disturbed", wanted)
        if done < kills:
            done += _kill_later(process, rng.uniform(0.0, patience), only_training=rng.random() < 0.5)
            if rng.random() < 0.2:
                shutil.rmtree(folder / "disturbed" / "cache", ignore_errors=True)
        process.wait()
        if process.returncode == 0:
            if done >= kills:
                return done, wanted
            wanted += trials
        print(f"{done} kills, {wanted} trials asked for", file=sys.stderr)


def _kill_later(process: subprocess.Popen[bytes], seconds: float, *, only_training: bool) -> int:
    """Wait and kill; 0 where the study, or its training process, had ended before."""
    try:
        process.wait(seconds)
        return 0
    except subprocess.TimeoutExpired:
        pass
    children = psutil.Process(process.pid).children(recursive=True)
    training = [child for child in children if TRAINING in " ".join(child.cmdline())]
    if not only_training:
        os.kill(process.pid, signal.SIGKILL)
    for child in training:
        child.kill()
    return 1 if training or not only_training else 0


def _study(folder: Path, results: str, trials: int) -> subprocess.Popen[bytes]:
    arguments = ["study", "torture.toml", "--trials", str(trials), "--data", "images", "--results", results, "--quiet"]
    with (folder / f"{results}.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "pneumosearch", *arguments], cwd=folder, stdout=subprocess.DEVNULL, stderr=log
        )


def _record(folder: Path, results: str) -> StudyRecord:
    return Store(f"sqlite:///{folder / results}/pneumosearch.db", folder / results, must_exist=True).record("torture")


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
