"""Comparison of searches: policies replayed on recorded curves, or libraries live."""

import json
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.live import race
from benchmarks.live_sides import SIDES
from benchmarks.policies import ReplayMetric, replay_policies

_REPLAYED = Path("studies/curves-75.toml")
_REPLAY_SEEDS, _LIVE_SEEDS = 30, 5


def search(
    replay: Annotated[Path | None, typer.Option(help="Learning curves, as `curves` writes them.")] = None,
    live: Annotated[bool, typer.Option("--live", help="Race pneumosearch against other libraries.")] = False,
    space: Annotated[
        Path | None,
        typer.Option(help="Study file.", show_default="live: the default study; else studies/curves-75.toml"),
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Searches of each policy or side. Live: 0 only writes page and picture of the runs that are there.",
            show_default="live: 5; else 30",
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(min=1, help="Live: only the runs with this seed.")] = None,
    metric: Annotated[ReplayMetric, typer.Option(help="Replay: objective of the search.")] = "accuracy",
    picture: Annotated[Path | None, typer.Option(help="Replay: SVG file of the anytime curves.")] = None,
    seen: Annotated[
        Path | None, typer.Option(help="Replay: curves of the same seeds whose epochs the pruner sees.")
    ] = None,
    by: Annotated[str, typer.Option(help="Replay: column that the pruner sees: auc, precise_auc.")] = "auc",
    data: Annotated[
        Path | None, typer.Option(envvar="PNEUMOSEARCH_DATA", help="Live: folder of X-rays or phantoms.")
    ] = None,
    output: Annotated[
        Path, typer.Option(help="Live: folder of the race; runs that are there are not run again.")
    ] = Path("results/race"),
    budget: Annotated[
        str, typer.Option(help="Live: wall-clock time per run, such as 30m; 60m,pneumosearch=20m for some sides less.")
    ] = "30m",
    size: Annotated[int | None, typer.Option(help="Live: side of the images, pixels.", show_default="the study's")] = (
        None
    ),
    share: Annotated[float, typer.Option(min=0.01, max=1.0, help="Live: share of the training patients.")] = 1.0,
    sides: Annotated[str, typer.Option(help="Live: sides of the race.")] = ",".join(SIDES),
    baseline_accuracy: Annotated[
        float | None,
        typer.Option(min=0.0, max=1.0, help="Live: to be reached.", show_default="that of pneumosearch's first trial"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Compare search policies on recorded curves, or libraries live: in turn, each for its time.

    Example: scripts/bench search --replay results/curves/curves-75px.csv --picture results/replay.svg

    The race at full size, which may take several days with one --seed or some --sides at a time: scripts/bench search
    --live --data chest_xray --space studies/hour.toml --budget 60m,pneumosearch=20m,pneumosearch-default=20m --seeds 3
    --output results/race-hour --sides pneumosearch,pneumosearch-default,keras-tuner-random,keras-tuner-bayesian,optuna
    """
    if (replay is None) != live:
        raise typer.BadParameter("wanted either --replay CURVES.csv or --live")
    if replay is not None:
        n_seeds = seeds or _REPLAY_SEEDS
        replay_policies(replay, space or _REPLAYED, metric, n_seeds, picture, seen=seen, by=by, as_json=as_json)
        return
    if data is None:
        raise typer.BadParameter("--live needs --data DIR")
    figures = race(
        data,
        output,
        space,
        size=size,
        share=share,
        budget=budget,
        seeds=[seed] if seed is not None else range(1, 1 + (_LIVE_SEEDS if seeds is None else seeds)),
        sides=sides.split(","),
        baseline_accuracy=baseline_accuracy,
    )
    print(json.dumps(figures, indent=1) if as_json else (output / "race.md").read_text())
