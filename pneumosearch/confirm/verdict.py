"""The verdict: statistics on the predicted probabilities of the test images, without images or networks."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from pneumosearch.config import TrialConfig
from pneumosearch.confirm.sentences import conclusion, p_value, sentences
from pneumosearch.inference.scoring import scored
from pneumosearch.intervals import (
    Floats,
    bootstrap_differences,
    expected_luck,
    holm,
    mcnemar_p,
    mean_interval,
    pooled_deviation,
    residual_deviation,
    sample_deviation,
)
from pneumosearch.records.classes import Shown
from pneumosearch.records.confirmation import (
    Candidate,
    Comparison,
    Estimate,
    FailedReplicate,
    Naming,
    Replicate,
    Role,
    TestScores,
    Verdict,
)

#: Metrics estimated over seeds: all of `TestScores` except the interval, which is of a single network.
METRICS: Final = tuple(name for name in TestScores.model_fields if name not in ("accuracy_low", "accuracy_high"))

#: Position of the finalist that was best in the search; candidates are in this order.
FIRST_FINALIST: Final = 1


@dataclass(frozen=True)
class Searched:
    """Results of the search, before the test set is opened."""

    n_searched: int  # configurations that were completed or pruned, without the baseline
    validation_gain: float  # winner minus baseline, in validation accuracy
    n_validation: int  # validation images
    kind: Shown  # what may stand beside the result


def candidate(
    replicates: Sequence[Replicate],
    labels: Sequence[int],
    *,
    role: Role,
    study: str,
    trial: int,
    config: TrialConfig,
    failures: Sequence[FailedReplicate] = (),
) -> Candidate:
    """Return the metrics of a configuration over its replicates, and those of the ensemble with their mean probability.

    Args:
        replicates: At least one.
        labels: (n,) of the test images, 0 (normal) or 1 (pneumonia).
        role: Baseline, finalist or control.
        study: Name of the search.
        trial: Number of the trial in the search.
        config: The configuration.
        failures: Its replicates that failed, which no figure counts.
    """
    ensemble = ensemble_probabilities(replicates)
    threshold = float(np.mean([replicate.at_threshold.threshold for replicate in replicates]))
    return Candidate(
        role=role,
        study=study,
        trial=trial,
        config=config,
        replicates=tuple(replicates),
        at_half=_estimates([replicate.at_half for replicate in replicates]),
        at_threshold=_estimates([replicate.at_threshold for replicate in replicates]),
        ensemble_at_half=scored(labels, ensemble, 0.5),
        ensemble_at_threshold=scored(labels, ensemble, threshold),
        failures=tuple(failures),
    )


def ensemble_probabilities(replicates: Sequence[Replicate]) -> Floats:
    """Return the mean probability of each test image over the replicates, (n,)."""
    return np.asarray(_probabilities(replicates).mean(axis=0))


def _probabilities(replicates: Sequence[Replicate]) -> Floats:
    return np.array([replicate.probabilities for replicate in replicates], dtype=np.float64)


def _estimates(scores: Sequence[TestScores]) -> dict[str, Estimate]:
    return {name: _estimate([getattr(one, name) for one in scores]) for name in METRICS}


def _estimate(values: Sequence[float]) -> Estimate:
    low, high = mean_interval(values)  # of two seeds it may reach beyond what a fraction can be
    mean, deviation = float(np.mean(values)), sample_deviation(values)
    return Estimate(mean=mean, deviation=deviation, low=max(0.0, low), high=min(1.0, high))


def compared(
    candidates: Sequence[Candidate], labels: Sequence[int], patients: Sequence[str], *, named: int | None = None
) -> list[Comparison]:
    """Compare each finalist with the baseline.

    Args:
        candidates: The baseline, then the finalists.
        labels: (n,) of the test images, 0 or 1.
        patients: (n,) the patient of each test image.
        named: Position of the winner, where it was named before the test images were opened. Its comparison is then
            the only one that is drawn a conclusion from, and needs no correction. The others are looked at beside it:
            their intervals (Bonferroni) and p-values (Holm) are corrected for the number of finalists.
    """
    n = len(candidates) - 1
    confidences = [0.95 if named in (None, position) else 1 - 0.05 / n for position in range(1, n + 1)]
    found = [
        _compared(candidates, (position, 0), labels, patients, confidence)
        for position, confidence in enumerate(confidences, start=1)
    ]
    if named is None:
        return found
    adjusted = holm([each.mcnemar_p for each in found])
    return [
        each if each.candidate == named else each.model_copy(update={"adjusted_p": p})
        for each, p in zip(found, adjusted, strict=True)
    ]


def beside_control(
    candidates: Sequence[Candidate], labels: Sequence[int], patients: Sequence[str], finalist: int
) -> Comparison | None:
    """Compare the best finalist that the search found with the control: did it give more than all trials train with?

    It is one comparison, and no part of the conclusion on the baseline, so it needs no correction.

    Args:
        candidates: The baseline, then the finalists, one of which may be the control.
        labels: (n,) of the test images, 0 or 1.
        patients: (n,) the patient of each test image.
        finalist: Position of that finalist; the winner, unless that is the control.

    Returns:
        None where there is no control, where it is this finalist, or where there is no seed on which neither failed.
    """
    control = next((position for position, each in enumerate(candidates) if each.role == "control"), finalist)
    seeds = [{replicate.seed for replicate in candidates[position].replicates} for position in (finalist, control)]
    if control == finalist or seeds[0].isdisjoint(seeds[1]):
        return None
    return _compared(candidates, (finalist, control), labels, patients)


def _compared(
    candidates: Sequence[Candidate],
    positions: tuple[int, int],
    labels: Sequence[int],
    patients: Sequence[str],
    confidence: float = 0.95,
) -> Comparison:
    """Compare the candidate at the first position with the one at the second, pair by pair of their replicates."""
    own, others = (candidates[position].replicates for position in positions)
    pairs = [(one, other) for one in own for other in others if one.seed == other.seed]
    paired, paired_others = (_probabilities(replicates) for replicates in zip(*pairs, strict=True))
    differences = bootstrap_differences(labels, paired, paired_others, patients, confidence=confidence)
    truth = np.asarray(labels) > 0.5
    right, other_right = ((ensemble_probabilities(r) > 0.5) == truth for r in (own, others))
    only_own, only_other = int((right & ~other_right).sum()), int((~right & other_right).sum())
    return Comparison(
        candidate=positions[0],
        difference=differences.accuracy,
        low=differences.accuracy_low,
        high=differences.accuracy_high,
        auc_difference=differences.auc,
        auc_low=differences.auc_low,
        auc_high=differences.auc_high,
        only_candidate_right=only_own,
        only_baseline_right=only_other,
        mcnemar_p=mcnemar_p(only_own, only_other),
        n_seeds=len(pairs),
        confidence=confidence,
    )


def concluded(
    candidates: Sequence[Candidate],
    comparisons: Sequence[Comparison],
    searched: Searched,
    naming: Naming | None = None,
    control: Comparison | None = None,
) -> Verdict:
    """Return the verdict on the winner against the baseline.

    The winner is the finalist that repetition named, or else the first one, the best on validation images in the
    search. Test results do not change this choice. The winner is called better (or worse) only if two results agree in
    direction: the bootstrap interval of the difference in accuracy excludes 0, and the p-value of McNemar's test on
    the seed ensembles is below `sentences.SIGNIFICANCE`. A winner that was not named by repetition has its p-value
    adjusted by Holm's method for the number of finalists.

    Args:
        candidates: The baseline, then the finalists in the order of the search.
        comparisons: Comparison of each finalist with the baseline, in the same order, as `compared` makes them.
        searched: Results of the search.
        naming: How repetition named the winner; None where it did not.
        control: The best finalist that the search found against the control, as `beside_control` makes it.
    """
    winner = _position(candidates, naming)
    verdict = Verdict(
        winner=winner,
        conclusion=conclusion(comparisons[winner - 1], p_value(comparisons, winner, naming)),
        sentences=(),
        n_searched=searched.n_searched,
        validation_gain=searched.validation_gain,
        expected_luck=expected_luck(max(1, searched.n_searched), _noise(candidates, searched.n_validation)),
        beside_control=control,
    )
    in_words = sentences(candidates, comparisons, verdict, searched.kind, naming)
    return verdict.model_copy(update={"sentences": tuple(in_words)})


def _position(candidates: Sequence[Candidate], naming: Naming | None) -> int:
    if naming is None:
        return FIRST_FINALIST
    return next(n for n, each in enumerate(candidates) if n and each.trial == naming.winner)


def _noise(candidates: Sequence[Candidate], n_validation: int) -> float:
    """Return the standard deviation of a validation accuracy: over seeds, or the binomial one with a single seed.

    Folds differ in how hard they are, for all candidates alike: that is no noise between configurations.
    """
    accuracies = [[replicate.validation_accuracy for replicate in each.replicates] for each in candidates]
    folded = any(replicate.fold is not None for each in candidates for replicate in each.replicates)
    noise = residual_deviation(_by_seed(candidates)) if folded else pooled_deviation(accuracies)
    if noise is not None:
        return noise
    p = float(np.mean([accuracy for of_one in accuracies for accuracy in of_one]))
    return math.sqrt(p * (1 - p) / n_validation)


def _by_seed(candidates: Sequence[Candidate]) -> list[list[float | None]]:
    """Return the validation accuracies of each candidate by seed; None where it failed."""
    of_each = [{one.seed: one.validation_accuracy for one in each.replicates} for each in candidates]
    seeds = dict.fromkeys(seed for of_one in of_each for seed in of_one)
    return [[of_one.get(seed) for seed in seeds] for of_one in of_each]
