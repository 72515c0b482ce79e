"""A confirmation as a Rich table with the verdict in words, and as plain values."""

from typing import Any, Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pneumosearch.confirmation import Candidate, Comparison, Confirmation, Estimate
from pneumosearch.data.description import PHANTOMS
from pneumosearch.report.tables import changes_text, percent, phantom_warning, points

#: What the table shows besides accuracy at the threshold 0.5: {figure: heading}.
_OTHER_FIGURES: Final = {
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "auc": "AUC",
    "calibration_error": "calibration error",
}
_OWN_THRESHOLD: Final = "balanced accuracy, own threshold"


def confirmation_summary(confirmation: Confirmation) -> dict[str, Any]:
    """Return a confirmation without what it holds of each test image."""
    replicates = {"__all__": {"replicates": {"__all__": {"probabilities"}}}}
    return confirmation.model_dump(
        mode="json", exclude={"images": True, "labels": True, "patients": True, "candidates": replicates}
    )


def print_confirmation(confirmation: Confirmation, kind: str) -> None:
    """Print the candidates and the verdict on standard output; `kind` is "images" or "phantoms"."""
    console = Console()
    if kind == "phantoms":
        console.print(phantom_warning())
    console.print(candidates_table(confirmation))
    for candidate in confirmation.candidates[1:]:
        changes = changes_text(candidate.config) or "nothing"
        console.print(f"{candidate.label} differs from the published baseline in {changes}.", markup=False)
    for sentence in confirmation.verdict.sentences:
        if sentence != PHANTOMS:
            console.print(sentence, highlight=False, markup=False)
    n = confirmation.n_openings
    times = f"{n} time{'s' * (n > 1)}"
    console.print(f"Each replicate was {confirmation.trained_on}.", highlight=False, markup=False)
    console.print(f"The test set was opened {times} from this store, this confirmation counted.", highlight=False)


def candidates_table(confirmation: Confirmation) -> Table:
    """Return the candidates' test figures: mean ± deviation over seeds, and the 95% interval of the accuracy."""
    n_seeds, n_images = len(confirmation.seeds), len(confirmation.images)
    table = Table(title=f"{n_images} test images; mean ± deviation of {n_seeds} fresh seed{'s' * (n_seeds > 1)} (%)")
    table.add_column("candidate", overflow="fold")
    for heading in ("accuracy", "95%", *_OTHER_FIGURES.values(), _OWN_THRESHOLD, "points (95%)", "McNemar p"):
        table.add_column(heading, justify="right")
    differences = ["", *(_difference(comparison) for comparison in confirmation.comparisons)]
    p_values = ["", *(f"{comparison.mcnemar_p:.2g}" for comparison in confirmation.comparisons)]
    for candidate, difference, p in zip(confirmation.candidates, differences, p_values, strict=True):
        table.add_row(escape(candidate.label), *_figures(candidate), difference, p)
    return table


def _figures(candidate: Candidate) -> list[str]:
    accuracy, balanced = candidate.at_half["accuracy"], candidate.at_threshold["balanced_accuracy"]
    several = len(candidate.replicates) > 1
    interval = f"{percent(accuracy.low)} to {percent(accuracy.high)}" if several else percent(None)
    others = [_mean(candidate.at_half[name]) for name in _OTHER_FIGURES]
    return [_mean(accuracy), interval, *others, _mean(balanced)]


def _mean(estimate: Estimate) -> str:
    return f"{percent(estimate.mean)} ± {percent(estimate.deviation)}"


def _difference(comparison: Comparison) -> str:
    return f"{points(comparison.difference)} ({points(comparison.low)} to {points(comparison.high)})"
