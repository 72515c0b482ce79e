"""Comparison of training in bfloat16 and in float32 on the same seeds."""

import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from benchmarks.common import print_result
from pneumosearch.cli.live.epochs import EpochView
from pneumosearch.config import RunSpec, TrialConfig
from pneumosearch.data.manifest import read_manifest
from pneumosearch.data.protocols import DataSource
from pneumosearch.intervals import mean_interval, pooled_deviation, sample_deviation
from pneumosearch.records.epoch import kept_epoch
from pneumosearch.records.trial import TrialRecord
from pneumosearch.search.runner import train_once
from pneumosearch.search.session import Session, StopFlag, stopping_on_ctrl_c
from pneumosearch.storage.store import Store
from pneumosearch.storage.urls import sqlite_url

STUDY: Final = "precision"
PRECISIONS: Final = ("float32", "bfloat16")
#: Compared metrics: {name: how it is read from a training}.
FIGURES: Final[dict[str, Callable[[TrialRecord], float]]] = {
    "kept accuracy": lambda trial: kept_epoch(trial.history, "best").validation_accuracy or 0.0,
    "kept AUC": lambda trial: kept_epoch(trial.history, "best").validation_auc or 0.0,
    "best accuracy": lambda trial: max(epoch.validation_accuracy or 0.0 for epoch in trial.history),
    "best AUC": lambda trial: max(epoch.validation_auc or 0.0 for epoch in trial.history),
    "seconds an epoch": lambda trial: statistics.median(epoch.seconds for epoch in trial.history[1:]),
}


def precision(
    data: Annotated[Path, typer.Option(help="Folder of X-rays or phantoms.")],
    output: Annotated[Path, typer.Option(help="Folder for the store of the trainings; an existing one is resumed.")],
    seeds: Annotated[int, typer.Option(min=2, help="Number of trainings in each precision.")] = 5,
    epochs: Annotated[int, typer.Option(min=2, help="Epochs per training.")] = 10,
    size: Annotated[int, typer.Option(help="Side of the images, pixels.")] = 150,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Train the baseline in float32 and bfloat16 alternately on the same seeds, evaluated on validation images.

    Prints the difference (bfloat16 minus float32) with Student's 95% interval over the pairs of a seed, and for
    comparison the standard deviation over seeds within a precision.

    Example: scripts/bench precision --data chest_xray --output /tmp/precision
    """
    output.mkdir(parents=True, exist_ok=True)
    store = Store(sqlite_url(output.resolve() / "trials.db"), output)
    source, stop = DataSource(read_manifest(data), output), StopFlag()
    config = TrialConfig(epochs=epochs, image_size=size)
    runs = [
        RunSpec(config=config, seed=seed, protocol="holdout", precision=precision_)
        for seed in range(seeds)
        for precision_ in PRECISIONS
    ]
    with EpochView(source.manifest.kind, quiet=as_json) as view, stopping_on_ctrl_c(stop, view.say):
        trials = [_trained(Session(store, source, view, stop, view.steps_every), run) for run in runs]
    compared = {name: comparison(trials[0::2], trials[1::2], figure) for name, figure in FIGURES.items()}
    rows = [(name, *row.values()) for name, row in compared.items()]
    headings = ("figure", *next(iter(compared.values())))
    print_result({"seeds": seeds, "epochs": epochs, "size": size, **compared}, rows, headings, as_json)


def _trained(session: Session, run: RunSpec) -> TrialRecord:
    """Return the complete training of `run` in the store, or train it."""
    stored = session.store.record(STUDY).trials if STUDY in session.store.names() else ()
    found = next((trial for trial in stored if trial.run == run and trial.state == "complete"), None)
    found = found or train_once(session, STUDY, "rerun", run)
    if found is None:
        print("stopped after a saved epoch; run the same command again to resume", file=sys.stderr)
        raise typer.Exit(130)
    return found


def comparison(
    float32: Sequence[TrialRecord], bfloat16: Sequence[TrialRecord], figure: Callable[[TrialRecord], float]
) -> dict[str, Any]:
    """Return means, deviations and the difference with its interval; both lists are sorted by seed."""
    first, second = [figure(trial) for trial in float32], [figure(trial) for trial in bfloat16]
    low, high = mean_interval([b - a for a, b in zip(first, second, strict=True)])
    return {
        "float32": statistics.mean(first),
        "deviation": sample_deviation(first),
        "bfloat16": statistics.mean(second),
        "its deviation": sample_deviation(second),
        "difference": statistics.mean(second) - statistics.mean(first),
        "from": low,
        "to": high,
        "deviation within": pooled_deviation([first, second]),
    }
