"""Recorded learning curves as a table, and searches replayed on them with every pruner."""

import json
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import optuna
import pandas as pd
import typer
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner, PercentilePruner
from optuna.pruners import SuccessiveHalvingPruner as Halving
from rich.console import Console
from rich.table import Table

from pneumosearch._utils.atomic import replacing
from pneumosearch.errors import ConfigError
from pneumosearch.metrics import METRICS
from pneumosearch.records.trial import BASELINE
from pneumosearch.search.pruners import PromotingPruner, Promotion
from pneumosearch.storage.store import Store

Curve = list[tuple[float, float, float]]  # by epoch: (what the search improves, loss, what the pruner sees)

PRUNERS: dict[str, Callable[[], BasePruner]] = {
    "none": NopPruner,
    **{
        f"median, start {start}, warm-up {warm_up}": partial(
            MedianPruner, n_startup_trials=start, n_warmup_steps=warm_up
        )
        for start in (4, 8)
        for warm_up in (0, 1, 2, 3, 4, 6)
    },
    **{
        f"best quarter, start 4, warm-up {warm_up}": partial(
            PercentilePruner, 25.0, n_startup_trials=4, n_warmup_steps=warm_up
        )
        for warm_up in (0, 1, 2, 4)
    },
    **{
        f"halving from epoch {first}, by {factor}": partial(Halving, min_resource=first, reduction_factor=factor)
        for first, factor in ((1, 2), (1, 3), (2, 2), (2, 3), (4, 2), (5, 2))
    },
    **{
        f"hyperband from epoch {first}, by {factor}": partial(
            HyperbandPruner, min_resource=first, max_resource=10, reduction_factor=factor
        )
        for first, factor in ((1, 3), (4, 2))
    },
    **{
        f"promote at {', '.join(map(str, rungs))}, by {factor}": partial(PromotingPruner, rungs, factor)
        for rungs, factor in (
            ((1, 3), 3),
            ((1, 2, 4), 2),
            ((1, 4), 3),
            ((2, 4), 3),
            ((2,), 3),
            ((1, 3), 2),
            ((2, 5), 2),
            *((rungs, 4) for rungs in ((1,), (2,), (3,), (1, 3), (2, 4))),
        )
    },
}


def curves(
    output: Annotated[Path, typer.Argument(help="CSV file to write; its curves of other seeds are kept.")],
    study: Annotated[str, typer.Option(help="Study with complete learning curves (pruner none).")],
    storage: Annotated[str, typer.Option(help="Store of the study.")] = "sqlite:///results/pneumosearch.db",
) -> None:
    """Write the learning curves of the complete trials of a study as CSV: one row per epoch, with the configuration.

    Example: scripts/bench curves results/curves/curves-75px.csv --study curves-75
    """
    record = Store(storage, Path("results"), must_exist=True).record(study)
    # The field `epochs` (wanted) and the column `epoch` (reached) are both kept.
    rows = [
        {"trial": trial.number, "seed": trial.run.seed, **trial.run.config.model_dump(), **epoch.model_dump()}
        for trial in record.trials
        if trial.state == "complete" and trial.run
        for epoch in trial.history
    ]
    earlier = pd.read_csv(output) if output.exists() else pd.DataFrame()
    table = pd.concat([earlier, pd.DataFrame(rows).dropna(axis="columns", how="all")])
    table = table.drop_duplicates(["seed", "epoch"], keep="last").sort_values(["seed", "epoch"])
    output.parent.mkdir(parents=True, exist_ok=True)
    with replacing(output) as temporary:
        table.to_csv(temporary, index=False, float_format="%.6g")


