"""Which rungs save most: searches with and without a low-resolution rung, replayed on recorded curves."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
import typer

from benchmarks.correlation import Array

Numbers = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Policy:
    """Rungs of a search: whether a low-resolution one comes first, epochs of the others, and how many each stops."""

    screened: bool
    rungs: tuple[int, ...]
    factor: int

    def __str__(self) -> str:
        """Name it, such as "small, 1, by 4"."""
        rungs = ["small"] * self.screened + list(map(str, self.rungs))
        return f"{', '.join(rungs)}, by {self.factor}" if rungs else "none"


POLICIES: Final = (
    Policy(False, (), 1),
    *(Policy(screened, (1,), factor) for screened in (False, True) for factor in (4, 3)),
    Policy(True, (), 4),
    Policy(True, (2,), 4),
    Policy(True, (1, 3), 3),
    Policy(True, (1, 3), 2),
)


@dataclass(frozen=True)
class Curves:
    """What the replay sees of each configuration: after its small epoch, and after each one at full size."""

    small: Array
    auc: Array
    kept: Array
    small_cost: float


def rungs(
    cheap: Annotated[Path, typer.Argument(help="Curves of one epoch on small images.")],
    full: Annotated[Path, typer.Argument(help="Curves of the same configurations at full size.")],
    samples: Annotated[int, typer.Option(min=10, help="Bootstrap samples.")] = 4000,
    seed: Annotated[int, typer.Option(help="Of the draws.")] = 0,
) -> None:
    """Replay searches by their rungs, and say what each costs and loses. One line of JSON a policy.

    At a rung the best fraction by the precise AUC goes on. Cost: epochs at full size a configuration, a small epoch
    counting by its pixels. Regret: points of kept validation accuracy by which the best of a search is below the best
    of all, with its 95th percentile over bootstrap samples of the configurations. Rungs at full size see the very
    training that they stop, so that their regret is flattered; the small one is another training.

    Example: scripts/bench rungs results/curves/first-epoch-75px.csv results/curves/curves-150px.csv
    """
    for row in replayed(read_curves(pd.read_csv(cheap), pd.read_csv(full)), samples, seed):
        print(json.dumps(row))


def read_curves(cheap: pd.DataFrame, full: pd.DataFrame) -> Curves:
    """Return the curves of the configurations that are in both tables, which one seed each names."""
    first = cheap[cheap.epoch == 1].set_index("seed")
    seeds = sorted(set(first.index) & set(full.seed))
    tables = {
        name: full.pivot(index="seed", columns="epoch", values=f"validation_precise_{name}").loc[seeds].to_numpy()
        for name in ("auc", "loss", "accuracy")
    }
    best = tables["loss"].argmin(axis=1)
    cost = (first.image_size.loc[seeds].mean() / full.image_size.mean()) ** 2
    kept = tables["accuracy"][np.arange(len(seeds)), best]
    return Curves(first.validation_precise_auc.loc[seeds].to_numpy(), tables["auc"], kept, float(cost))


def replayed(curves: Curves, samples: int, seed: int) -> Iterator[dict[str, Any]]:
    """Yield what each policy costs and loses."""
    rng = np.random.default_rng(seed)
    n = len(curves.kept)
    searches = [rng.choice(n, n) for _ in range(samples)]
    for policy in POLICIES:
        ended = [_search(policy, curves, drawn) for drawn in searches]
        regret = [
            100 * (curves.kept[drawn].max() - curves.kept[end].max())
            for drawn, (_, end) in zip(searches, ended, strict=True)
        ]
        yield {
            "rungs": str(policy),
            "configurations": n,
            "cost": round(float(np.mean([cost for cost, _ in ended])) / n, 2),
            "regret": round(float(np.mean(regret)), 2),
            "regret_95": round(float(np.quantile(regret, 0.95)), 2),
        }


def _search(policy: Policy, curves: Curves, drawn: Numbers) -> tuple[float, Numbers]:
    """Return the cost in epochs, and the configurations that train to their end."""
    cost, left, before = 0.0, drawn, 0
    if policy.screened:
        cost += curves.small_cost * len(left)
        left = _best(left, curves.small[left], policy.factor)
    for rung in policy.rungs:
        cost += (rung - before) * len(left)
        left = _best(left, curves.auc[left, rung - 1], policy.factor)
        before = rung
    return cost + (curves.auc.shape[1] - before) * len(left), left


def _best(of: Numbers, seen: Array, factor: int) -> Numbers:
    return of[np.argsort(-seen, kind="stable")][: ceil(len(of) / factor)]
