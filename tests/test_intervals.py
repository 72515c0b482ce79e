import math
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from pneumosearch.intervals import (
    bootstrap_aucs,
    bootstrap_differences,
    bootstrap_means,
    expected_luck,
    expected_maximum,
    holm,
    mcnemar_p,
    mean_interval,
    pooled_deviation,
    residual_deviation,
    sample_deviation,
    weighted_auc,
)


def test_student_interval_of_a_known_sample() -> None:
    # Mean 3, standard error sqrt(2.5 / 5), t(0.975; 4) = 2.776445
    low, high = mean_interval([1, 2, 3, 4, 5])
    assert [low, high] == pytest.approx([3 - 2.776445 * math.sqrt(0.5), 3 + 2.776445 * math.sqrt(0.5)], abs=1e-6)


def test_interval_of_a_single_value_and_of_equal_ones_is_the_value() -> None:
    assert mean_interval([0.8]) == (0.8, 0.8)
    assert mean_interval([0.5, 0.5, 0.5]) == (0.5, 0.5)


def test_deviations() -> None:
    assert sample_deviation([2, 4, 4, 4, 5, 5, 7, 9]) == pytest.approx(math.sqrt(32 / 7))
    assert sample_deviation([3]) == 0
    assert pooled_deviation([[1, 3], [10, 12, 14]]) == pytest.approx(math.sqrt((2 + 8) / 3))
    assert pooled_deviation([[1], [2]]) is None


@pytest.mark.parametrize(
    ("only_first", "only_second", "p"),
    [(0, 0, 1.0), (5, 5, 1.0), (0, 5, 2 / 32), (1, 9, 22 / 1024), (10, 0, 2 / 1024)],
)
def test_mcnemar_by_hand(only_first: int, only_second: int, p: float) -> None:
    assert mcnemar_p(only_first, only_second) == pytest.approx(p)
    assert mcnemar_p(only_second, only_first) == pytest.approx(p)


def test_holm_of_a_known_case() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.04]) == [0.04]
    assert holm([0.9, 0.8]) == [1.0, 1.0]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_lies_between_no_correction_and_bonferronis(p_values: list[float]) -> None:
    for p, adjusted in zip(p_values, holm(p_values), strict=True):
        assert p <= adjusted <= min(1.0, len(p_values) * p) or adjusted == pytest.approx(p)


@pytest.mark.parametrize(
    ("n", "expected"),
    [
        (1, 0.0),
        (2, 1 / math.sqrt(math.pi)),
        (3, 1.5 / math.sqrt(math.pi)),
        (10, 1.53875),
        (100, 2.50759),
    ],
)
def test_expected_maximum_equals_the_published_tables(n: int, expected: float) -> None:
    assert expected_maximum(n) == pytest.approx(expected, abs=1e-4)


def test_expected_maximum_of_many_equals_a_simulation() -> None:
    draws = np.random.default_rng(0).standard_normal((2000, 1000)).max(axis=1)
    assert expected_maximum(1000) == pytest.approx(draws.mean(), abs=0.03)
    assert expected_luck(1000, 0.02) == pytest.approx(0.02 * expected_maximum(1000))


def test_weighted_auc_of_whole_weights_equals_repeated_images() -> None:
    generator = np.random.default_rng(1)
    truth = generator.random(60) < 0.6
    p = np.round(generator.random((2, 60)), 1)  # with ties
    weights = generator.integers(0, 4, (5, 60)).astype(float)
    areas = weighted_auc(truth, p, weights)
    for row, counts in enumerate(weights.astype(int)):
        for column in range(2):
            expected = roc_auc_score(np.repeat(truth, counts), np.repeat(p[column], counts))
            assert areas[row, column] == pytest.approx(expected)


def test_auc_without_a_class_is_not_a_number() -> None:
    assert np.isnan(weighted_auc(np.array([True, False]), np.array([[0.1, 0.2]]), np.array([[1.0, 0.0]])))


def two_candidates(gain: float, n_seeds: int = 5, n: int = 624) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
    """Labels, probabilities of two candidates of which the first is right on `gain` more images, and patients."""
    generator = np.random.default_rng(7)
    labels = (np.arange(n) < 0.625 * n).astype(int)
    difficulty = generator.normal(size=n)
    seeds = generator.normal(scale=0.5, size=(2, n_seeds, n))
    margin = difficulty + 1.1 + seeds
    margin[0] += 3.3 * gain
    p = 1 / (1 + np.exp(-np.where(labels == 1, margin, -margin)))
    return labels, p[0], p[1], [f"patient {i // 2}" for i in range(n)]


def test_bootstrap_shows_a_true_difference_and_none_where_there_is_none() -> None:
    better = bootstrap_differences(*two_candidates(0.1))
    assert better.accuracy > 0.03
    assert 0 < better.accuracy_low < better.accuracy < better.accuracy_high
    assert 0 < better.auc_low < better.auc < better.auc_high
    equal = bootstrap_differences(*two_candidates(0.0))
    assert equal.accuracy_low < 0 < equal.accuracy_high
    assert equal.auc_low < 0 < equal.auc_high


