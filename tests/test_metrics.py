import math
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pneumosearch.errors import ConfigError
from pneumosearch.intervals import wilson_interval
from pneumosearch.metrics import (
    METRICS,
    BatteryScores,
    Scores,
    StressScores,
    battery_score,
    best_threshold,
    brier_score,
    calibration_error,
    direction,
    metric_name,
    scale,
    score,
    shown,
)
from pneumosearch.records.epoch import EpochMetrics
from pneumosearch.studyfile import checked_spec


def test_scores_of_a_known_case() -> None:
    scores = score([0, 0, 1, 1, 1], [0.2, 0.6, 0.7, 0.4, 0.9])
    assert scores.accuracy == pytest.approx(3 / 5)
    assert scores.sensitivity == pytest.approx(2 / 3)
    assert scores.specificity == pytest.approx(1 / 2)
    assert scores.balanced_accuracy == pytest.approx(7 / 12)
    assert scores.auc == pytest.approx(5 / 6)
    expected = -np.mean(np.log([0.8, 0.4, 0.7, 0.4, 0.9]))
    assert scores.loss == pytest.approx(expected)


def test_certain_and_wrong_gives_a_finite_loss_and_nan_a_nan() -> None:
    assert 10 < score([0, 1], [1.0, 0.0]).loss < 20
    assert math.isnan(score([0, 1], [math.nan, 0.5]).loss)


def test_only_loss_is_minimised() -> None:
    assert [direction(m) for m in ("accuracy", "auc", "balanced_accuracy", "loss")] == ["maximize"] * 3 + ["minimize"]


def test_wilson_interval_of_the_published_best() -> None:
    low, high = wilson_interval(538, 624)  # 86.2 %
    assert [low, high] == pytest.approx([0.833, 0.887], abs=0.001)


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_interval_holds_the_proportion(case: tuple[int, int]) -> None:
    successes, n = case
    low, high = wilson_interval(successes, n)
    assert 0 <= low <= successes / n + 1e-12
    assert successes / n - 1e-12 <= high <= 1


def test_brier_score_of_known_cases() -> None:
    assert brier_score([0, 1, 1], [0.0, 1.0, 1.0]) == 0
    assert brier_score([0, 1], [0.5, 0.5]) == 0.25
    assert brier_score([0, 1, 1, 0], [0.1, 0.9, 0.8, 0.3]) == pytest.approx((0.01 + 0.01 + 0.04 + 0.09) / 4)


def test_calibration_error_of_known_cases() -> None:
    assert calibration_error([0, 1], [0.0, 1.0]) == 0
    assert calibration_error([0, 1, 0, 1], [0.5, 0.5, 0.5, 0.5]) == 0  # right as often as it says
    assert calibration_error([0, 0, 1, 1], [0.95, 0.95, 0.95, 0.95]) == pytest.approx(0.45)
    # Two bins: |0.25 - 0| over two images and |0.85 - 0.5| over two.
    assert calibration_error([0, 0, 1, 0], [0.22, 0.28, 0.81, 0.89]) == pytest.approx((2 * 0.25 + 2 * 0.35) / 4)


@given(st.lists(st.tuples(st.integers(0, 1), st.floats(0, 1)), min_size=1, max_size=50))
def test_calibration_error_is_a_fraction(cases: list[tuple[int, float]]) -> None:
    labels, probabilities = zip(*cases, strict=True)
    assert 0 <= calibration_error(labels, probabilities) <= 1


def test_threshold_is_the_best_and_of_equal_ones_the_nearest_to_half() -> None:
    assert best_threshold([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9]) == 0.5
    assert best_threshold([0, 0, 1, 1], [0.6, 0.7, 0.8, 0.9]) == pytest.approx(0.75)
    assert best_threshold([0, 1, 0, 1], [0.1, 0.2, 0.7, 0.9]) == pytest.approx(0.8)  # as good as 0.15
    assert best_threshold([0, 1], [0.3, 0.3]) == 0.5


SOME = st.lists(st.integers(0, 20).map(lambda i: i / 20), min_size=1, max_size=20)


