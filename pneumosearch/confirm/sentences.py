"""The verdict of a confirmation in words and numbers."""

from collections.abc import Iterator, Sequence
from statistics import fmean
from typing import Final

from pneumosearch.intervals import holm, mean_interval
from pneumosearch.metrics import Metric, difference_shown, direction, metric_name, shown
from pneumosearch.published import OTHER_FIGURES, PublishedFigures, published_at
from pneumosearch.records.classes import Shown
from pneumosearch.records.confirmation import (
    Candidate,
    Comparison,
    Conclusion,
    Estimate,
    Naming,
    Repetition,
    Verdict,
)
from pneumosearch.records.dataset import PHANTOMS

#: Level of significance for the p-value, after adjustment for the number of finalists.
SIGNIFICANCE: Final = 0.05


def p_value(comparisons: Sequence[Comparison], winner: int, naming: Naming | None) -> float:
    """Return the p-value of the winner, adjusted where repetition did not name it."""
    p_values = [each.mcnemar_p for each in comparisons]
    return (p_values if naming else holm(p_values))[winner - 1]


def conclusion(comparison: Comparison, p: float) -> Conclusion:
    """Return what a comparison and its p-value allow to say: both must show a difference, in the same direction."""
    ahead = comparison.only_candidate_right - comparison.only_baseline_right
    if p < SIGNIFICANCE and comparison.low > 0 and ahead > 0:
        return "better"
    if p < SIGNIFICANCE and comparison.high < 0 and ahead < 0:
        return "worse"
    return "no difference can be shown"


def sentences(
    candidates: Sequence[Candidate],
    comparisons: Sequence[Comparison],
    verdict: Verdict,
    kind: Shown,
    naming: Naming | None,
) -> Iterator[str]:
    """Yield the sentences of a verdict, the conclusion first.

    Args:
        candidates: The baseline, then the finalists in the order of the search.
        comparisons: Comparison of each finalist with the baseline, in the same order.
        verdict: The verdict, still without sentences.
        kind: What may stand beside the result.
        naming: How repetition named the winner; None where it did not.
    """
    winner = candidates[verdict.winner]
    chosen = naming and len(comparisons) > 1
    best = "the best on validation images" + " after the baseline" * _behind_in_search(verdict, naming)
    why = "named by repetition before the test images were opened" if chosen else best
    name = f"Trial {winner.trial} of '{winner.study}'{winner.as_control}, {why},"
    if kind == "phantoms":
        yield PHANTOMS
    yield {
        "better": f"{name} is better than the baseline on the test images.",
        "worse": f"{name} is worse than the baseline on the test images.",
        "no difference can be shown": f"{name} cannot be shown to differ from the baseline on the test images.",
    }[verdict.conclusion]
    yield _difference(candidates[0], winner, comparisons[verdict.winner - 1])
    yield from map(_failures, filter(lambda each: each.failures, candidates))
    yield _errors_of_ensembles(comparisons, verdict.winner, naming)
    yield from _disagreement(comparisons[verdict.winner - 1], p_value(comparisons, verdict.winner, naming))
    if naming:
        yield from _on_repetition(naming)
        yield from _beside_the_control(candidates, verdict, naming)
        yield from _of_the_others(comparisons)
    yield _luck(verdict)
    if kind == "images":
        yield from _beside_the_published(winner)


def _behind_in_search(verdict: Verdict, naming: Naming | None) -> bool:
    """Tell whether the baseline was better than the winner in the search; without a naming, by accuracy."""
    if naming is None:
        return verdict.validation_gain < 0
    baseline, winner = naming.repetitions[0], _repeated(naming, naming.winner)
    lead = winner.searched - baseline.searched
    return lead < 0 if direction(naming.metric) == "maximize" else lead > 0


def _repeated(naming: Naming, trial: int) -> Repetition:
    return next(each for each in naming.repetitions[1:] if each.trial == trial)


def _difference(baseline: Candidate, winner: Candidate, comparison: Comparison) -> str:
    own, other = (_over_seeds(each.at_half["accuracy"], len(each.replicates)) for each in (winner, baseline))
    return (
        f"Its test accuracy is {own}, the baseline's {other}: {100 * comparison.difference:+.1f} points "
        f"(95% from {100 * comparison.low:+.1f} to {100 * comparison.high:+.1f}, bootstrap over patients and seeds"
        f"{_paired_over(baseline, winner, comparison)})."
    )


def _paired_over(baseline: Candidate, winner: Candidate, comparison: Comparison) -> str:
    if not (baseline.failures or winner.failures):
        return ""
    n = comparison.n_seeds
    return f"; over the {n} seed{'s' * (n != 1)} on which neither failed"


def _failures(each: Candidate) -> str:
    failed, n = len(each.failures), len(each.failures) + len(each.replicates)
    reasons = ", ".join(dict.fromkeys(failure.reason for failure in each.failures))
    return f"Of {each.label}, {failed} of {n} replicates failed ({reasons}); no figure counts them."


def _errors_of_ensembles(comparisons: Sequence[Comparison], position: int, naming: Naming | None) -> str:
    winner, n, p = comparisons[position - 1], len(comparisons), p_value(comparisons, position, naming)
    adjusted = f"; {p:.2g} adjusted for {n} finalists by Holm's method" if n > 1 and not naming else ""
    return (
        f"Of the seed ensembles, only its own is right on {winner.only_candidate_right} test images and only the "
        f"baseline's on {winner.only_baseline_right} (McNemar's exact test: p = {winner.mcnemar_p:.2g}{adjusted})."
    )