def pruners(
    table: Annotated[Path, typer.Argument(help="Learning curves, as `curves` writes them.")],
    by: Annotated[str, typer.Option(help="What the pruner sees after an epoch: a column without validation_.")] = "auc",
    metric: Annotated[str, typer.Option(help="What the search improves, at the kept epoch.")] = "accuracy",
    trials: Annotated[int, typer.Option(help="Trials per replayed search, drawn from the curves.")] = 50,
    seeds: Annotated[int, typer.Option(help="Replayed searches per pruner.")] = 200,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Replay recorded learning curves in random order with each pruner.

    Each replayed search draws its trials from the curves with replacement, without the baseline, which no pruner stops.
    Its result is the best kept value of the trials that were not pruned. Regret is the distance to the best curve of
    the draw in points.

    Example: scripts/bench pruners results/curves/curves-64px.csv
    """
    recorded = _read(table, metric, by)
    rows = [{"pruner": name, **_replay(make, recorded, trials, seeds)} for name, make in PRUNERS.items()]
    if as_json:
        print(json.dumps({"n_curves": len(recorded), "trials": trials, "seeds": seeds, "pruners": rows}))
        return
    shown = Table(title=f"{seeds} searches of {trials} trials drawn from {len(recorded)} curves of {table}")
    for heading in ("pruner", "epochs %", "regret, mean (points)", "regret, sd", "best kept %"):
        shown.add_column(heading, justify="left" if heading == "pruner" else "right")
    for row in rows:
        values = [f"{row[key]:.2f}" for key in ("epochs_percent", "regret_mean", "regret_sd", "best_kept_percent")]
        shown.add_row(str(row["pruner"]), *values)
    Console().print(shown)


def _read(table: Path, metric: str, by: str) -> list[Curve]:
    rows = pd.read_csv(table).sort_values("epoch")
    for name in (metric, by):
        if f"validation_{name}" not in rows or name not in METRICS:
            raise ConfigError(f"{table}: no figure '{name}'; it has {', '.join(rows.filter(like='validation_'))}")
    value, seen = (
        rows[f"validation_{name}"] * (1 if METRICS[name].direction == "maximize" else -1) for name in (metric, by)
    )  # the replayed study maximises
    rows = rows.assign(value=value, seen=seen)[rows.trial != BASELINE]
    columns = ["value", "validation_loss", "seen"]
    return [list(curve[columns].itertuples(index=False, name=None)) for _, curve in rows.groupby("seed")]


def _replay(make: Callable[[], BasePruner], curves: list[Curve], trials: int, seeds: int) -> dict[str, float]:
    outcomes = [_search(make(), curves, trials, seed) for seed in range(seeds)]
    regrets = [regret for regret, _ in outcomes]
    return {
        "epochs_percent": 100 * statistics.mean(share for _, share in outcomes),
        "regret_mean": 100 * statistics.mean(regrets),
        "regret_sd": 100 * statistics.stdev(regrets),
        "best_kept_percent": 100 * statistics.mean(regret == 0 for regret in regrets),
    }


def _search(pruner: BasePruner, curves: list[Curve], trials: int, seed: int) -> tuple[float, float]:
    """Return (regret, share of the epochs that were trained) of one replayed search."""
    drawn = [curves[i] for i in np.random.default_rng(seed).integers(len(curves), size=trials)]
    study = optuna.create_study(
        study_name=f"replay {seed}",  # Hyperband derives its brackets from the name
        direction="maximize",
        pruner=pruner,
        sampler=optuna.samplers.RandomSampler(seed=seed),
    )
    epochs, best, curve_of = 0, 0.0, dict[int, Curve]()
    waiting = list(reversed(drawn))
    while waiting or promotions(study):
        for promotion in promotions(study)[:1]:
            study.enqueue_trial({}, user_attrs=promotion.attributes())
        trial = study.ask()
        trained = trial.user_attrs.get("continues_after", 0)
        curve = curve_of[trial.number] = curve_of[trial.user_attrs["continues"]] if trained else waiting.pop()
        reached = last_epoch(trial, curve)
        epochs += reached - trained
        if reached == len(curve):
            value = kept_epoch(curve)[0]
            study.tell(trial, value)
            best = max(best, value)
        else:
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
    return max(kept_epoch(curve)[0] for curve in drawn) - best, epochs / sum(map(len, drawn))


def promotions(study: optuna.Study) -> list[Promotion]:
    """Return the stopped trials that may resume now."""
    return study.pruner.promotions(study) if isinstance(study.pruner, PromotingPruner) else []


def last_epoch(trial: optuna.Trial, curve: Curve) -> int:
    """Report the epochs of the curve until the pruner stops the trial; return the last epoch."""
    for epoch, (_, _, seen) in enumerate(curve, start=1):
        trial.report(seen, epoch)
        if epoch < len(curve) and trial.should_prune():
            return epoch
    return len(curve)


def kept_epoch(curve: Curve) -> tuple[float, float, float]:
    """Return the epoch of the lowest loss, as `pneumosearch.records.epoch.kept_epoch` does."""
    return min(curve, key=lambda point: point[1])
