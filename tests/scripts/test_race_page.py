"""The live race as figures and as a page."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from benchmarks.live_report import draw, losses, markdown
from benchmarks.live_rows import JUDGED_BY, Run, coverage, read_runs, results, spread
from benchmarks.live_sides import EPOCHS_FILE


def a_run(times_and_accuracies: dict[float, float], **summary: Any) -> Run:
    best = list(times_and_accuracies.values())
    summary = {"budget_s": 100.0, "peak_mib": 100, "failures": 0, **summary}
    judged = summary.pop("judged", ())
    first = best[0] if best else None
    return Run(list(times_and_accuracies), {"accuracy": best, "auc": best}, first, 2, summary, judged)


def judged_as(after_s: float, figure: float) -> dict[str, float]:
    return {"after_s": after_s, **dict.fromkeys(JUDGED_BY, figure)}


def a_page(figures: dict[str, Any], **fixed_or_others: object) -> str:
    study = {"fixed": {}, "space": {"zoom": {}}, **fixed_or_others}
    about = {"skipped": {}, "terms": {"study": study, "share": 1.0}, "n_validation": 125, "runs": []}
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
    figures = results(runs, None)
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
    assert "near the best found" not in sentences  # of no side: half of the seeds is no median
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
    page = a_page(figures, others={"vertical_flip": False})
    assert "vertical_flip = False: in all trials, but for the published network of pneumosearch." in page


def test_race_without_an_end_of_ours_says_who_came_there() -> None:
    runs = {"pneumosearch": [a_run({10: 0.94}), a_run({10: 0.9})], "optuna": [a_run({60: 0.95})]}
    sentences = losses(results(runs, None))
    assert "Its median run does not come to near the best found in its time, unlike optuna (60 s)." in sentences


def test_race_that_is_won_everywhere_says_so() -> None:
    runs = {"pneumosearch": [a_run({10: 0.9})], "optuna": [a_run({20: 0.8})]}
    assert losses(results(runs, None)) == ["Nowhere: in each table, no other side's median is better."]
    assert losses(results({"optuna": runs["optuna"]}, None)) == ["pneumosearch has not been run."]


def test_page_tells_the_probability_of_its_bounds_for_each_number_of_runs() -> None:
    one, five = a_run({10: 0.9}), [a_run({10 + seed: 0.8}) for seed in range(5)]
    page = a_page(results({"pneumosearch": five, "optuna": five[:3], "ray": [one]}, None))
    assert "with a probability of 94% (5 runs) and 75% (3 runs). A side that ran once has no interval. The best" in page


def test_page_says_what_the_default_study_has_of_its_own() -> None:
    runs = {"pneumosearch": [a_run({10: 0.9})], "pneumosearch-default": [a_run({10: 0.8})]}
    assert "pneumosearch-default is the default study: another space" in a_page(results(runs, None))
    assert "the default study" not in a_page(results({"pneumosearch": runs["pneumosearch"]}, None))


def test_side_with_less_time_is_compared_as_at_its_end() -> None:
    runs = {"pneumosearch": [a_run({10: 0.85, 20: 0.90}, budget_s=30.0)], "optuna": [a_run({20: 0.80, 90: 0.95})]}
    figures = results(runs, None)
    assert figures["times_s"] == [10, 25, 30, 50, 100]
    page = a_page(figures)
    assert page.startswith("# The live race: 1.67 min a run (pneumosearch 30 s)\n")
    assert "| pneumosearch | 85.00 | 90.00 | 90.00 | 90.00* | 90.00* |" in page
    assert "| optuna | – | 80.00 | 80.00 | 80.00 | 95.00 |" in page
    assert any("After 1.67 min, its best validation accuracy (90.00%) is below" in each for each in losses(figures))
    assert "As at its end" not in a_page(results({"optuna": runs["optuna"]}, None))


def test_judged_incumbents_have_a_row_for_each_time() -> None:
    ours = [a_run({10: 0.9}, budget_s=30.0, judged=[judged_as(30.0, figure)]) for figure in (0.7, 0.8)]
    theirs = a_run({10: 0.9}, judged=[judged_as(30.0, 0.6), judged_as(100.0, 0.8)])
    figures = results({"pneumosearch": ours, "optuna": [theirs], "ray": [a_run({10: 0.9})]}, None)
    page = a_page(figures)
    assert "| pneumosearch | 30 s | 2 | 75.00 (70.00 to 80.00) |" in page
    assert "| optuna | 30 s | 1 | 60.00 | 60.00 | 60.00 | 60.00 | 60.00 |" in page
    assert "| optuna | 1.67 min | 1 | 80.00 |" in page
    sentence = (
        "Judged afterwards, the balanced accuracy of the worst family of its incumbent after 30 s (75.00%) is below "
        "that of optuna after 1.67 min (80.00%)."
    )
    assert sentence in losses(figures)
    assert "Incumbents judged" not in a_page(results({"ray": [a_run({10: 0.9})]}, None))


def test_runs_that_are_there_are_read_in_the_order_of_their_seeds(tmp_path: Path) -> None:
    for side, seed in (("optuna", 10), ("optuna", 9), ("ray", 1)):
        folder = tmp_path / "runs" / side / f"seed-{seed}"
        folder.mkdir(parents=True)
        (folder / EPOCHS_FILE).touch()
        (folder / "summary.json").write_text(json.dumps({"budget_s": 10.0, "seed": seed}))
    (tmp_path / "runs" / "ray" / "seed-1" / "judged.json").write_text('[{"after_s": 10.0}]')
    (tmp_path / "runs" / "optuna" / "seed-11").mkdir()
    runs = read_runs(tmp_path, ["pneumosearch", "ray", "optuna"])
    assert [(side, [run.summary["seed"] for run in own]) for side, own in runs.items()] == [
        ("ray", [1]),
        ("optuna", [9, 10]),
    ]
    assert runs["ray"][0].judged == [{"after_s": 10.0}]


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
