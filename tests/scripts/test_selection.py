import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

from benchmarks.selection import selection
from pneumosearch.data.families import FAMILIES


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Six configurations of two trainings: the loss foretells the truth, the accuracy says the opposite."""
    rows = [
        {
            "configuration": configuration,
            "seed": seed,
            "validation_accuracy": 0.9 - 0.01 * configuration,
            "validation_auc": 0.9,  # the same for all: nothing to rank
            "validation_loss": 0.5 - 0.05 * configuration - 0.001 * seed,
            "true_accuracy": 0.7 + 0.02 * configuration,
            **{f"{family} accuracy": 0.5 + 0.02 * configuration for family in FAMILIES},
            "borders accuracy": 0.8 - 0.02 * configuration,
        }
        for configuration in range(6)
        for seed in (1, 2)
    ]
    rows.append({**rows[0], "configuration": 6})  # its second training is missing
    pd.DataFrame(rows).to_csv(tmp_path / "runs.csv", index=False)
    return tmp_path / "runs.csv"


def told(*arguments: str) -> dict[str, dict[str, object]]:
    app = typer.Typer()
    app.command()(selection)
    result = CliRunner().invoke(app, [*arguments, "--json"], catch_exceptions=False)
    rows = json.loads(result.stdout)["rows"]
    return {next(iter(row.values())): row for row in rows}


def test_criterion_is_judged_by_its_ranks_and_by_what_its_choice_loses(table: Path) -> None:
    rows = told(str(table))
    assert next(iter(rows)) == "loss"  # the least regret first
    assert rows["loss"]["once"] == pytest.approx([1, 1, 1])
    assert rows["loss"]["chosen"] == 5
    assert rows["loss"]["regret_repeated"] == pytest.approx(0)
    assert rows["accuracy"]["repeated"] == pytest.approx([-1, -1, -1])
    assert rows["accuracy"]["regret_once"] == pytest.approx(10)  # points
    assert rows["auc"]["once"] is None


def test_family_is_foretold_by_the_others(table: Path, tmp_path: Path) -> None:
    rows = told(str(table), "--by-family", "--picture", str(tmp_path / "families.svg"))
    assert list(rows) == list(FAMILIES)
    assert np.sign(rows["tone"]["other_families"][0]) == 1  # type: ignore[index]
    assert rows["borders"]["other_families"] == pytest.approx([-1, -1, -1])
    assert (tmp_path / "families.svg").read_text().count("<svg") == 1
