import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pneumosearch.metrics import direction, score
from pneumosearch.statistics import wilson_interval


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