def _disagreement(winner: Comparison, p: float) -> Iterator[str]:
    """Say which of the two results that a verdict needs shows a difference, where only one does."""
    by_interval, by_test = winner.low > 0 or winner.high < 0, p < SIGNIFICANCE
    if by_interval != by_test:
        results = ["the interval of the difference", "the test of the ensembles"]
        shows, does_not = results if by_interval else results[::-1]
        yield f"Only {shows} shows a difference, {does_not} does not; a verdict needs both."


def _on_repetition(naming: Naming) -> Iterator[str]:
    """Set what chose the winner in the search beside what it is on repetition: the winner's curse, measured."""
    n, metric = len(naming.seeds), naming.metric
    baseline, first, winner = *naming.repetitions[:2], _repeated(naming, naming.winner)
    if winner is not first:
        yield f"The best of the search was trial {first.trial}; repetition puts trial {winner.trial} before it."
    yield (
        f"Repetition on {n} fresh seed{'s' * (n != 1)} and {naming.judged} of {naming.n_folds} folds: its validation "
        f"{metric_name(metric)} went from {shown(winner.searched, metric)} in the search to {_mean(winner, metric)}, "
        f"the baseline's from {shown(baseline.searched, metric)} to {_mean(baseline, metric)}, the lead from "
        f"{difference_shown(winner.searched - baseline.searched, metric)} to {difference_shown(winner.lead, metric)}."
    )


def _beside_the_control(candidates: Sequence[Candidate], verdict: Verdict, naming: Naming) -> Iterator[str]:
    """Say what the search gave: the lead of the best that it found on the control. The rest came with all trials."""
    control = next((each for each in candidates if each.role == "control"), None)
    if control is None:
        return
    what, metric, wins = "the baseline's values trained like all others", naming.metric, naming.winner == control.trial
    own = _repeated(naming, control.trial)
    if wins:
        yield f"It is the control, {what}: on repetition the search has found nothing better."
    else:
        yield f"The control, {what}, has {_mean(own, metric)} on repetition."
    if naming.searched == control.trial:
        return
    name = f"Trial {naming.searched}, the best that the search found," if wins else "The winner"
    pairs = zip(_repeated(naming, naming.searched).figures, own.figures, strict=True)
    leads = [first - second for first, second in pairs if first is not None and second is not None]
    on_repetition = f"differs from it by {_over_pairs(leads, metric)}" if leads else "has no seed in common with it"
    yield f"{name} {on_repetition} on repetition."
    compared = verdict.beside_control
    if compared is not None:
        yield _beside_it_on_the_test_images(control, candidates[compared.candidate], compared)


def _over_pairs(leads: Sequence[float], metric: Metric) -> str:
    """Return the mean of the leads on each seed, with its interval where there are several."""
    mean, low, high = (difference_shown(each, metric) for each in (fmean(leads), *mean_interval(leads)))
    return f"{mean} (95% from {low} to {high} over {len(leads)} seeds)" if len(leads) > 1 else f"{mean} (one seed)"


def _beside_it_on_the_test_images(control: Candidate, best: Candidate, comparison: Comparison) -> str:
    found = {
        "better": "what the search found is better",
        "worse": "what the search found is worse",
        "no difference can be shown": "that the search made a difference cannot be shown",
    }[conclusion(comparison, comparison.mcnemar_p)]
    return (
        f"On the test images the control has {_over_seeds(control.at_half['accuracy'], len(control.replicates))}, from "
        f"which trial {best.trial} differs by {100 * comparison.difference:+.1f} points (95% from "
        f"{100 * comparison.low:+.1f} to {100 * comparison.high:+.1f}{_paired_over(control, best, comparison)}; "
        f"McNemar's exact test of the ensembles: p = {comparison.mcnemar_p:.2g}): {found}."
    )


def _mean(repetition: Repetition, metric: str) -> str:
    return shown(repetition.mean, metric)


def _of_the_others(comparisons: Sequence[Comparison]) -> Iterator[str]:
    n = len(comparisons)
    if n > 1:
        yield (
            f"The winner's comparison needs no correction. For the other finalists, intervals ({1 - 0.05 / n:.1%}) and "
            f"p-values (Holm's method) are corrected for {n} finalists."
        )


def _luck(verdict: Verdict) -> str:
    n, luck, gain = verdict.n_searched, 100 * verdict.expected_luck, 100 * verdict.validation_gain
    return (
        f"By chance alone (the winner's curse), the best of {n} configuration{'s' * (n != 1)} looks {luck:.1f} points "
        f"better; the gain of the search was {gain:+.1f} points of validation accuracy."
    )


def _over_seeds(estimate: Estimate, n_seeds: int) -> str:
    if n_seeds == 1:
        return f"{estimate.mean:.1%} (one seed)"
    return f"{estimate.mean:.1%} (mean of {n_seeds} seeds, 95% from {estimate.low:.1%} to {estimate.high:.1%})"


def _beside_the_published(winner: Candidate) -> Iterator[str]:
    rows = [row for row in map(published_at, (5, 10)) if row is not None]
    published = " and ".join(f"{row.test_accuracy:.1%} after epoch {row.epoch}" for row in rows)
    yield f"The published study reports a test accuracy of {published}, from one training evaluated on the test images."
    kermany = next(figures for figures in OTHER_FIGURES if figures.name.startswith("Kermany"))
    mean = {name: estimate.mean for name, estimate in winner.at_half.items()}
    own = PublishedFigures("", mean["accuracy"], mean["sensitivity"], mean["specificity"], mean["auc"])
    yield f"{kermany.name} reports {_figures(kermany)} on the published test images; here it is {_figures(own)}."


def _figures(figures: PublishedFigures) -> str:
    return (
        f"accuracy {figures.accuracy:.1%}, sensitivity {figures.sensitivity:.1%}, "
        f"specificity {figures.specificity:.1%}, AUC {figures.auc:.1%}"
    )
