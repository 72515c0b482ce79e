"""Benchmarks of pneumosearch, one command each. All published measurements come from them."""

import sys

import typer

from benchmarks.augmentation import augmentation
from benchmarks.fidelity import fidelity
from benchmarks.kept_epochs import kept_epochs
from benchmarks.laboratory import laboratory
from benchmarks.learning import learning
from benchmarks.norm_statistics import norm_statistics
from benchmarks.precision import precision
from benchmarks.remarks import remarks
from benchmarks.replay import curves, pruners
from benchmarks.rungs import rungs
from benchmarks.scale import scale
from benchmarks.search import search
from benchmarks.selection import selection
from benchmarks.selection_choice import selection_choice
from benchmarks.selection_effects import selection_effects
from benchmarks.selection_runs import selection_runs
from benchmarks.startup import startup
from benchmarks.storages import storages
from benchmarks.thresholds import thresholds
from benchmarks.training import training
from benchmarks.trial import trial
from pneumosearch.errors import PneumosearchError

app = typer.Typer(help="Measure pneumosearch.", no_args_is_help=True, pretty_exceptions_enable=False)
for command in (
    training,
    trial,
    augmentation,
    startup,
    rungs,
    scale,
    curves,
    pruners,
    fidelity,
    search,
    selection,
    selection_choice,
    selection_effects,
    selection_runs,
    thresholds,
    kept_epochs,
    storages,
    precision,
    norm_statistics,
    laboratory,
    remarks,
    learning,
):
    app.command()(command)

if __name__ == "__main__":
    try:
        app()
    except PneumosearchError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from error
