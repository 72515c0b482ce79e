"""Searches informed by earlier studies, replayed on recorded learning curves: what they save, and what they cost."""

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import optuna
import typer

from benchmarks.common import print_result
from benchmarks.policies import POLICIES, Course, Recorded, ReplayMetric, course_of
from pneumosearch.records.earlier import EarlierStudy, EarlierTrial
from pneumosearch.search.earlier import from_csv
from pneumosearch.search.informed import WEIGHT, Weight

_DEFAULT = next(policy for policy in POLICIES if "default" in policy.name)
_PART = 50  # curves that play the earlier study
_BUDGETS = (50, 100)  # epochs


@dataclass(frozen=True)
class _Replay:
    """One search: its number, the table that it is replayed on, and what informs it."""

    table: Path
    study_file: Path
    metric: ReplayMetric
    seed: int
    earlier: EarlierStudy | None = None
    part: bool = False  # without the curves that play the earlier study
    informed_by_part: bool = False
    reverse: bool = False  # the earlier ranks, so that the good ones come last
    weight: Weight = WEIGHT


def learning(
    earlier: Annotated[list[Path], typer.Argument(help="CSV files of earlier studies, as `report` writes them.")],
    replay: Annotated[Path, typer.Option(help="Learning curves, as `curves` writes them.")] = Path(
        "results/curves/curves-75px.csv"
    ),
    space: Annotated[Path, typer.Option(help="Study file of the curves.")] = Path("studies/curves-75.toml"),
    metric: Annotated[ReplayMetric, typer.Option(help="Objective of the search.")] = "accuracy",
    seeds: Annotated[int, typer.Option(min=3, help="Searches for each row.")] = 20,
    counts: Annotated[float, typer.Option(help="Trials of this study that earlier ones count as.")] = WEIGHT.counts,
    proof: Annotated[float, typer.Option(help="Trials of agreement assumed; inf looks at none.")] = WEIGHT.proof,
    level: Annotated[float, typer.Option(min=0, help="To be reached: points below the best of the table.")] = 0.6,
    jobs: Annotated[int, typer.Option(min=1, help="Processes.")] = 2,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Replay the default search on recorded curves with and without earlier studies, and with their ranks reversed.

    Each file is one earlier study, less its trials of configurations that are among the curves. In the rows "50 of the
    curves" that many, drawn anew for each search, are the earlier study, and the search is replayed on the others.
    Intervals are 95 %: of medians by order, of means by Student's t.

    Example: scripts/bench learning results/hour.csv results/small.csv results/wide.csv
    """
    weight = replace(WEIGHT, counts=counts, proof=proof)
    recorded = Recorded.read(replay, space, metric)
    base = partial(_Replay, replay, space, metric, weight=weight)
    studies = {path.name: apart(from_csv(path, recorded.space), recorded) for path in earlier}
    with ProcessPoolExecutor(jobs) as pool:
        rows = _rows(base, studies, seeds, level, lambda replays: list(pool.map(_replayed, replays)))
    cells = [tuple(row.values()) for row in rows]
    print_result({"seeds": seeds, "metric": metric, "rows": rows}, cells, list(rows[0]), as_json)


def apart(study: EarlierStudy, recorded: Recorded) -> EarlierStudy:
    """Leave out the trials whose configuration is a recorded one: searches with one seed begin with the same."""
    trials = [
        trial for trial in study.trials if all(trial.values.items() - each.items() for each in recorded.configurations)
    ]
    return study.model_copy(update={"trials": tuple(trials)})


def _rows(
    base: Callable[..., _Replay],
    studies: dict[str, EarlierStudy],
    seeds: int,
    level: float,
    run: Callable[[list[_Replay]], list[tuple[Course, float]]],
) -> list[dict[str, Any]]:
    def searches(**settings: Any) -> list[tuple[Course, float]]:
        return run([base(seed, **settings) for seed in range(seeds)])

    rows = [_row("nothing", searches(), level)]
    for name, study in studies.items():
        for reverse in (False, True):
            rows.append(_row(name + " reversed" * reverse, searches(earlier=study, reverse=reverse), level))
    rows.append(_row("nothing, on the other curves", searches(part=True), level))
    for reverse in (False, True):
        found = searches(part=True, informed_by_part=True, reverse=reverse)
        rows.append(_row(f"{_PART} of the curves" + " reversed" * reverse, found, level))
    return rows


def _replayed(replay: _Replay) -> tuple[Course, float]:
    """Return the course of a search, and the best value of its table."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    recorded = _read(replay.table, replay.study_file, replay.metric)
    order = np.random.default_rng(replay.seed).permutation(len(recorded.curves)).tolist()
    study = replay.earlier
    if replay.informed_by_part:
        study = recorded.as_study(order[:_PART])
    if study and replay.reverse:
        study = study.model_copy(update={"trials": tuple(_reversed(trial) for trial in study.trials)})
    table = recorded.only(order[_PART:]) if replay.part else recorded
    course = course_of(_DEFAULT, table, replay.seed, [study] if study else [], replay.weight)
    return course, max(table.values)


@cache
def _read(table: Path, study_file: Path, metric: ReplayMetric) -> Recorded:
    return Recorded.read(table, study_file, metric)


def _reversed(trial: EarlierTrial) -> EarlierTrial:
    return trial.model_copy(update={"score": 1 - trial.score})


def _row(name: str, searches: Sequence[tuple[Course, float]], level: float) -> dict[str, Any]:
    """Return a row: median epochs to the level, and mean distances to the best of the table in points."""
    reached = [
        next((n for n, value in zip(course.epochs, course.best, strict=True) if 100 * (best - value) <= level), np.inf)
        for course, best in searches
    ]
    regret = {
        f"regret at {budget}": _mean([100 * (best - course.at(budget)) for course, best in searches])
        for budget in (*_BUDGETS, 10_000)
    }
    never = int(np.isinf(reached).sum())
    words = {"regret at 10000": "regret in the end"}
    return {"informed by": name, "epochs to the level": _median(reached), "never": never} | {
        words.get(key, key): text for key, text in regret.items()
    }


def _median(values: Sequence[float]) -> str:
    """Return the median and its interval, whose ends are two of the values."""
    from scipy.stats import binom

    ordered = sorted(values)
    k = max(1, int(binom.ppf(0.025, len(ordered), 0.5)))
    return f"{np.median(ordered):.0f} ({ordered[k - 1]:.0f} to {ordered[-k]:.0f})"


def _mean(values: Sequence[float]) -> str:
    from pneumosearch.intervals import mean_interval

    low, high = mean_interval(values)
    return f"{np.mean(values):.2f} ({low:.2f} to {high:.2f})"
