"""Results of the live race: each run as a curve over time, and each side as a row."""

import json
import math
import statistics
from bisect import bisect_right
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from scipy.stats import binom

from benchmarks.live_incumbents import JUDGED, epoch_lines
from benchmarks.live_sides import EPOCHS_FILE, OURS

Runs = Mapping[str, Sequence["Run"]]  # by side, in the order of the seeds

MEASURES: Final = ("accuracy", "auc")
#: By which incumbents are judged: plain validation, and the battery of crafted shifts.
JUDGED_BY: Final = (*MEASURES, "shift_accuracy", "shift_auc", "worst_family")
SUMMARY: Final = "summary.json"
NEAR_BEST: Final = 0.005  # fraction of validation accuracy
_SHARES: Final = (0.1, 0.25, 0.5, 1.0)  # of the budget
_COVERAGE: Final = 0.9  # minimum coverage of an interval, if there are enough seeds
ROUNDING: Final = 1e-6  # of metrics, which some sides compute in float32


@dataclass(frozen=True)
class Run:
    """A run of one side with one seed."""

    seconds: list[float]  # when each epoch ended
    best: dict[str, list[float]]  # {metric: best validation value of any epoch so far}, fractions
    first_trial: float | None  # best validation accuracy of its first trial
    trials: int
    summary: dict[str, Any]
    judged: Sequence[Mapping[str, Any]] = ()  # its incumbents

    @classmethod
    def read(cls, folder: Path) -> "Run":
        """Read the folder of a finished run, without epochs that ended after its time."""
        summary = json.loads((folder / SUMMARY).read_text())
        judged = folder / JUDGED
        lines = [line for line in epoch_lines(folder / EPOCHS_FILE) if line["seconds"] <= summary["budget_s"]]
        lines.sort(key=lambda line: line["seconds"])
        first = [line["val_accuracy"] for line in lines if line["trial"] == lines[0]["trial"]]
        return cls(
            seconds=[line["seconds"] for line in lines],
            best={measure: _running_best([line[f"val_{measure}"] for line in lines]) for measure in MEASURES},
            first_trial=max(first, default=None),
            trials=len({line["trial"] for line in lines}),
            summary=summary,
            judged=json.loads(judged.read_text()) if judged.exists() else (),
        )

    @property
    def budget(self) -> float:
        """Seconds that it had."""
        return float(self.summary["budget_s"])

    def at(self, seconds: float, measure: str = "accuracy") -> float:
        """Return the best value within these seconds; -inf before the first epoch."""
        position = bisect_right(self.seconds, seconds) - 1
        return self.best[measure][position] if position >= 0 else -math.inf

    def final(self, measure: str = "accuracy") -> float:
        """Return the best value of the run."""
        return self.at(math.inf, measure)

    def reaches(self, target: float) -> float:
        """Return the seconds until the validation accuracy reached `target`; inf if it never did."""
        reached = (s for s, best in zip(self.seconds, self.best["accuracy"], strict=True) if best >= target - ROUNDING)
        return next(reached, math.inf)


def _running_best(values: Sequence[float]) -> list[float]:
    best: list[float] = []
    for value in values:
        best.append(max(value, best[-1]) if best else value)
    return best


def read_runs(output: Path, sides: Iterable[str]) -> dict[str, list[Run]]:
    """Return the finished runs of each side that has any, whenever and wherever they ran."""
    found = {side: [Run.read(path.parent) for path in (output / "runs" / side).glob(f"*/{SUMMARY}")] for side in sides}
    return {side: sorted(own, key=lambda run: run.summary["seed"]) for side, own in found.items() if own}


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """Return (low, median, high) with distribution-free bounds of the median (see `coverage`)."""
    ordered, inside = sorted(values), _rank(len(values))
    return ordered[inside], statistics.median(ordered), ordered[len(ordered) - 1 - inside]


def coverage(n: int) -> float:
    """Return the probability that the bounds of `spread`, of n values, contain the median of their distribution.

    Source:
        Conover, Practical Nonparametric Statistics, 3rd edition (1999), section 3.2.
    """
    return float(1 - 2 * binom.cdf(_rank(n), n, 0.5)) if n > 1 else 0.0


