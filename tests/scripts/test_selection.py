import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

from benchmarks.selection import selection
from benchmarks.selection_choice import selection_choice
from benchmarks.selection_effects import selection_effects
from benchmarks.thresholds import summary
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
            "taller accuracy": 0.9,
            "marker accuracy": 0.6 + 0.01 * configuration,
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
    assert rows["worst copy"]["once"] == pytest.approx([1, 1, 1])


def test_family_is_foretold_by_the_others(table: Path, tmp_path: Path) -> None:
    rows = told(str(table), "--by-family", "--picture", str(tmp_path / "families.svg"))
    assert list(rows) == list(FAMILIES)
    assert np.sign(rows["tone"]["other_families"][0]) == 1  # type: ignore[index]
    assert rows["borders"]["other_families"] == pytest.approx([-1, -1, -1])
    assert (tmp_path / "families.svg").read_text().count("<svg") == 1


def test_choice_of_a_criterion_is_worth_what_it_picks(table: Path) -> None:
    app = typer.Typer()
    app.command()(selection_choice)
    arguments = [str(table), "--size", "3", "--samples", "50", "--truth", "accuracy"]
    lines = CliRunner().invoke(app, arguments, catch_exceptions=False).stdout.splitlines()
    rows = {row["criterion"]: row for row in map(json.loads, lines)}
    assert next(iter(rows)) == "loss"  # it picks the best of three, accuracy the worst
    mean, low, high = rows["loss"]["mean_difference"]
    assert 0 < low < mean < high
    assert rows["loss"]["difference"] == {"runs": rows["loss"]["mean_difference"]}
    assert rows["accuracy"]["mean_difference"] == [0, 0, 0]
    assert 70 < rows["accuracy"]["truth"]["runs"] < rows["loss"]["truth"]["runs"] < 80


def test_effect_of_a_value_is_told_from_chance(tmp_path: Path) -> None:
    rows = [
        {
            "configuration": configuration,
            "seed": 1,
            "jpeg_loss": 85 if configuration % 2 else None,  # None: the baseline's, 0
            "keep": "last" if configuration % 4 < 2 else "best",
            "learning_rate": 0.001 * configuration,  # drawn from a range
            "true_accuracy": 0.6 + 0.1 * (configuration % 2) + 0.001 * configuration,
        }
        for configuration in range(13)
    ]
    for name in ("a.csv", "b.csv"):
        pd.DataFrame(rows).to_csv(tmp_path / name, index=False)
    app = typer.Typer()
    app.command()(selection_effects)
    arguments = [str(tmp_path / "a.csv"), str(tmp_path / "b.csv"), "--truth", "accuracy"]
    lines = CliRunner().invoke(app, arguments, catch_exceptions=False).stdout.splitlines()
    found = {(row["field"], row["value"]): row for row in map(json.loads, lines)}
    assert set(found) == {("jpeg_loss", 0), ("jpeg_loss", 85), ("keep", "best"), ("keep", "last")}
    low, high = found["jpeg_loss", 85]["interval"]
    assert 9 < low < found["jpeg_loss", 85]["difference"] < high < 11
    low, high = found["keep", "last"]["interval"]
    assert low < 0 < high
    assert found["keep", "last"]["n"] == found["keep", "best"]["n"] == 12  # both tables, without the baseline
    some = (
        CliRunner().invoke(app, [*arguments, "--where", "jpeg_loss == 85"], catch_exceptions=False).stdout.splitlines()
    )
    assert {json.loads(line)["field"] for line in some} == {"keep"}


def test_thresholds_are_compared_on_the_same_networks() -> None:
    rows = [
        {"trial": trial, "rule": rule, "threshold": 0.5, "accuracy": 0.6 + gain + 0.1 * trial}
        | {"balanced_accuracy": 0.5, "specificity": 0.4}
        for trial in range(3)
        for rule, gain in (("half", 0.0), ("copies", 0.02))
    ]
    told_of = summary(pd.DataFrame(rows))
    assert told_of["copies"]["accuracy over 0.5, points"] == pytest.approx([2, 2, 2])
    assert told_of["copies"]["balanced_accuracy over 0.5, points"] == [0, 0, 0]
    assert told_of["half"]["accuracy"] == pytest.approx(0.7)
