"""From synthetic probabilities to a verdict."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pytest

from pneumosearch.config import TrialConfig
from pneumosearch.confirm.verdict import (
    Searched,
    beside_control,
    candidate,
    compared,
    concluded,
    ensemble_probabilities,
)
from pneumosearch.inference.scoring import scored
from pneumosearch.intervals import Floats, expected_maximum
from pneumosearch.records.classes import Shown
from pneumosearch.records.confirmation import Candidate, Comparison, Naming, Repetition, Replicate, Verdict
from pneumosearch.records.dataset import PHANTOMS

N = 400
LABELS = [int(i < 0.6 * N) for i in range(N)]
PATIENTS = [f"patient {i // 2}" for i in range(N)]
_DIFFICULTY = np.random.default_rng(0).normal(size=N)


def probabilities(skill: float, seed: int) -> Floats:
    """Probabilities of a network that is right where its skill exceeds an image's difficulty, more or less."""
    margin = skill + _DIFFICULTY + np.random.default_rng(seed).normal(scale=0.5, size=N)
    return np.asarray(1 / (1 + np.exp(-np.where(np.array(LABELS) == 1, margin, -margin))))


def a_candidate(number: int, skill: float, seeds: Sequence[int] = (1, 2, 3), validation: float = 0.9) -> Candidate:
    def replicate(seed: int) -> Replicate:
        p = probabilities(skill, 100 * number + seed)
        return Replicate(
            trial=seed,
            seed=seed,
            kept_epoch=1,
            validation_accuracy=validation + 0.01 * seed,
            validation_auc=0.9,
            at_half=scored(LABELS, p, 0.5),
            at_threshold=scored(LABELS, p, 0.4),
            probabilities=tuple(p),
        )

    role: Literal["baseline", "finalist"] = "finalist" if number else "baseline"
    replicates = [replicate(seed) for seed in seeds]
    return candidate(replicates, LABELS, role=role, study="default", trial=number, config=TrialConfig())


def judge(*skills: float, seeds: Sequence[int] = (1, 2, 3), kind: Shown = "images") -> Verdict:
    """Judge candidates of these skills, the baseline's first."""
    candidates = [a_candidate(number, skill, seeds) for number, skill in enumerate(skills)]
    return concluded(candidates, compared(candidates, LABELS, PATIENTS), Searched(49, 0.023, 500, kind))


def test_truly_better_candidate_is_called_better_and_a_worse_one_worse() -> None:
    assert judge(1.0, 2.0).conclusion == "better"
    assert judge(2.0, 1.0).conclusion == "worse"


def test_equal_candidates_cannot_be_told_apart() -> None:
    verdict = judge(1.2, 1.2, 1.2)
    assert verdict.conclusion == "no difference can be shown"
    assert "cannot be shown to differ from the baseline" in verdict.sentences[0]


def test_equal_candidates_are_rarely_called_different() -> None:
    conclusions = []
    for trial in range(1, 7):
        candidates = [a_candidate(0, 1.2), a_candidate(trial, 1.2)]
        searched = Searched(1, 0.0, 500, "images")
        conclusions.append(concluded(candidates, compared(candidates, LABELS, PATIENTS), searched).conclusion)
    assert conclusions.count("no difference can be shown") >= 5


def test_winner_is_the_best_on_validation_even_if_another_is_better_on_the_test_images() -> None:
    verdict = judge(1.2, 1.2, 3.0)
    assert verdict.winner == 1
    assert verdict.conclusion == "no difference can be shown"
    assert verdict.sentences[0].startswith("Trial 1 of 'default'")


def a_naming(winner: int, metric: str = "accuracy") -> Naming:
    leads = ((0, 0.0), (1, 0.004), (2, 0.012))
    repetitions = tuple(
        Repetition(trial=trial, searched=0.95 + lead, figures=(0.93 + lead,) * 3, lead=lead, n_paired=3)
        for trial, lead in leads
    )
    return Naming(time="", metric=metric, n_folds=5, seeds=(1, 2, 3), winner=winner, repetitions=repetitions)


def beside_a_control(
    skill: float, of_control: float, winner: int, seeds: Sequence[int] = (1, 2, 3), naming: Naming | None = None
) -> Verdict:
    """Judge a winner of this skill where the last candidate is the control, on these seeds alone."""
    candidates = [a_candidate(0, 1.2), a_candidate(1, skill), a_candidate(2, of_control, seeds)]
    candidates[2] = candidates[2].model_copy(update={"role": "control"})
    assert candidates[2].label == "default 2, the control"
    comparisons = compared(candidates[:2], LABELS, PATIENTS) * 2  # with a control of other seeds there is no second
    naming = naming or a_naming(winner)
    control = beside_control(candidates, LABELS, PATIENTS, naming.searched)
    return concluded(candidates, comparisons, Searched(9, 0.0, 500, "images"), naming, control)


