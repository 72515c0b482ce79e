"""Pruners replayed on recorded curves: what they see decides what they lose."""

import json
from pathlib import Path

import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

from benchmarks.replay import pruners
from pneumosearch.errors import ConfigError


@pytest.fixture
def curves(tmp_path: Path) -> Path:
    """Twelve configurations after the baseline, better by their number. The loss says so, the AUC the opposite."""
    rows = [
        {
            "trial": trial,
            "seed": trial,
            "epoch": epoch,
            "validation_worst_family": 0.99 if trial == 0 else 0.6 + 0.02 * trial,
            "validation_auc": 0.9 - 0.01 * trial,
            "validation_loss": 0.5 - 0.01 * epoch - 0.02 * trial,
        }
        for trial in range(13)
        for epoch in (1, 2, 3, 4)
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "curves.csv", index=False)
    return tmp_path / "curves.csv"


def replayed(curves: Path, by: str) -> dict[str, dict[str, float]]:
    app = typer.Typer()
    app.command()(pruners)
    options = ["--metric", "worst_family", "--by", by, "--trials", "12", "--seeds", "5", "--json"]
    shown = CliRunner().invoke(app, [str(curves), *options], catch_exceptions=False).stdout
    found = json.loads(shown)
    assert found["n_curves"] == 12  # without the baseline
    return {row["pruner"]: row for row in found["pruners"]}


def test_pruner_that_sees_the_truth_loses_nothing(curves: Path) -> None:
    for by in ("worst_family", "loss"):
        row = replayed(curves, by)["promote at 1, by 4"]
        assert row["regret_mean"] == pytest.approx(0)
        assert row["epochs_percent"] < 100
    assert replayed(curves, "auc")["promote at 1, by 4"]["regret_mean"] > 1
    assert replayed(curves, "auc")["none"] == {
        "pruner": "none",
        "epochs_percent": 100,
        "regret_mean": 0,
        "regret_sd": 0,
        "best_kept_percent": 100,
    }


def test_figure_that_the_table_lacks_is_named(curves: Path) -> None:
    with pytest.raises(ConfigError, match="no figure 'shift_auc'; it has validation_worst_family, validation_auc"):
        pruners(curves, by="shift_auc", metric="worst_family")