@given(SOME, SOME)
def test_no_threshold_is_better_than_the_best(normal: list[float], ill: list[float]) -> None:
    labels, p = [0] * len(normal) + [1] * len(ill), normal + ill
    best = score(labels, p, threshold=best_threshold(labels, p)).balanced_accuracy
    others = [score(labels, p, threshold=t).balanced_accuracy for t in [*p, 0.5]]
    assert best >= max(others) - 1e-9


def test_battery_scores_of_a_known_case() -> None:
    labels = [0, 0, 1, 1]
    right, all_ill, mixed = [0.1, 0.2, 0.8, 0.9], [0.7, 0.8, 0.9, 0.95], [0.1, 0.6, 0.4, 0.9]
    families = {"darker": "exposure", "brighter": "exposure", "coarser": "resolution"}
    found = battery_score(labels, right + all_ill + mixed, families)
    assert found.copies == {"darker": 1.0, "brighter": 0.5, "coarser": 0.5}
    assert found.families["exposure"].accuracy == 0.75
    assert found.families["exposure"].specificity == 0.5
    assert found.families["resolution"].auc == 0.75
    assert found.shift_accuracy == pytest.approx(2 / 3)
    assert found.shift_specificity == pytest.approx((1 + 0 + 0.5) / 3)
    assert found.shift_auc == pytest.approx((1 + 1 + 0.75) / 3)
    assert found.worst_family == 0.5
    losses = [-np.mean(np.log(p)) for p in ([0.9, 0.8, 0.8, 0.9], [0.3, 0.2, 0.9, 0.95], [0.9, 0.4, 0.4, 0.9])]
    assert found.shift_loss == pytest.approx(np.mean(losses))


def test_families_that_trained_do_not_count_among_the_unseen() -> None:
    labels, families = [0, 1], {"darker": "exposure", "coarser": "resolution"}
    probabilities = [0.1, 0.9, 0.6, 0.9]  # 1.0 and 0.5
    trained = ((), ("exposure",), ("resolution", "tone"), ("exposure", "resolution"))
    unseen = [battery_score(labels, probabilities, families, each).unseen_shift_accuracy for each in trained]
    assert unseen == [0.75, 0.5, 1.0, 0.5]  # where all trained, the worst one judges


def test_loss_over_the_battery_weighs_both_classes_the_same() -> None:
    found = battery_score([0, 1, 1, 1], [0.5, 0.9, 0.9, 0.9], {"darker": "exposure"})
    assert found.shift_loss == pytest.approx(-(np.log(0.5) + np.log(0.9)) / 2)


def test_table_of_metrics_names_what_is_computed_and_recorded() -> None:
    computed = {
        "images": [field.name for field in fields(Scores)],
        "changed copies": [field.name for field in fields(StressScores)],
        "battery": [field.name for field in fields(BatteryScores) if field.name not in ("families", "copies")],
    }
    for judge, names in computed.items():
        assert sorted(names) == sorted(name for name, kind in METRICS.items() if kind.judge == judge)
    assert {f"validation_{name}" for name in METRICS} <= EpochMetrics.model_fields.keys()
    assert {f"test_{name}" for name in computed["images"]} <= EpochMetrics.model_fields.keys()


@pytest.mark.parametrize("metric", [name for name, kind in METRICS.items() if kind.use == "search"])
def test_a_search_by_any_metric_has_a_pruner_that_agrees(metric: str) -> None:
    spec = checked_spec({"metric": metric}, "test")
    assert spec.prune_by == METRICS[metric].prune_by
    assert direction(spec.prune_by) == direction(metric)


@pytest.mark.parametrize("metric", [name for name, kind in METRICS.items() if kind.use != "search"])
def test_what_is_only_recorded_or_only_prunes_is_no_metric_of_a_search(metric: str) -> None:
    with pytest.raises(ConfigError, match="metric: "):
        checked_spec({"metric": metric}, "test")


def test_metrics_are_shown_in_their_unit_and_words() -> None:
    assert shown(0.8621, "accuracy") == "86.2 %"
    assert shown(0.8621, "stress_auc") == "0.8621"
    assert metric_name("stress_balanced_accuracy") == "balanced accuracy of changed copies"
    assert (scale("stress_worst"), scale("loss")) == (100.0, 1.0)
