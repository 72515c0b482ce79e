"""Search policies replayed on recorded learning curves: regret against epochs and seconds, and a plot."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import optuna
import pandas as pd
from matplotlib.figure import Figure
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner
from rich.console import Console
from rich.table import Table
from scipy.stats import rankdata

from benchmarks.common import circumstances
from benchmarks.replay import kept_epoch, last_epoch, promotions
from pneumosearch._utils.atomic import replacing
from pneumosearch.records.earlier import EarlierStudy, EarlierTrial
from pneumosearch.search.earlier import ranks
from pneumosearch.search.informed import WEIGHT, InformedSampler, Weight
from pneumosearch.search.pruners import PromotingPruner
from pneumosearch.search.samplers import derived_seed, make_sampler
from pneumosearch.space import Scalar, Space
from pneumosearch.studyfile import read_study_file

TRIALS, EPOCHS = 50, 10
CHECKPOINTS = (50, 100, 150, 250, 500)  # epochs at which regret is reported
ReplayMetric = Literal["accuracy", "auc"]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Policy:
    """A sampler and a pruner."""

    name: str
    sampler: str = "tpe"
    pruner: Callable[[], BasePruner] = NopPruner
    trials: int = TRIALS
    best_after_one: int = 0  # if not 0: train each trial for one epoch, then this many of the best completely


POLICIES = (
    Policy("random", "random"),
    Policy("random, twice the budget", "random", trials=2 * TRIALS),
    Policy("one epoch, then the best 5", "random", best_after_one=5),
    Policy("TPE", "tpe"),
    Policy("TPE + median (Optuna's)", "tpe", MedianPruner),
    Policy("TPE + Hyperband", "tpe", partial(HyperbandPruner, min_resource=1, max_resource=EPOCHS)),
    Policy("TPE + median, start 8, warm-up 1", "tpe", partial(MedianPruner, n_startup_trials=8, n_warmup_steps=1)),
    Policy("TPE + promote at 1, by 4 (default)", "tpe", partial(PromotingPruner, (1,), 4)),
    Policy("TPE + promote at 1, 3, by 3", "tpe", partial(PromotingPruner, (1, 3), 3)),
    Policy("random + promote at 1, by 4", "random", partial(PromotingPruner, (1,), 4)),
    Policy("prior + promote at 1, by 4", "prior", partial(PromotingPruner, (1,), 4)),
)


@dataclass
class Recorded:
    """The curves of a table, by position in the unit cube of the space."""

    space: Space
    places: Floats  # (n_curves, n_dimensions)
    curves: list[list[tuple[float, float, float]]]  # by epoch: accuracy, loss, AUC
    seconds: list[list[float]]
    values: list[float]  # of complete trainings
    configurations: list[dict[str, Scalar]] = field(default_factory=list)

    @classmethod
    def read(
        cls, table: Path, study_file: Path, metric: ReplayMetric = "accuracy", seen: Path | None = None, by: str = "auc"
    ) -> "Recorded":
        """Read curves as `curves` writes them, and the space of their configurations.

        Args:
            table: CSV file of the curves.
            study_file: Study file with the space.
            metric: Value of a complete training.
            seen: CSV file of curves of the same seeds; their epochs are what the pruner sees.
            by: Column of `seen` for the pruner, without its `validation_`.
        """
        space = read_study_file(study_file).search_space(str(study_file))
        groups = [curve.sort_values("epoch") for _, curve in pd.read_csv(table).groupby("seed")]
        columns = ["validation_accuracy", "validation_loss", "validation_auc"]
        places = np.array([[_place(space, name, curve[name].iloc[0]) for name in space.dimensions] for curve in groups])
        curves = [list(curve[columns].itertuples(index=False, name=None)) for curve in groups]
        values = [kept_epoch(curve)[("accuracy", "loss", "auc").index(metric)] for curve in curves]
        if seen is not None:
            seeds = [int(curve["seed"].iloc[0]) for curve in groups]
            _show(curves, seeds, pd.read_csv(seen).set_index(["seed", "epoch"])[f"validation_{by}"])
        configurations = [
            {name: dimension.own(curve[name].iloc[0]) for name, dimension in space.dimensions.items()}
            for curve in groups
        ]
        return cls(space, places, curves, [curve["seconds"].tolist() for curve in groups], values, configurations)

    def only(self, chosen: Sequence[int]) -> "Recorded":
        """Return the table with these curves alone."""
        return Recorded(
            self.space,
            self.places[list(chosen)],
            [self.curves[i] for i in chosen],
            [self.seconds[i] for i in chosen],
            [self.values[i] for i in chosen],
            [self.configurations[i] for i in chosen],
        )

    def as_study(self, chosen: Sequence[int]) -> EarlierStudy:
        """Return these curves as a study that trained all of them to their ends, for another to learn from."""
        scores = ranks([(self.values[i],) for i in chosen])
        trials = [EarlierTrial(values=self.configurations[i], score=s) for i, s in zip(chosen, scores, strict=True)]
        return EarlierStudy(source="curves", trials=tuple(trials))

    def nearest(self, params: dict[str, Any], used: set[int]) -> int:
        """Return the recorded configuration nearest to a proposal, preferring those not used yet."""
        place = np.array([_place(self.space, name, params[name]) for name in self.space.dimensions])
        distances = np.abs(self.places - place).sum(axis=1)
        if len(used) < len(self.curves):
            distances[list(used)] = np.inf
        return int(distances.argmin())


def _show(curves: list[list[tuple[float, float, float]]], seeds: list[int], seen: "pd.Series[float]") -> None:
    """Insert what the pruner sees, by seed and epoch, into the curves."""
    for seed, curve in zip(seeds, curves, strict=True):
        for position, (accuracy, loss, auc) in enumerate(curve):
            curve[position] = accuracy, loss, float(seen.get((seed, position + 1), auc))


def _place(space: Space, name: str, value: Any) -> float:
    """Map a value to [0, 1]: by its range, or by its rank among choices."""
    corners = space.dimensions[name].distribution()
    if isinstance(corners, optuna.distributions.CategoricalDistribution):
        ranks = [choice == value for choice in corners.choices]
        return ranks.index(True) / max(1, len(ranks) - 1)
    low, high = float(corners.low), float(corners.high)  # type: ignore[attr-defined]
    return (float(value) - low) / (high - low)


@dataclass
class Course:
    """The best value of a replayed search by epochs and seconds."""

    epochs: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    best: list[float] = field(default_factory=list)
    _used: tuple[int, float] = (0, 0.0)

    def train(self, seconds: list[float]) -> None:
        """Count epochs of these lengths."""
        self._used = (self._used[0] + len(seconds), self._used[1] + sum(seconds))

    def found(self, value: float) -> None:
        """Record a finished trial."""
        self.epochs.append(self._used[0])
        self.seconds.append(self._used[1])
        self.best.append(max(value, self.best[-1] if self.best else 0.0))

    def at(self, budget: float, unit: str = "epochs") -> float:
        """Return the best value within a budget; NaN before the first."""
        position = int(np.searchsorted(getattr(self, unit), budget, side="right")) - 1
        return self.best[position] if position >= 0 else float("nan")


def replay_policies(
    replay: Path,
    space: Path,
    metric: ReplayMetric,
    seeds: int,
    picture: Path | None,
    *,
    seen: Path | None = None,
    by: str = "auc",
    as_json: bool,
) -> None:
    """Replay search policies on recorded curves, and print a row for each.

    Each proposal is replaced by the nearest recorded configuration that the search has not used. Regret is the
    difference between the best finished trial and the best of the table, in points of the validation metric.
    """
    recorded = Recorded.read(replay, space, metric, seen, by)
    courses = {policy: [course_of(policy, recorded, seed) for seed in range(seeds)] for policy in POLICIES}
    best = max(recorded.values)
    rows = [_row(policy, courses, best) for policy in POLICIES]
    if picture:
        _draw(courses, best, picture)
    if as_json:
        print(
            json.dumps(
                {
                    "n_curves": len(recorded.curves),
                    "metric": metric,
                    "seen": f"{by} of {seen}" if seen else "auc",
                    "seeds": seeds,
                    "policies": rows,
                    **circumstances(),
                }
            )
        )
    else:
        _print(rows, f"{seeds} searches a policy on {len(recorded.curves)} curves of {replay}, {metric}")


def course_of(
    policy: Policy, recorded: Recorded, seed: int, earlier: Sequence[EarlierStudy] = (), weight: Weight = WEIGHT
) -> Course:
    """Replay a search of a policy, informed by earlier studies where there are any."""
    study = optuna.create_study(study_name=f"replay {seed}", direction="maximize", pruner=policy.pruner())
    study.enqueue_trial(recorded.space.baseline())
    course, curve_of, ended = Course(), dict[int, int](), 0
    while ended < policy.trials or promotions(study):
        for promotion in promotions(study)[:1]:
            study.enqueue_trial(promotion.params, user_attrs=promotion.attributes())
        number = len(study.trials)
        trial_seed = derived_seed(seed, number)
        sampler = make_sampler(policy.sampler, recorded.space, study_seed=seed, trial_seed=trial_seed)
        if earlier:
            sampler = InformedSampler(sampler, recorded.space, earlier, trial_seed, weight)
        study.sampler = sampler
        trial = study.ask()
        recorded.space.suggest(trial)
        continues, trained = trial.user_attrs.get("continues"), trial.user_attrs.get("continues_after", 0)
        used = set(curve_of.values())
        position = recorded.nearest(trial.params, used) if continues is None else curve_of[continues]
        curve_of[trial.number] = position
        ended += continues is None
        _train(study, trial, recorded, position, trained, course, only_first=policy.best_after_one > 0)
    for position in _best_after_one(policy, recorded, curve_of):
        course.train(recorded.seconds[position][1:])
        course.found(recorded.values[position])
    return course


def _train(
    study: optuna.Study,
    trial: optuna.Trial,
    recorded: Recorded,
    position: int,
    trained: int,
    course: Course,
    *,
    only_first: bool,
) -> None:
    """Run a recorded curve from the first epoch of the trial until the pruner stops it."""
    curve, seconds = recorded.curves[position], recorded.seconds[position]
    reached = 1 if only_first else last_epoch(trial, curve)
    course.train(seconds[trained:reached])
    if reached < len(curve):
        study.tell(trial, state=optuna.trial.TrialState.PRUNED)
    else:
        study.tell(trial, recorded.values[position])
        course.found(recorded.values[position])


def _best_after_one(policy: Policy, recorded: Recorded, curve_of: dict[int, int]) -> list[int]:
    return sorted(set(curve_of.values()), key=lambda p: -recorded.curves[p][0][2])[: policy.best_after_one]


def _row(policy: Policy, courses: dict[Policy, list[Course]], best: float) -> dict[str, Any]:
    own = courses[policy]
    target = float(np.median([course.best[-1] for course in courses[POLICIES[0]]]))  # random's, after its 500 epochs
    reached = [next((e for e, b in zip(c.epochs, c.best, strict=True) if b >= target), np.inf) for c in own]
    final = 100 * (best - np.array([course.best[-1] for course in own]))
    return {
        "policy": policy.name,
        "epochs": float(np.median([course.epochs[-1] for course in own])),
        "minutes": float(np.median([course.seconds[-1] for course in own])) / 60,
        "final_regret": float(final.mean()),
        "final_regret_low": float(final.mean() - 1.96 * final.std(ddof=1) / len(own) ** 0.5),
        "final_regret_high": float(final.mean() + 1.96 * final.std(ddof=1) / len(own) ** 0.5),
        "epochs_to_random": float(np.median(reached)) if np.isfinite(np.median(reached)) else None,
        **{f"regret_at_{n}": _mean_regret([course.at(n) for course in own], best) for n in CHECKPOINTS},
        "mean_rank": _mean_rank(policy, courses),
    }


def _mean_regret(found: list[float], best: float) -> float | None:
    """Return points; None if a search has no finished trial yet."""
    return None if np.isnan(found).any() else 100 * (best - float(np.mean(found)))


def _mean_rank(policy: Policy, courses: dict[Policy, list[Course]]) -> float:
    """Return the mean rank of each policy over seeds and checkpoints; 1 is best, and no result ranks last."""
    position, n_seeds = list(courses).index(policy), len(courses[policy])
    values = np.array(
        [[[courses[p][s].at(n) for p in courses] for n in CHECKPOINTS] for s in range(n_seeds)]
    )  # (seeds, checkpoints, policies)
    return float(rankdata(-np.nan_to_num(values, nan=0.0), axis=-1)[..., position].mean())


def _print(rows: list[dict[str, Any]], title: str) -> None:
    table = Table(title=title)
    keys = ("epochs", "minutes", "epochs_to_random", *(f"regret_at_{n}" for n in CHECKPOINTS), "mean_rank")
    for heading in ("policy", "final regret (95%)", *(key.replace("_", " ") for key in keys)):
        table.add_column(heading, justify="left" if heading == "policy" else "right")
    for row in rows:
        final = f"{row['final_regret']:.2f} ({row['final_regret_low']:.2f} to {row['final_regret_high']:.2f})"
        table.add_row(row["policy"], final, *("–" if row[key] is None else f"{row[key]:.3g}" for key in keys))
    Console(width=180).print(table)


def _draw(courses: dict[Policy, list[Course]], best: float, path: Path) -> None:
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    axes = figure.subplots(1, 2)
    for axis, unit, scale in zip(axes, ("epochs", "seconds"), (1, 60), strict=True):
        for n, (label, budgets, (low, middle, high)) in enumerate(_bands(courses, best, unit)):
            colour, width = ("black", 2.5) if "default" in label else (f"C{n}", 1.2)
            axis.plot(budgets / scale, middle, ("-", "--")[n // 6], color=colour, linewidth=width, label=label)
            axis.fill_between(budgets / scale, low, high, color=colour, alpha=0.1)
        axis.set(xscale="log", xlabel="epochs" if unit == "epochs" else "minutes", ylabel="regret (points), mean, 95%")
        axis.grid(alpha=0.3)
    axes[1].legend(fontsize="x-small")
    with replacing(path) as temporary:
        figure.savefig(temporary, format="svg", metadata={"Date": None})


def _bands(
    courses: dict[Policy, list[Course]], best: float, unit: str
) -> Iterator[tuple[str, Floats, tuple[Floats, Floats, Floats]]]:
    for policy, own in courses.items():
        first = max(getattr(course, unit)[0] for course in own)
        budgets = np.geomspace(first, max(getattr(course, unit)[-1] for course in own), 60)
        regret = 100 * (best - np.array([[course.at(budget, unit) for budget in budgets] for course in own]))
        middle, half = regret.mean(axis=0), 1.96 * regret.std(axis=0, ddof=1) / len(own) ** 0.5
        yield policy.name, budgets, (middle - half, middle, middle + half)