def on_the_control(verdict: Verdict) -> str:
    """Return the sentences on the control, from the first that names it as what it is."""
    first = next((n for n, each in enumerate(verdict.sentences) if "the baseline's values trained" in each), None)
    return "" if first is None else " ".join(verdict.sentences[first : first + 3])


@pytest.mark.parametrize(
    ("skill", "of_control", "found"),
    [
        (2.0, 1.0, "what the search found is better."),
        (1.0, 2.0, "what the search found is worse."),
        (1.2, 1.2, "that the search made a difference cannot be shown."),
    ],
)
def test_verdict_tells_what_the_search_gave_beside_the_control(skill: float, of_control: float, found: str) -> None:
    verdict = beside_a_control(skill, of_control, winner=1)
    beside = verdict.beside_control
    assert beside is not None
    assert (beside.candidate, beside.n_seeds, beside.confidence, beside.adjusted_p) == (1, 3, 0.95, None)
    assert beside.low <= beside.difference <= beside.high
    said = on_the_control(verdict)
    assert said.startswith(
        "The control, the baseline's values trained like all others, has 94.2 % on repetition. The winner differs from "
        "it by -0.8 points (95% from -0.8 points to -0.8 points over 3 seeds) on repetition. On the test images the "
        "control has "
    )
    assert f"trial 1 differs by {100 * beside.difference:+.1f} points (95% from {100 * beside.low:+.1f} to" in said
    assert said.endswith(found)


def test_lead_on_the_control_has_an_interval_over_the_seeds_that_trained_both() -> None:
    first, winner, control = a_naming(1).repetitions
    figures = {1: (0.92, 0.95, 0.96), 2: (0.90, None, 0.92)}
    repetitions = (first, *(each.model_copy(update={"figures": figures[each.trial]}) for each in (winner, control)))
    naming = a_naming(1).model_copy(update={"repetitions": repetitions})
    said = on_the_control(beside_a_control(1.2, 1.2, winner=1, naming=naming))
    # 3 +- 12.706 * 1
    assert "differs from it by +3.0 points (95% from -9.7 points to +15.7 points over 2 seeds) on repetition." in said


@pytest.mark.parametrize(
    ("skill", "found"),
    [
        (2.0, "what the search found is better."),
        (1.2, "that the search made a difference cannot be shown."),
    ],
)
def test_best_that_the_search_found_is_compared_with_a_control_that_wins(skill: float, found: str) -> None:
    naming = a_naming(2).model_copy(update={"best_searched": 1})
    verdict = beside_a_control(skill, 1.2, winner=2, naming=naming)
    assert verdict.beside_control is not None
    assert verdict.beside_control.candidate == 1
    assert verdict.sentences[0].startswith("Trial 2 of 'default', the control, named by repetition before")
    said = on_the_control(verdict)
    assert said.startswith(
        "It is the control, the baseline's values trained like all others: on repetition the search has found nothing "
        "better. Trial 1, the best that the search found, differs from it by -0.8 points (95% "
    )
    assert said.endswith(found)


def test_control_that_wins_without_another_finalist_is_not_compared_with_itself() -> None:
    verdict = beside_a_control(1.2, 1.2, winner=2)  # as in confirmations of earlier versions, too
    assert verdict.beside_control is None
    said = on_the_control(verdict)
    assert said.startswith("It is the control, the baseline's values trained like all others: on repetition")
    assert "differs from it" not in said


def test_winner_and_control_without_a_common_seed_are_not_compared() -> None:
    first, winner, control = a_naming(1).repetitions
    figures = {1: (0.92, 0.95, 0.96, None), 2: (None, None, None, 0.9)}
    repetitions = (first, *(each.model_copy(update={"figures": figures[each.trial]}) for each in (winner, control)))
    naming = a_naming(1).model_copy(update={"repetitions": repetitions, "seeds": (1, 2, 3, 4)})
    verdict = beside_a_control(1.2, 1.2, winner=1, seeds=(4,), naming=naming)
    assert verdict.beside_control is None
    assert "90.0 % on repetition. The winner has no seed in common with it on repetition." in on_the_control(verdict)


