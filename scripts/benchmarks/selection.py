"""What foretells how a configuration does elsewhere: every criterion against the truth, or one family by the others."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import numpy as np
import pandas as pd
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.correlation import Array, Correlation, correlation
from pneumosearch._utils.atomic import replacing
from pneumosearch.data.battery import BATTERY
from pneumosearch.data.families import FAMILIES
from pneumosearch.metrics import METRICS, direction

#: The name of a criterion, and its column in the table of runs. Larger is better, after `oriented`.
CRITERIA: Final = {
    **{name: f"validation_{name}" for name, kind in METRICS.items() if kind.judge != "precise"},
    "accuracy, brightness split": "brightness_accuracy",
    "AUC, brightness split": "brightness_auc",
    "worst copy": "worst_copy",  # `whole` adds it
}

Truth = Literal["accuracy", "balanced_accuracy", "auc"]


def selection(
    table: Annotated[Path, typer.Argument(help="Runs, as `selection-runs` writes them.")],
    truth: Annotated[Truth, typer.Option(help="Figure of the test folder that is to be foretold.")] = "accuracy",
    by_family: Annotated[bool, typer.Option(help="Foretell each family by the others instead of the truth.")] = False,
    picture: Annotated[Path | None, typer.Option(help="SVG file to draw.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Correlate every criterion with the truth, and say what the configuration that it chooses loses.

    Prints Spearman's rank correlation over configurations with a 95% bootstrap interval, by one training of each and by
    the mean over all its trainings; and the regret: how far the truth of the chosen configuration is from that of the
    best, in points. The truth of a configuration is the mean over its trainings of a figure of the test folder.
    Accuracy takes a network that calls all images ill for a fair one, where most are ill; the other two do not.

    With --by-family: does the mean balanced accuracy over five families foretell the sixth of the same network, and
    does plain validation?

    Example: scripts/bench selection results/selection/phantoms.csv --picture results/selection/phantoms.svg
    """
    runs = whole(pd.read_csv(table))
    rows = family_rows(runs) if by_family else criterion_rows(runs, truth)
    sizes = {"configurations": runs.configuration.nunique(), "trainings": len(runs)}
    if picture:
        _draw(picture, rows, f"{sizes['configurations']} configurations, {sizes['trainings']} trainings")
    if as_json:
        print(json.dumps({"table": str(table), **sizes, "rows": rows}))
        return
    shown = Table(title=f"{table}: {sizes['configurations']} configurations, {sizes['trainings']} trainings")
    for number, heading in enumerate(rows[0]):
        shown.add_column(heading.replace("_", " "), justify="right" if number else "left")
    for row in rows:
        shown.add_row(*map(_told, row.values()))
    Console(width=140).print(shown)


def criterion_rows(runs: pd.DataFrame, truth: Truth = "accuracy") -> list[dict[str, Any]]:
    """Return for each criterion its correlation with the truth and its regret, the best criterion first."""
    true = by_configuration(runs, f"true_{truth}").mean(axis=1)
    rows = [_criterion_row(name, oriented(runs, name), true) for name in CRITERIA if CRITERIA[name] in runs]
    return sorted(rows, key=lambda row: row["regret_repeated"])


def _criterion_row(name: str, seen: Array, truth: Array) -> dict[str, Any]:
    repeated = seen.mean(axis=1, keepdims=True)
    lost = 100 * (truth.max() - truth)  # points
    return {
        "criterion": name,
        "once": correlation(seen, truth),
        "regret_once": float(lost[seen.argmax(axis=0)].mean()),
        "repeated": correlation(repeated, truth),
        "regret_repeated": float(lost[repeated.argmax()]),
        "chosen": int(repeated.argmax()),
    }


def family_rows(runs: pd.DataFrame) -> list[dict[str, Any]]:
    """Return for each family how well the five others, and plain validation, foretell it on the same network."""
    scores = {family: by_configuration(runs, f"{family} accuracy") for family in FAMILIES}
    plain = {name: oriented(runs, name) for name in ("accuracy", "loss", "auc")}
    return [
        {
            "family": family,
            "other_families": correlation(
                _mean([scores[other] for other in FAMILIES if other != family]), scores[family]
            ),
            **{name: correlation(seen, scores[family]) for name, seen in plain.items()},
        }
        for family in FAMILIES
    ]


def _mean(arrays: Sequence[Array]) -> Array:
    return np.asarray(np.mean(arrays, axis=0))


def oriented(runs: pd.DataFrame, name: str) -> Array:
    """Return a criterion by configuration and training, so that larger is better."""
    values = by_configuration(runs, CRITERIA[name])
    return -values if METRICS.get(name) and direction(name) == "minimize" else values


def by_configuration(runs: pd.DataFrame, column: str) -> Array:
    """Return a column as (configurations, trainings)."""
    return np.asarray(runs.pivot(index="configuration", columns="seed", values=column), dtype=np.float64)


def whole(runs: pd.DataFrame) -> pd.DataFrame:
    """Leave out the configurations that lack a training, as an interrupted run leaves some; add the worst copy."""
    n = runs.groupby("configuration").seed.transform("nunique")
    copies = [column for column in runs if column.removesuffix(" accuracy") in BATTERY]
    known = runs[n == runs.seed.nunique()].copy()
    return known.assign(worst_copy=known[copies].min(axis=1)) if copies else known


def _told(value: object) -> str:
    match value:
        case None:
            return "all equal"
        case Correlation(value=value, low=low, high=high):
            return f"{value:.2f} ({low:.2f} to {high:.2f})"
        case float():
            return f"{value:.2f}"
    return str(value)


def _draw(path: Path, rows: Sequence[Mapping[str, Any]], title: str) -> None:
    """Draw each correlation of each row as a point with its interval."""
    from matplotlib.figure import Figure

    named = [str(next(iter(row.values()))) for row in rows]
    series = [key for key in rows[0] if any(isinstance(row[key], Correlation) for row in rows)]
    figure = Figure(figsize=(8, 0.32 * len(rows) * max(1, len(series) / 2) + 1.2), layout="constrained")
    axes = figure.subplots()
    for position, key in enumerate(series):
        offset = 0.7 * ((position + 0.5) / len(series) - 0.5)
        points = [(number + offset, row[key]) for number, row in enumerate(rows) if row[key] is not None]
        heights, found = zip(*points, strict=True)
        values, lows, highs = np.array(found).T
        axes.errorbar(
            values, heights, xerr=(values - lows, highs - values), fmt="o", ms=4, lw=1, label=key.replace("_", " ")
        )
    axes.set_yticks(range(len(rows)), named)
    axes.invert_yaxis()
    axes.axvline(0, color="grey", lw=0.8)
    axes.set(xlabel="Spearman's rank correlation, 95% interval", title=title)
    axes.legend(fontsize="small")
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="svg")