def _rank(n: int) -> int:
    """Return the number of values outside each bound."""
    return max((k for k in range((n + 1) // 2) if 1 - 2 * binom.cdf(k, n, 0.5) >= _COVERAGE), default=0)


def times_of(budgets: Collection[float]) -> list[float]:
    """Return the seconds of a race at which tables compare its sides: all budgets, and shares of the longest."""
    return sorted({*budgets, *(share * max(budgets) for share in _SHARES)})


def results(runs: Runs, baseline_accuracy: float | None) -> dict[str, Any]:
    """Return all results of a race as plain values; None where a target was not reached or a run is missing.

    A side with less time than others has after its end what it had at its end.
    """
    targets = _targets(runs, baseline_accuracy)
    budgets = {run.budget for own in runs.values() for run in own}
    times = times_of(budgets)
    return {
        "budget_s": max(budgets),
        "times_s": times,
        "seeds": {side: len(own) for side, own in runs.items()},
        "coverage": {str(n): coverage(n) for n in sorted({len(own) for own in runs.values()}, reverse=True)},
        **targets,
        "sides": [_row(side, own, times, targets) for side, own in runs.items()],
        "ratios": [_ratio(side, own, runs[OURS]) for side, own in runs.items() if OURS in runs and side != OURS],
    }


def _targets(runs: Runs, baseline_accuracy: float | None) -> dict[str, float | None]:
    firsts = [run.first_trial for run in runs.get(OURS, ()) if run.first_trial is not None]
    if baseline_accuracy is None and firsts:
        baseline_accuracy = statistics.median_low(firsts)
    finals = [run.final() for own in runs.values() for run in own]
    best = max((final for final in finals if math.isfinite(final)), default=None)
    return {"baseline_accuracy": baseline_accuracy, "best_found": best}


def _row(side: str, own: Sequence[Run], times: Sequence[float], targets: Mapping[str, float | None]) -> dict[str, Any]:
    baseline, best = targets["baseline_accuracy"], targets["best_found"]
    row: dict[str, Any] = {"side": side, "budget_s": max(run.budget for run in own)}
    for measure in MEASURES:
        row[f"best_{measure}"] = [_of([run.at(t, measure) for run in own]) for t in times]
    row["seconds_to_baseline"] = _of([run.reaches(baseline) for run in own]) if baseline is not None else None
    row["seconds_to_near_best"] = _of([run.reaches(best - NEAR_BEST) for run in own]) if best is not None else None
    row["epochs"] = _of([len(run.seconds) for run in own])
    row["trials"] = _of([run.trials for run in own])
    row["peak_mib"] = _of([run.summary["peak_mib"] for run in own])
    row["failures"] = sum(run.summary["failures"] for run in own)
    row["incumbents"] = _incumbents(own)
    return row


def _incumbents(own: Sequence[Run]) -> list[dict[str, Any]]:
    """Return for each time at which incumbents of a side were judged their number and their figures."""
    judged = [each for run in own for each in run.judged]
    by_time = {seconds: [each for each in judged if each["after_s"] == seconds] for seconds in _times(judged)}
    return [
        {"after_s": seconds, "n": len(then), **{name: _of([each[name] for each in then]) for name in JUDGED_BY}}
        for seconds, then in by_time.items()
    ]


def _times(judged: Iterable[Mapping[str, Any]]) -> list[float]:
    return sorted({each["after_s"] for each in judged})


def _of(values: Sequence[float]) -> dict[str, float | None]:
    """Return {low, median, high} of one value per run; None for infinite ones."""
    names = ("low", "median", "high")
    return {n: value if math.isfinite(value) else None for n, value in zip(names, spread(values), strict=True)}


def _ratio(side: str, theirs: Sequence[Run], ours: Sequence[Run]) -> dict[str, Any]:
    """Compare the median times at which each side reaches the median final best of the other."""
    target = statistics.median_low([run.final() for run in theirs])
    if not math.isfinite(target):
        return {"side": side, "final_accuracy": None, "seconds": None, "our_seconds": None, "faster_by": None}
    seconds, our_seconds = (statistics.median([run.reaches(target) for run in own]) for own in (theirs, ours))
    reached = math.isfinite(our_seconds)
    return {
        "side": side,
        "final_accuracy": target,
        "seconds": seconds,
        "our_seconds": our_seconds if reached else None,
        "faster_by": seconds / our_seconds if reached else None,
    }