def test_confirmation_without_a_control_says_nothing_of_one() -> None:
    candidates = [a_candidate(number, 1.2) for number in range(3)]
    assert beside_control(candidates, LABELS, PATIENTS, 1) is None
    comparisons = compared(candidates, LABELS, PATIENTS, named=1)
    verdict = concluded(candidates, comparisons, Searched(9, 0.0, 500, "images"), a_naming(1))
    assert not on_the_control(verdict)


def test_winner_that_repetition_named_needs_no_correction_and_the_others_do() -> None:
    candidates = [a_candidate(number, skill) for number, skill in enumerate((1.2, 1.2, 2.0))]
    plain, named = (compared(candidates, LABELS, PATIENTS, named=position) for position in (None, 2))
    assert [each.confidence for each in named] == [0.975, 0.95]
    assert named[1] == plain[1]
    assert named[0].low <= plain[0].low <= plain[0].high <= named[0].high
    assert named[1].adjusted_p is None
    assert named[0].adjusted_p is not None
    assert named[0].adjusted_p >= named[0].mcnemar_p
    verdict = concluded(candidates, named, Searched(49, 0.023, 500, "images"), a_naming(2))
    assert (verdict.winner, verdict.conclusion) == (2, "better")
    words = " ".join(verdict.sentences)
    assert "needs no correction. For the other finalists, intervals (97.5%)" in words
    assert "its validation accuracy went from 96.2 % in the search to 94.2 %" in words
    assert "the lead from +1.2 points to +1.2 points" in words
    assert "adjusted" not in words


@pytest.mark.parametrize(
    ("metric", "baseline", "behind"),
    [("accuracy", 0.97, True), ("accuracy", 0.95, False), ("loss", 0.9, True), ("loss", 0.97, False)],
)
def test_winner_that_the_baseline_beat_in_the_search_is_not_called_its_best(
    metric: str, baseline: float, behind: bool
) -> None:
    naming = a_naming(1, metric)
    first, only, _ = naming.repetitions
    naming = naming.model_copy(update={"repetitions": (first.model_copy(update={"searched": baseline}), only)})
    candidates = [a_candidate(number, 1.2) for number in range(2)]
    comparisons = compared(candidates, LABELS, PATIENTS, named=1)
    said = concluded(candidates, comparisons, Searched(49, 0.023, 500, "images"), naming).sentences[0]
    assert ("the best on validation images after the baseline, " in said) == behind
    assert ("the best on validation images, " in said) != behind


def test_winner_without_a_naming_is_behind_by_its_accuracy() -> None:
    candidates = [a_candidate(number, 1.2) for number in range(2)]
    comparisons = compared(candidates, LABELS, PATIENTS)
    for gain, behind in ((-0.01, True), (0.01, False)):
        said = concluded(candidates, comparisons, Searched(49, gain, 500, "images")).sentences[0]
        assert ("after the baseline" in said) == behind


def test_named_winner_is_judged_by_its_own_p_value() -> None:
    comparisons = [a_comparison(mcnemar_p=0.9), a_comparison(candidate=2, mcnemar_p=0.04)]
    candidates = [a_candidate(number, 1.0) for number in range(3)]
    searched = Searched(10, 0.01, 500, "images")
    assert concluded(candidates, comparisons, searched, a_naming(2)).conclusion == "better"
    assert concluded(candidates, comparisons, searched).conclusion == "no difference can be shown"


def test_how_hard_a_fold_is_counts_as_no_luck() -> None:
    def of_fold(each: Candidate, shifts: Sequence[float]) -> Candidate:
        changed = [
            replicate.model_copy(update={"fold": fold, "validation_accuracy": 0.9 + shift})
            for fold, (replicate, shift) in enumerate(zip(each.replicates, shifts, strict=True))
        ]
        return each.model_copy(update={"replicates": tuple(changed)})

    candidates = [of_fold(a_candidate(0, 1.0), (0, 0.04, -0.03)), of_fold(a_candidate(1, 2.0), (0.01, 0.05, -0.02))]
    verdict = concluded(candidates, compared(candidates, LABELS, PATIENTS), Searched(49, 0.02, 500, "images"))
    assert verdict.expected_luck == pytest.approx(0.0, abs=1e-9)


def a_comparison(**changes: float) -> Comparison:
    values = {
        "candidate": 1, "difference": 0.03, "low": 0.01, "high": 0.05, "auc_difference": 0.0, "auc_low": -0.01,
        "auc_high": 0.01, "only_candidate_right": 30, "only_baseline_right": 14, "mcnemar_p": 0.02,
    }  # fmt: skip
    return Comparison.model_validate(values | changes)


