"""A confirmation made of random numbers, and what else a page is made of; nothing is trained."""

import numpy as np
import numpy.typing as npt

from pneumosearch.config import TrialConfig
from pneumosearch.inference.scoring import scored
from pneumosearch.records.confirmation import (
    Candidate,
    Comparison,
    Confirmation,
    Estimate,
    Naming,
    Repetition,
    Replicate,
    TestScores,
    Verdict,
)

SEEDS = (1000, 1001, 1002)


def a_confirmation(
    n_images: int = 120, time: str = "2026-02-03T04:05:06+00:00", study: str = "default"
) -> Confirmation:
    """Two finalists beside the baseline; the second candidate is the winner."""
    rng = np.random.default_rng(0)
    labels = (rng.random(n_images) < 0.625).astype(int)
    candidates = [_candidate(rng, labels, study, trial, noise) for trial, noise in ((0, 1.1), (3, 0.8), (6, 0.9))]
    return Confirmation(
        study=study,
        replicates_study=f"{study}-confirm",
        time=time,
        version="0.1.0",
        trained_on="trained on 4,708 images of train + val; 524 chose the epoch and the threshold",
        fingerprint="0123456789abcdef",
        test_fingerprint="fedcba9876543210",
        n_openings=2,
        seeds=SEEDS,
        images=tuple(f"test/{'PNEUMONIA' if label else 'NORMAL'}/im-{i:04d}.jpeg" for i, label in enumerate(labels)),
        labels=tuple(int(label) for label in labels),
        patients=tuple(f"p{i // 2}" for i in range(n_images)),
        candidates=tuple(candidates),
        comparisons=(_comparison(1), _comparison(2)),
        verdict=Verdict(
            winner=1,
            conclusion="better",
            sentences=("Trial 3 is better than the baseline.", "Its gain is 2.1 points."),
            n_searched=23,
            validation_gain=0.017,
            expected_luck=0.012,
        ),
    )


def named_by_repetition(confirmation: Confirmation) -> Confirmation:
    """The same with a winner that repetition named: the second finalist, which was not the best of the search."""
    baseline, first, second = (each.trial for each in confirmation.candidates)
    naming = Naming(
        time="2026-02-03T04:05:00+00:00",
        metric="accuracy",
        n_folds=5,
        seeds=SEEDS,
        winner=second,
        repetitions=(
            Repetition(trial=baseline, searched=0.948, figures=(0.945, 0.941, 0.943), lead=0.0, n_paired=3),
            Repetition(trial=first, searched=0.969, figures=(0.951, None, 0.947), lead=0.005, n_paired=2),
            Repetition(trial=second, searched=0.966, figures=(0.955, 0.952, 0.955), lead=0.011, n_paired=3),
        ),
    )
    winner, other = confirmation.comparisons[1], confirmation.comparisons[0]
    corrected = other.model_copy(update={"confidence": 0.975, "adjusted_p": 0.104})
    return confirmation.model_copy(
        update={
            "naming": naming,
            "comparisons": (corrected, winner),
            "verdict": confirmation.verdict.model_copy(update={"winner": 2}),
        }
    )


def _candidate(
    rng: np.random.Generator, labels: npt.NDArray[np.int_], study: str, trial: int, noise: float
) -> Candidate:
    draws = [rng.normal(1.6 * (2 * labels - 1), 1.6 * noise) for _ in SEEDS]
    probabilities = [1 / (1 + np.exp(-draw)) for draw in draws]
    replicates = tuple(_replicate(labels, p, n) for n, p in enumerate(probabilities))
    mean = np.mean(probabilities, axis=0)
    return Candidate(
        role="baseline" if trial == 0 else "finalist",
        study=study,
        trial=trial,
        config=TrialConfig() if trial == 0 else TrialConfig(zoom=0.1, dropout_3=0.05 * trial),
        replicates=replicates,
        at_half=_estimates([each.at_half for each in replicates]),
        at_threshold=_estimates([each.at_threshold for each in replicates]),
        ensemble_at_half=scored(labels.tolist(), mean, 0.5),
        ensemble_at_threshold=scored(labels.tolist(), mean, 0.62),
    )


def _replicate(labels: npt.NDArray[np.int_], p: npt.NDArray[np.float64], n: int) -> Replicate:
    return Replicate(
        trial=n,
        seed=SEEDS[n],
        kept_epoch=8,
        validation_accuracy=0.95,
        validation_auc=0.98,
        at_half=scored(labels.tolist(), p, 0.5),
        at_threshold=scored(labels.tolist(), p, 0.6),
        probabilities=tuple(float(each) for each in p),
    )


def _estimates(scores: list[TestScores]) -> dict[str, Estimate]:
    found = {}
    for name in TestScores.model_fields:
        values = np.array([getattr(each, name) for each in scores])
        mean, deviation = float(values.mean()), float(values.std(ddof=1))
        found[name] = Estimate(mean=mean, deviation=deviation, low=mean - 2 * deviation, high=mean + 2 * deviation)
    return found


def _comparison(candidate: int) -> Comparison:
    return Comparison(
        candidate=candidate,
        difference=0.021,
        low=0.004,
        high=0.038,
        auc_difference=0.011,
        auc_low=-0.002,
        auc_high=0.024,
        only_candidate_right=19,
        only_baseline_right=8,
        mcnemar_p=0.052,
    )
