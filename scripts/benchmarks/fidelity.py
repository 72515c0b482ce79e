"""Rank correlation of low-fidelity results with full trainings, on recorded learning curves."""

import json
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.correlation import correlation
from pneumosearch.errors import ConfigError
from pneumosearch.metrics import METRICS
from pneumosearch.records.trial import BASELINE


def fidelity(
    cheap: Annotated[Path, typer.Argument(help="Learning curves of cheap runs, as `curves` writes them.")],
    full: Annotated[
        Path | None,
        typer.Argument(help="Curves of the same configurations (by seed) at full cost.", show_default="the same"),
    ] = None,
    metric: Annotated[str, typer.Option(help="Figure of the kept epoch of full runs.")] = "accuracy",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Correlate each figure after each epoch of cheap runs with one of the kept epoch, and the best AUC, of full runs.

    Prints Spearman's rank correlation with a 95% bootstrap interval over configurations, the baseline left out.

    Example: scripts/bench fidelity results/curves/curves-75px.csv results/curves/curves-150px.csv
    """
    cheap_table, full_table = _read(cheap), _read(full or cheap)
    if f"validation_{metric}" not in full_table:
        raise ConfigError(f"{full or cheap}: no figure '{metric}'")
    results = _full_results(full_table, metric)
    rows = [
        {"seen": seen, "epoch": int(epoch), **_correlations(at_epoch.set_index("seed")[f"validation_{seen}"], results)}
        for seen in METRICS
        if f"validation_{seen}" in cheap_table
        for epoch, at_epoch in cheap_table.groupby("epoch")
    ]
    if as_json:
        print(json.dumps({"cheap": str(cheap), "full": str(full or cheap), "metric": metric, "rows": rows}))
        return
    table = Table(title=f"Rank correlation of {cheap} with {full or 'its own ends'}")
    for heading in ("seen", "epoch", "n", f"with the kept {metric}", "with the best AUC"):
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(row["seen"], str(row["epoch"]), str(row["n"]), *(_told(row, k) for k in ("kept", "best_auc")))
    Console(width=120).print(table)


def _told(row: dict[str, Any], target: str) -> str:
    if row[target] is None:
        return "all equal"
    return f"{row[target]:.2f} ({row[target + '_low']:.2f} to {row[target + '_high']:.2f})"


def _read(path: Path) -> pd.DataFrame:
    table = pd.read_csv(path)
    return table[table.trial != BASELINE].reset_index(drop=True)


def _full_results(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return {seed: (figure at the lowest loss, highest AUC of any epoch)}."""
    kept = table.loc[table.groupby("seed")["validation_loss"].idxmin()].set_index("seed")[f"validation_{metric}"]
    return pd.DataFrame({"kept": kept, "best_auc": table.groupby("seed")["validation_auc"].max()})


def _correlations(seen: pd.Series, results: pd.DataFrame) -> dict[str, Any]:
    joined = results.join(seen.rename("seen"), how="inner").dropna()
    row: dict[str, Any] = {"n": len(joined)}
    for target in results:
        # Constant values, such as the share of a class, have no ranks.
        found = correlation(joined[["seen"]].to_numpy(), joined[target].to_numpy())
        row |= dict(zip((target, f"{target}_low", f"{target}_high"), found or [None] * 3, strict=True))
    return row