@pytest.mark.parametrize(
    ("changes", "others", "conclusion"),
    [
        ({}, 0, "better"),
        ({}, 2, "no difference can be shown"),  # 0.02 is 0.06 among three
        ({"mcnemar_p": 0.06}, 0, "no difference can be shown"),
        ({"low": -0.001}, 0, "no difference can be shown"),
        ({"only_baseline_right": 40}, 0, "no difference can be shown"),  # mean and ensembles point opposite ways
        ({"low": -0.05, "high": -0.01, "only_baseline_right": 50}, 0, "worse"),
        ({"low": -0.05, "high": -0.01}, 0, "no difference can be shown"),
    ],
)
def test_verdict_wants_interval_and_adjusted_test_to_agree(
    changes: dict[str, float], others: int, conclusion: str
) -> None:
    comparisons = [a_comparison(**changes), *[a_comparison(mcnemar_p=0.9)] * others]
    candidates = [a_candidate(number, 1.0) for number in range(2 + others)]
    assert concluded(candidates, comparisons, Searched(10, 0.01, 500, "images")).conclusion == conclusion


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"mcnemar_p": 0.14}, "Only the interval of the difference shows a difference"),
        ({"low": -0.001}, "Only the test of the ensembles shows a difference"),
        ({}, ""),
        ({"low": -0.001, "mcnemar_p": 0.14}, ""),
    ],
)
def test_verdict_says_where_only_one_result_shows_a_difference(changes: dict[str, float], told: str) -> None:
    candidates = [a_candidate(number, 1.0) for number in range(2)]
    verdict = concluded(candidates, [a_comparison(**changes)], Searched(10, 0.01, 500, "images"))
    [said] = [sentence for sentence in verdict.sentences if "a verdict needs both" in sentence] or [""]
    assert said.startswith(told)
    assert bool(said) == bool(told)


def test_estimates_and_ensemble_of_a_candidate() -> None:
    one = a_candidate(1, 1.0)
    accuracies = [replicate.at_half.accuracy for replicate in one.replicates]
    estimate = one.at_half["accuracy"]
    assert estimate.mean == pytest.approx(np.mean(accuracies))
    assert estimate.deviation == pytest.approx(np.std(accuracies, ddof=1))
    assert estimate.low < estimate.mean < estimate.high
    mean = np.mean([replicate.probabilities for replicate in one.replicates], axis=0)
    assert ensemble_probabilities(one.replicates) == pytest.approx(mean)
    assert one.ensemble_at_half == scored(LABELS, mean, 0.5)
    assert one.ensemble_at_threshold.threshold == pytest.approx(0.4)
    assert one.ensemble_at_half.accuracy_low < one.ensemble_at_half.accuracy < one.ensemble_at_half.accuracy_high


def test_luck_is_the_expected_maximum_times_the_deviation_over_seeds() -> None:
    verdict = judge(1.0, 2.0)  # validation accuracies 0.91, 0.92, 0.93
    assert verdict.expected_luck == pytest.approx(0.01 * expected_maximum(49))
    luck = "the best of 49 configurations looks 2.2 points better; the gain of the search was +2.3 points"
    assert any(luck in sentence for sentence in verdict.sentences)


def test_luck_of_one_seed_is_binomial() -> None:
    verdict = judge(1.0, 2.0, seeds=(1,))  # validation accuracy 0.91
    assert verdict.expected_luck == pytest.approx(np.sqrt(0.91 * 0.09 / 500) * expected_maximum(49))
    assert "(one seed)" in verdict.sentences[1]


def test_published_figures_stand_beside_those_of_images_and_never_of_phantoms() -> None:
    sentences = " ".join(judge(1.0, 2.0).sentences)
    for figure in ("86.2% after epoch 5", "84.6% after epoch 10", "92.8%", "93.2%", "90.1%", "96.8%"):
        assert figure in sentences
    phantoms = judge(1.0, 2.0, kind="phantoms").sentences
    assert phantoms[0] == PHANTOMS
    own = judge(1.0, 2.0, kind="own images").sentences
    assert "Kermany" not in " ".join((*phantoms, *own))
    assert list(own) == list(phantoms[1:])


def test_p_value_is_told_as_it_is_and_adjusted() -> None:
    assert "adjusted" not in " ".join(judge(1.0, 2.0).sentences)
    assert "adjusted for 2 finalists by Holm's method" in " ".join(judge(1.0, 2.0, 1.0).sentences)
