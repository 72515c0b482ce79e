"""What each value of a hyperparameter does to how a network does elsewhere, over configurations drawn at random."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer
from scipy.stats import ttest_ind

from benchmarks.selection import Truth
from pneumosearch.config import TrialConfig


def selection_effects(
    tables: Annotated[list[Path], typer.Argument(help="Runs on phantoms, as `selection-runs` writes them.")],
    truth: Annotated[Truth, typer.Option(help="Figure of the test folder.")] = "balanced_accuracy",
    where: Annotated[
        str, typer.Option(help="Only these configurations, in the words of pandas: 'ema_momentum > 0'.")
    ] = "",
) -> None:
    """Compare the configurations that have a value with those that have another, in the figure on the test folder.

    Values were drawn independently of each other, so that a difference is an effect of the value. Figures are the means
    over a configuration's trainings, as distances from the mean of their table, in points. One line of JSON a value: n
    with it and without it, the difference, and Welch's 95% interval, which knows nothing of how many values were
    looked at.

    Example: scripts/bench selection-effects results/selection/machine.csv results/selection/exposure.csv
    """
    runs = pd.concat([_by_configuration(table, truth, where) for table in tables])
    for row in effects(runs):
        print(json.dumps(row))


def _by_configuration(table: Path, truth: Truth, where: str) -> pd.DataFrame:
    """Return all fields and `points` of the configurations of a table but the baseline, which is not drawn."""
    runs = pd.read_csv(table)
    runs = runs[runs.configuration > 0]
    fields = [name for name in TrialConfig.model_fields if name in runs]
    baseline = TrialConfig().model_dump()
    first = runs.groupby("configuration")[fields].first()
    known = first.apply(lambda column: column.fillna(baseline[column.name])).infer_objects()
    known["points"] = 100 * runs.groupby("configuration")[f"true_{truth}"].mean()
    chosen = known.query(where) if where else known
    return chosen.assign(points=chosen.points - chosen.points.mean())


def effects(runs: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Yield the effect of each value that some of the runs have and some have not, field by field.

    Args:
        runs: A row a configuration: its fields, and `points`.
    """
    for field in [name for name in TrialConfig.model_fields if name in runs]:
        values: Sequence[Any] = sorted(runs[field].unique(), key=str)
        for value in values if 1 < len(values) <= 4 else ():  # more are draws from a range
            has = (runs[field] == value).to_numpy()
            points = runs.points.to_numpy(dtype=np.float64)
            if min(has.sum(), (~has).sum()) < 3:
                continue
            interval = ttest_ind(points[has], points[~has], equal_var=False).confidence_interval(0.95)
            yield {
                "field": field,
                "value": value.item() if isinstance(value, np.generic) else value,
                "n": int(has.sum()),
                "n_others": int((~has).sum()),
                "difference": round(float(points[has].mean() - points[~has].mean()), 2),
                "interval": [round(float(interval.low), 2), round(float(interval.high), 2)],
            }
