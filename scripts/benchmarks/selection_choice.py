"""What the choice of a criterion is worth: many small searches among configurations that were trained once."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer

from benchmarks.correlation import Array
from benchmarks.selection import CRITERIA, Truth, by_configuration, oriented, whole

_PLAIN = "accuracy"
_SEARCHES = 60  # of each resampled set of configurations


def selection_choice(
    tables: Annotated[list[Path], typer.Argument(help="Runs on phantoms, as `selection-runs` writes them.")],
    size: Annotated[int, typer.Option(min=2, help="Configurations of a search.")] = 16,
    samples: Annotated[int, typer.Option(min=10, help="Bootstrap samples.")] = 400,
    truth: Annotated[Truth, typer.Option(help="Figure of the test folder.")] = "balanced_accuracy",
    seed: Annotated[int, typer.Option(help="Of the draws.")] = 1,
) -> None:
    """Say what the configuration that each criterion chooses is worth on the test folder, beside plain accuracy's.

    A search draws configurations of a table, and a criterion chooses the best by each one's first training. The truth
    of a configuration is the mean over its trainings. The interval of 95% is a bootstrap over configurations. One line
    of JSON a criterion: the mean truth in %, and the difference from plain validation accuracy in points, by table and
    in the mean over the tables.

    Example: scripts/bench selection-choice results/selection/machine.csv results/selection/exposure.csv
    """
    runs = {table.stem: whole(pd.read_csv(table)) for table in tables}
    for row in choices(runs, size, samples, truth, seed):
        print(json.dumps(row))


def choices(
    runs: Mapping[str, pd.DataFrame], size: int, samples: int, truth: Truth, seed: int
) -> Iterator[dict[str, Any]]:
    """Yield each criterion that all tables have, the one with the largest mean difference first."""
    names = [name for name in CRITERIA if all(CRITERIA[name] in table for table in runs.values())]
    chosen = [_chosen(table, names, size, samples, truth, seed) for table in runs.values()]  # each (names, samples)
    differences = np.stack([each - each[names.index(_PLAIN)] for each in chosen])
    order = np.argsort(-differences.mean(axis=(0, 2)), kind="stable")
    for i in order:
        yield {
            "criterion": names[i],
            "truth": {table: round(float(each[i].mean()), 1) for table, each in zip(runs, chosen, strict=True)},
            "difference": {table: _told(each[i]) for table, each in zip(runs, differences, strict=True)},
            "mean_difference": _told(differences[:, i].mean(axis=0)),
        }


def _chosen(runs: pd.DataFrame, names: Sequence[str], size: int, samples: int, truth: Truth, seed: int) -> Array:
    """Return the mean truth in % of what each criterion chooses, as (criteria, bootstrap samples)."""
    true = 100 * by_configuration(runs, f"true_{truth}").mean(axis=1)
    seen = np.stack([oriented(runs, name)[:, 0] for name in names])
    rng = np.random.default_rng(seed)
    means = []
    for _ in range(samples):
        resampled = rng.choice(len(true), len(true))
        drawn = np.stack([rng.choice(resampled, size, replace=False) for _ in range(_SEARCHES)])
        best = seen[:, drawn].argmax(axis=2)  # (criteria, searches)
        means.append(true[drawn[np.arange(_SEARCHES), best]].mean(axis=1))
    return np.stack(means, axis=1)


def _told(differences: Array) -> list[float]:
    return [round(float(each), 1) for each in (differences.mean(), *np.quantile(differences, (0.025, 0.975)))]
