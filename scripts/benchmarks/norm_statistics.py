"""Effect of the batch-norm statistics on a search: the default search replayed on curves with both statistics."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import optuna
import pandas as pd
import typer

from benchmarks.common import print_result
from benchmarks.policies import Floats
from benchmarks.replay import promotions
from pneumosearch.search.pruners import PromotingPruner
from pneumosearch.studyfile import DEFAULT_REDUCTION_FACTOR, DEFAULT_RUNGS

#: Share of the trials, except the baseline, that are evaluated with precise statistics.
_SHARES: Final = {"moving": 0.0, "either, by chance": 0.5, "precise": 1.0}
_CHECKPOINTS: Final = (3, 5, 10, 20, 40)  # epochs
_LEVELS: Final = (0.95, 0.96)


def norm_statistics(
    table: Annotated[Path, typer.Argument(help="Learning curves with both statistics, as `curves` writes them.")],
    epochs: Annotated[int, typer.Option(min=1, help="Epochs of a search.")] = 80,
    seeds: Annotated[int, typer.Option(min=2, help="Searches of each kind.")] = 300,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Replay the default search on recorded curves with moving, either or precise batch-norm statistics.

    The first trial of the table, the baseline, always has moving statistics. The output is the best validation accuracy
    so far in percent, averaged over the searches, and the median number of epochs until it reached a level.

    Example: scripts/bench norm-statistics results/curves/curves-150px.csv
    """
    curves = [curve for _, curve in pd.read_csv(table).sort_values("epoch").groupby("trial")]
    rows = [
        _row(kind, [_search(curves, share, epochs, seed) for seed in range(seeds)]) for kind, share in _SHARES.items()
    ]
    print_result(
        {"n_curves": len(curves), "epochs": epochs, "seeds": seeds, "searches": rows},
        [list(row.values()) for row in rows],
        list(rows[0]),
        as_json,
    )


def _row(kind: str, searches: list[Floats]) -> dict[str, Any]:
    best = 100 * np.array(searches)  # (seeds, epochs)
    to_levels = {f"epochs to {100 * level:g} %": _epochs_to(100 * level, best) for level in _LEVELS}
    return {"statistics": kind, **{f"% after {n}": float(best[:, n - 1].mean()) for n in _CHECKPOINTS}, **to_levels}


def _epochs_to(level: float, best: Floats) -> float | None:
    """Return the median over the searches; None if half of them did not reach it."""
    reached = best >= level
    median = float(np.median(np.where(reached.any(axis=1), reached.argmax(axis=1) + 1.0, np.inf)))
    return median if np.isfinite(median) else None


def _search(curves: list[pd.DataFrame], share: float, epochs: int, seed: int) -> Floats:
    """Return the best accuracy so far, a fraction, after each epoch of a search."""
    pruner = PromotingPruner(DEFAULT_RUNGS, DEFAULT_REDUCTION_FACTOR)
    study, found = optuna.create_study(direction="maximize", pruner=pruner), list[float]()
    drawn, curve_of = _drawn(curves, share, seed), dict[int, tuple[pd.DataFrame, str]]()
    baseline = study.ask()
    curve_of[0] = curves[0], "validation_accuracy"
    _train(baseline, *curve_of[0], found, 0, 1)
    while len(found) < epochs:
        if 0 in curve_of and not pruner.defers_baseline(study):
            _train(baseline, *curve_of.pop(0), found, 1)
            study.tell(baseline, found[-1])
        for promotion in promotions(study)[:1]:
            study.enqueue_trial({}, user_attrs=promotion.attributes())
        trial = study.ask()
        trained = trial.user_attrs.get("continues_after", 0)
        curve_of[trial.number] = curve_of[trial.user_attrs["continues"]] if trained else next(drawn)
        if _train(trial, *curve_of[trial.number], found, trained):
            study.tell(trial, found[-1])
        else:
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
    return np.maximum.accumulate(found[:epochs])


def _drawn(curves: list[pd.DataFrame], share: float, seed: int) -> Iterator[tuple[pd.DataFrame, str]]:
    """Yield the curves after the first in random order, repeatedly, each with the column that evaluates it."""
    random = np.random.default_rng(seed)
    while True:
        for position in random.permutation(np.arange(1, len(curves))):
            yield curves[position], "validation_precise_accuracy" if random.random() < share else "validation_accuracy"


def _train(
    trial: optuna.Trial, curve: pd.DataFrame, judged_by: str, found: list[float], trained: int, until: int | None = None
) -> bool:
    """Run the epochs after `trained` until the pruner or `until` stops them; return whether the curve is complete."""
    accuracies, seen = curve[judged_by].tolist(), curve["validation_precise_auc"].tolist()
    for epoch in range(trained + 1, (until or len(seen)) + 1):
        trial.report(seen[epoch - 1], epoch)
        found.append(accuracies[epoch - 1])
        if epoch < len(seen) and trial.should_prune():
            return False
    return until is None