def test_bootstrap_is_antisymmetric_exact_in_the_middle_and_repeatable() -> None:
    labels, first, second, patients = two_candidates(0.05, n_seeds=3, n=200)
    there = bootstrap_differences(labels, first, second, patients)
    back = bootstrap_differences(labels, second, first, patients)
    assert there.accuracy == pytest.approx(np.mean((first > 0.5) == labels) - np.mean((second > 0.5) == labels))
    areas = [np.mean([roc_auc_score(labels, p) for p in candidate]) for candidate in (first, second)]
    assert there.auc == pytest.approx(areas[0] - areas[1])
    assert [back.accuracy_low, back.accuracy_high] == pytest.approx([-there.accuracy_high, -there.accuracy_low])
    assert bootstrap_differences(labels, first, second, patients) == there


def test_images_of_one_patient_count_as_one_draw() -> None:
    labels, first, second, _ = two_candidates(0.05, n_seeds=2, n=64)
    by_image = [str(i) for i in range(64)]
    many, p, q = (np.repeat(each, 10, axis=-1) for each in (labels, first, second))
    clustered = bootstrap_differences(many, p, q, [str(i // 10) for i in range(640)])
    naive = bootstrap_differences(many, p, q, [str(i) for i in range(640)])
    single = bootstrap_differences(labels, first, second, by_image)
    width = single.accuracy_high - single.accuracy_low
    assert clustered.accuracy_high - clustered.accuracy_low == pytest.approx(width, rel=0.1)
    assert naive.accuracy_high - naive.accuracy_low < 0.7 * width


def test_identical_candidates_differ_by_exactly_nothing() -> None:
    labels, first, _, patients = two_candidates(0.05, n_seeds=2, n=64)
    same = bootstrap_differences(labels, first, first, patients)
    assert (same.accuracy_low, same.accuracy, same.accuracy_high) == (0, 0, 0)
    assert (same.auc_low, same.auc, same.auc_high) == (0, 0, 0)


def test_bootstrap_of_the_published_size_takes_seconds() -> None:
    case = two_candidates(0.05)
    start = time.process_time()  # which a busy machine does not lengthen
    bootstrap_differences(*case)
    assert time.process_time() - start < 15  # about one


def test_auc_with_its_interval_is_sklearns_and_clustered_images_widen_it() -> None:
    generator = np.random.default_rng(3)
    patients = np.repeat(np.arange(60), 5)
    labels = patients % 2
    of_patient = np.repeat(generator.normal(size=60), 5)
    scores = np.round(np.vstack([labels + of_patient, np.zeros(300)]), 1).astype(np.float64)
    clustered, constant = bootstrap_aucs(labels, scores, [str(p) for p in patients], n_resamples=400)
    alone, _ = bootstrap_aucs(labels, scores, [str(i) for i in range(300)], n_resamples=400)
    assert clustered[0] == pytest.approx(roc_auc_score(labels, scores[0]))
    assert clustered[1] < clustered[0] < clustered[2]
    assert clustered[2] - clustered[1] > 1.5 * (alone[2] - alone[1])
    assert constant == (0.5, 0.5, 0.5)


def test_deviation_without_rows_and_columns_is_that_of_the_noise() -> None:
    generator = np.random.default_rng(5)
    noise = generator.normal(scale=0.02, size=(40, 5))
    table = (noise + generator.normal(size=(40, 1)) + generator.normal(size=5)).tolist()
    assert residual_deviation(table) == pytest.approx(0.02, rel=0.2)
    table[3][1] = table[7][4] = None
    assert residual_deviation(table) == pytest.approx(0.02, rel=0.2)
    assert residual_deviation([[0.9, 0.8], [0.95, 0.85]]) == pytest.approx(0.0, abs=1e-12)
    assert residual_deviation([[0.9], [0.8]]) is None


def test_bootstrap_of_means_is_over_patients_and_balances_strata() -> None:
    right = np.array([1.0, 1.0, 1.0, 0.0])
    value, low, high = bootstrap_means(right, [0, 0, 0, 1], ["a", "b", "c", "d"])
    assert (value, low, high) == (0.5, 0.5, 0.5)  # each stratum is constant
    value, low, high = bootstrap_means(np.array([1.0, 0.0] * 50), np.zeros(100), [f"p{i // 2}" for i in range(100)])
    assert (value, low, high) == (0.5, 0.5, 0.5)  # each patient is half right
    value, low, high = bootstrap_means(np.array([1.0, 0.0] * 50), np.zeros(100), [f"p{i}" for i in range(100)])
    assert 0.35 < low < value < high < 0.65
