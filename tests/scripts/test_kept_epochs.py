"""Rules that keep an epoch, compared on made-up trainings."""

from pathlib import Path

import pandas as pd
import pytest

from benchmarks.kept_epochs import RULES, kept_epochs, summary
from pneumosearch.errors import ConfigError
from tests.conftest import ROOT

WORTH = (0.6, 0.9, 0.7)  # of the first, the second and the last epoch, in the test folder


def trainings() -> pd.DataFrame:
    """Three trainings of three epochs: the lowest loss keeps the first one, the best worst family the second."""
    rows = []
    for number in range(3):
        for epoch, worth in enumerate(WORTH, start=1):
            seen = {f"validation_{rule}": 0.5 for rule in RULES if rule != "last"}
            seen |= {"validation_loss": 0.1 * epoch, "validation_worst_family": 0.8 if epoch == 2 else 0.5}
            truth = worth + 0.01 * number * (epoch == 2)
            true = {"true_accuracy": truth, "true_balanced_accuracy": truth}
            rows.append({"configuration": number, "epoch": epoch, **seen, **true})
    return pd.DataFrame(rows)


def test_each_rule_is_worth_what_the_epochs_that_it_keeps_are() -> None:
    found = summary(trainings())
    assert found["trainings"] == 3
    assert found["best epoch"]["true_accuracy"] == pytest.approx(0.91)
    assert found["loss"]["true_accuracy"] == [0.6, 0, 0, 0]
    assert found["last"]["true_accuracy"] == [0.7, 10, 10, 10]
    mean, difference, low, high = found["worst_family"]["true_balanced_accuracy"]
    assert (mean, difference) == (0.91, 31)
    assert (low, high) == pytest.approx((31 - 2.48, 31 + 2.48), abs=0.01)  # 4.303 * 1 / sqrt(3)


def test_images_that_are_no_phantoms_are_refused(phantoms: Path, tmp_path: Path) -> None:
    for source in phantoms.rglob("*.*"):
        if source.suffix != ".json":  # which marks phantoms
            target = tmp_path / "images" / source.relative_to(phantoms)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(source)
    with pytest.raises(ConfigError, match="these are no phantoms"):
        kept_epochs(tmp_path / "epochs.csv", tmp_path / "images", ROOT / "studies" / "selection.toml", 3)
