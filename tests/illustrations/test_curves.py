import numpy as np
import pytest

from pneumosearch.report.curves import Confusion, calibration, confusion, roc_band


def test_confusion_counts_above_the_threshold_and_not_at_it() -> None:
    counts = confusion([1, 1, 0, 0], np.array([0.5, 0.9, 0.6, 0.1]), 0.5)
    assert counts == Confusion(ill_called_ill=1, ill_called_normal=1, normal_called_ill=1, normal_called_normal=1)


def test_roc_curve_has_one_point_for_equal_probabilities() -> None:
    band = roc_band([1, 0, 1, 0], np.array([0.9, 0.5, 0.5, 0.1]), ["a", "b", "c", "d"])
    assert band.false_positive == pytest.approx([0, 0, 0.5, 1])
    assert band.true_positive == pytest.approx([0, 0.5, 1, 1])


def test_roc_band_surrounds_the_curve_and_grows_where_patients_have_many_images() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 200)
    p = np.clip(0.5 + 0.2 * (labels - 0.5) + 0.2 * rng.standard_normal(200), 0, 1)
    truth = [int(label) for label in labels]
    alone = roc_band(truth, p, [str(n) for n in range(200)])
    grouped = roc_band(truth, p, [str(n // 20) for n in range(200)])
    middle = np.interp(alone.grid, alone.false_positive, alone.true_positive)
    inside = slice(5, 96)
    assert (alone.low[inside] <= middle[inside] + 1e-9).all()
    assert (middle[inside] <= alone.high[inside] + 1e-9).all()
    assert (alone.high - alone.low).mean() > 0.05
    assert not np.array_equal(grouped.low, alone.low)


def test_roc_needs_both_classes() -> None:
    with pytest.raises(ValueError, match="both classes"):
        roc_band([1, 1], np.array([0.1, 0.2]), ["a", "b"])


def test_calibration_counts_each_image_once_and_a_probability_of_one_in_the_last_bin() -> None:
    bins = calibration([0, 1, 1, 1], np.array([0.05, 0.95, 1.0, 0.52]))
    assert [(each.n, each.share_ill) for each in bins] == [(1, 0.0), (1, 1.0), (2, 1.0)]
    assert bins[2].mean_probability == pytest.approx(0.975)
    assert bins[2].low < 1.0 == bins[2].high
