import json
from pathlib import Path

import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

from benchmarks.rungs import rungs


@pytest.mark.parametrize("sign", [1, -1], ids=["foretells", "misleads"])
def test_low_resolution_rung_costs_less_and_loses_what_it_does_not_see(tmp_path: Path, sign: int) -> None:
    """Sixteen configurations, better by their number; the small epoch says so, or the opposite."""
    small = [
        {"seed": seed, "epoch": 1, "image_size": 75, "validation_precise_auc": 0.9 + sign * 0.001 * seed}
        for seed in range(16)
    ]
    full = [
        {
            "seed": seed,
            "epoch": epoch,
            "image_size": 150,
            "validation_precise_auc": 0.9 + 0.001 * seed,
            "validation_precise_loss": 0.5 - 0.01 * epoch,
            "validation_precise_accuracy": 0.8 + 0.01 * seed,
        }
        for seed in range(16)
        for epoch in (1, 2, 3, 4)
    ]
    pd.DataFrame(small).to_csv(tmp_path / "small.csv", index=False)
    pd.DataFrame(full).to_csv(tmp_path / "full.csv", index=False)
    app = typer.Typer()
    app.command()(rungs)
    arguments = [str(tmp_path / "small.csv"), str(tmp_path / "full.csv"), "--samples", "50"]
    lines = CliRunner().invoke(app, arguments, catch_exceptions=False).stdout.splitlines()
    rows = {row["rungs"]: row for row in map(json.loads, lines)}
    assert (rows["none"]["cost"], rows["none"]["regret"]) == (4, 0)
    assert (rows["1, by 4"]["cost"], rows["1, by 4"]["regret"]) == (1 + 3 / 4, 0)
    assert rows["small, 1, by 4"]["cost"] == pytest.approx(1 / 4 + 1 / 4 + 3 / 16, abs=0.01)
    assert (rows["small, 1, by 4"]["regret"] == 0) == (sign == 1)
