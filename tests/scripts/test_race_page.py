"""The live race as figures and as a page."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from benchmarks.live_report import draw, losses, markdown
from benchmarks.live_rows import Run, coverage, results, spread
from benchmarks.live_sides import EPOCHS_FILE


def a_run(times_and_accuracies: dict[float, float], **summary: Any) -> Run:
    best = list(times_and_accuracies.values())
    summary = {"peak_mib": 100, "failures": 0, **summary}
    return Run(list(times_and_accuracies), {"accuracy": best, "auc": best}, best[0] if best else None, 2, summary)


def a_page(figures: dict[str, Any], **fixed_or_others: object) -> str:
    study = {"fixed": {}, "space": {"zoom": {}}, **fixed_or_others}
    about = {"skipped": {}, "terms": {"study": study, "share": 1.0}, "n_validation": 125}
    return markdown({**figures, **about, **dict.fromkeys(("command", "commit", "date", "processor", "cores"), "x")})


def test_run_counts_whole_lines_within_its_time(tmp_path: Path) -> None:
    values = {"val_accuracy": 0.8, "val_auc": 0.7, "val_loss": 0.3}
    lines = [
        {"seconds": 1.0, "trial": 0, "epoch": 1, **values},
        {"seconds": 2.0, "trial": 1, "epoch": 1, **values, "val_accuracy": 0.6},
        {"seconds": 11.0, "trial": 1, "epoch": 2, **values, "val_accuracy": 0.99},
    ]
    (tmp_path / EPOCHS_FILE).write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"seconds": 3.0, "tr')
    (tmp_path / "summary.json").write_text(json.dumps({"budget_s": 10.0}))
    run = Run.read(tmp_path)
    assert (run.seconds, run.best["accuracy"], run.trials, run.first_trial) == ([1.0, 2.0], [0.8, 0.8], 2, 0.8)
    assert run.at(0.5) == float("-inf")
    assert run.reaches(0.81) == float("inf")


def test_interval_of_few_seeds_is_least_to_greatest() -> None:
    assert spread([3, 1, 2, 5, 4]) == (1, 3, 5)
    assert coverage(5) == pytest.approx(0.9375)
    assert spread(range(8)) == (1, 3.5, 6)
    assert coverage(8) == pytest.approx(1 - 18 / 256)
    assert coverage(1) == 0.0


def test_figures_tell_times_ratios_and_losses() -> None:
    runs = {
        "pneumosearch": [a_run({10: 0.85, 20: 0.92, 90: 0.94}, peak_mib=200), a_run({12: 0.86, 24: 0.92})],
        "optuna": [a_run({5: 0.80, 80: 0.92}), a_run({5: 0.80, 70: 0.93})],
        "keras-tuner-random": [a_run({50: 0.95}), a_run({50: 0.96}, failures=1)],
        "keras-tuner-bayesian": [a_run({}), a_run({})],
    }
    figures = results(runs, 100.0, None)
    assert (figures["baseline_accuracy"], figures["best_found"]) == (0.85, 0.96)
    ours = figures["sides"][0]
    assert ours["seconds_to_baseline"]["median"] == 11
    assert ours["seconds_to_near_best"]["median"] is None
    optuna_, random_, bayesian = figures["ratios"]
    assert (optuna_["final_accuracy"], optuna_["seconds"], optuna_["our_seconds"]) == (0.92, 75, 22)
    assert optuna_["faster_by"] == pytest.approx(75 / 22)
    assert (random_["seconds"], random_["our_seconds"], random_["faster_by"]) == (50, None, None)
    assert bayesian["final_accuracy"] is None
    sentences = " ".join(losses(figures))
    assert "After 10 s, its best validation accuracy (none yet) is below that of optuna (80.00%)." in sentences
    assert (
        "After 50 s, its best validation accuracy (92.00%) is below that of keras-tuner-random (95.50%)." in sentences
    )
    assert "It comes to near the best found never, later than" not in sentences  # half of the seeds is no median
    assert "It takes more memory (150 MiB at its peak) than optuna (100)" in sentences
    page = a_page(figures)
    assert "hold the true median with a probability of 50% (2 runs). The best" in page
    assert "the same 125 validation images: one of them is 0.80%." in page
    assert "| optuna | 92.00 | 75.0 | 22.0 | 3.4 |" in page
    assert "| keras-tuner-random | 95.00 | 50.0 | never | not at all |" in page
    assert "in pneumosearch's training alone" not in page
    for where_set in ("fixed", "others"):
        page = a_page(figures, **{where_set: {"batch_norm_statistics": "precise"}})
        assert "batch_norm_statistics: in pneumosearch's training alone" in page


def test_race_that_is_won_everywhere_says_so() -> None:
    runs = {"pneumosearch": [a_run({10: 0.9})], "optuna": [a_run({20: 0.8})]}
    assert losses(results(runs, 100.0, None)) == ["Nowhere: in each table, no other side's median is better."]
    assert losses(results({"optuna": runs["optuna"]}, 100.0, None)) == ["pneumosearch has not been run."]


def test_page_tells_the_probability_of_its_bounds_for_each_number_of_runs() -> None:
    one, five = a_run({10: 0.9}), [a_run({10 + seed: 0.8}) for seed in range(5)]
    page = a_page(results({"pneumosearch": five, "optuna": five[:3], "ray": [one]}, 100.0, None))
    assert "with a probability of 94% (5 runs) and 75% (3 runs). A side that ran once has no interval. The best" in page


def test_picture_has_plain_ticks_and_no_share_above_one(tmp_path: Path) -> None:
    runs = {"pneumosearch": [a_run({10: 0.9, 30: 0.999})], "optuna": [a_run({20: 0.95})], "ray": [a_run({})]}
    draw(runs, 240.0, tmp_path / "race.svg")
    labels = re.findall("<!-- (.*?) -->", (tmp_path / "race.svg").read_text())
    assert {"0.2", "0.5", "1", "2", "minutes"} <= {*labels}
    assert not [label for label in labels if "times" in label]
    assert max(float(label) for label in labels if re.fullmatch(r"0\.\d+|1\.0+", label)) <= 1.0


def test_picture_of_a_race_without_an_epoch_is_drawn(tmp_path: Path) -> None:
    draw({"optuna": [a_run({})]}, 240.0, tmp_path / "race.svg")
    assert "<!-- minutes -->" in (tmp_path / "race.svg").read_text()
