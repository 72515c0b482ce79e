"""The latest confirmation of a study: reading it, and showing it as a Rich table and as plain values."""

import re
from dataclasses import dataclass
from typing import Any, Final

from rich.markup import escape
from rich.table import Table

from pneumosearch.metrics import difference_shown, metric_name, shown
from pneumosearch.records.confirmation import (
    Candidate,
    Comparison,
    Confirmation,
    Estimate,
    Naming,
    Repetition,
    wrong_picture_file,
)
from pneumosearch.records.dataset import PHANTOMS
from pneumosearch.report.changes import changes_text
from pneumosearch.report.tables import percent, phantom_warning, points, standard_output
from pneumosearch.storage.confirmations import current_confirmation
from pneumosearch.storage.store import Store

_RANK: Final = re.compile(r"^wrong-\d+-")
_PNG: Final = b"\x89PNG\r\n\x1a\n"

#: Metrics of the table besides accuracy, at the threshold 0.5: {field: heading}.
_OTHER_METRICS: Final = {
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "auc": "AUC",
    "calibration_error": "calibration error",
}
_OWN_THRESHOLD: Final = "balanced accuracy, own threshold"

REPETITION_HEADINGS: Final = ("candidate", "in the search", "on repetition", "lead in the search", "lead on repetition")


def confirmation_summary(confirmation: Confirmation) -> dict[str, Any]:
    """Return a confirmation as plain values for JSON, without its values for single test images."""
    replicates = {"__all__": {"replicates": {"__all__": {"probabilities"}}}}
    return confirmation.model_dump(
        mode="json", exclude={"images": True, "labels": True, "patients": True, "candidates": replicates}
    )


def print_confirmation(confirmation: Confirmation, kind: str) -> None:
    """Print the candidates and the verdict on standard output.

    Args:
        confirmation: The confirmation.
        kind: As `DataDescription.shown_as` says; phantoms get a warning.
    """
    console = standard_output()
    if kind == "phantoms":
        console.print(phantom_warning())
    console.print(candidates_table(confirmation))
    if confirmation.naming:
        console.print(repetition_table(confirmation, confirmation.naming))
    for candidate in confirmation.candidates[1:]:
        changes = changes_text(candidate.config) or "nothing"
        console.print(f"{candidate.label} differs from the published baseline in {changes}.", markup=False)
    for sentence in confirmation.verdict.sentences:
        if sentence != PHANTOMS:
            console.print(sentence, highlight=False, markup=False)
    n = confirmation.n_openings
    times = f"{n} time{'s' * (n > 1)}"
    console.print(f"Each replicate was {confirmation.trained_on}.", highlight=False, markup=False)
    console.print(f"The test set was opened {times} from this store, including this confirmation.", highlight=False)


def candidates_table(confirmation: Confirmation) -> Table:
    """Return the test metrics of the candidates: mean ± standard deviation over seeds, and the interval of accuracy.

    Below them are the seed ensembles, each the mean probability of a candidate's networks.
    """
    n_seeds, n_images = len(confirmation.seeds), len(confirmation.images)
    table = Table(title=f"{n_images} test images; mean ± deviation of {n_seeds} fresh seed{'s' * (n_seeds > 1)} (%)")
    table.add_column("candidate", overflow="fold")
    for heading in ("accuracy", "95%", *_OTHER_METRICS.values(), _OWN_THRESHOLD, "points (95%)", "McNemar p"):
        table.add_column(heading, justify="right", overflow="fold")  # no figure is cut at 80 columns
    differences = ["", *(_difference(comparison) for comparison in confirmation.comparisons)]
    p_values = ["", *(f"{corrected_p(comparison):.2g}" for comparison in confirmation.comparisons)]
    for candidate, difference, p in zip(confirmation.candidates, differences, p_values, strict=True):
        table.add_row(escape(candidate.label_with_failures), *_figures(candidate), difference, p)
    table.add_section()
    for candidate in confirmation.candidates:
        if len(candidate.replicates) > 1:
            table.add_row(escape(f"{candidate.label}, seed ensemble"), *_ensemble_figures(candidate))
    return table


def corrected_p(comparison: Comparison) -> float:
    """Return the p-value that is shown: that of the winner as it is, of other finalists corrected for their number."""
    return comparison.mcnemar_p if comparison.adjusted_p is None else comparison.adjusted_p


def repetition_table(confirmation: Confirmation, naming: Naming) -> Table:
    """Return the metric of each candidate in the search beside what it is on repetition."""
    table = Table(title=repetition_title(naming))
    for heading in REPETITION_HEADINGS:
        table.add_column(heading, justify="left" if heading == REPETITION_HEADINGS[0] else "right")
    for row in repetition_rows(confirmation, naming):
        table.add_row(*map(escape, row))
    return table


def repetition_title(naming: Naming) -> str:
    """Say what the table of repetitions shows."""
    n = len(naming.seeds)
    return (
        f"validation {metric_name(naming.metric)}: in the search, one training each; on repetition, {n} fresh "
        f"seed{'s' * (n > 1)}, {naming.judged} of {naming.n_folds} folds"
    )


def repetition_rows(confirmation: Confirmation, naming: Naming) -> list[list[str]]:
    """Return the rows of the table of repetitions: the baseline, then the finalists, the best of the search first."""
    pairs = zip(confirmation.candidates, naming.repetitions, strict=True)
    return [_repetition(candidate, each, naming) for candidate, each in pairs]


def _repetition(candidate: Candidate, each: Repetition, naming: Naming) -> list[str]:
    metric, baseline = naming.metric, naming.repetitions[0]
    row = [
        candidate.label + ", the winner" * (each.trial == naming.winner),
        shown(each.searched, metric),
        f"{shown(each.mean, metric)} ± {shown(each.deviation, metric)}",
    ]
    if candidate.role == "baseline":
        return [*row, "", ""]
    return [*row, difference_shown(each.searched - baseline.searched, metric), difference_shown(each.lead, metric)]


def _figures(candidate: Candidate) -> list[str]:
    accuracy, balanced = candidate.at_half["accuracy"], candidate.at_threshold["balanced_accuracy"]
    several = len(candidate.replicates) > 1
    interval = f"{percent(accuracy.low)} to {percent(accuracy.high)}" if several else percent(None)
    others = [_mean(candidate.at_half[name]) for name in _OTHER_METRICS]
    return [_mean(accuracy), interval, *others, _mean(balanced)]


def _ensemble_figures(candidate: Candidate) -> list[str]:
    scores = candidate.ensemble_at_half
    interval = f"{percent(scores.accuracy_low)} to {percent(scores.accuracy_high)}"
    others = [percent(getattr(scores, name)) for name in _OTHER_METRICS]
    return [percent(scores.accuracy), interval, *others, percent(candidate.ensemble_at_threshold.balanced_accuracy)]


def _mean(estimate: Estimate) -> str:
    return f"{percent(estimate.mean)} ± {percent(estimate.deviation)}"


def _difference(comparison: Comparison) -> str:
    interval = f"{points(comparison.low)} to {points(comparison.high)}{other_confidence(comparison)}"
    return f"{points(comparison.difference)} ({interval})"


def other_confidence(comparison: Comparison) -> str:
    """Say the confidence of an interval where it is not 95%."""
    return "" if comparison.confidence == 0.95 else f", {comparison.confidence:.1%}"


@dataclass(frozen=True)
class MisclassifiedImage:
    """A test image that the winner misclassified, with its Grad-CAM heat map."""

    file: str  # name of the artifact
    position: int  # in `Confirmation.images`
    png: bytes | None  # None on a page that only names the image


def latest_confirmation(store: Store, name: str) -> Confirmation | None:
    """Return the latest confirmation of study `name`, or None.

    Raises:
        StoreError: The store has no study of this name, the artifact of a confirmation is missing, or this version
            cannot read it.
    """
    current = current_confirmation(store, name)
    return current.confirmation if current else None


def misclassified_images(store: Store, name: str) -> list[MisclassifiedImage]:
    """Return the misclassified test images of the latest confirmation, the most confident error first.

    Heat maps of earlier confirmations and files that are not PNG are ignored.
    """
    latest = current_confirmation(store, name)
    if latest is None:
        return []
    number, confirmation = latest
    positions = {_without_rank(wrong_picture_file(1, image, number)): n for n, image in enumerate(confirmation.images)}
    found = []
    for meta in sorted(store.study_artifacts(name), key=lambda meta: meta.filename):
        position = positions.get(_without_rank(meta.filename))
        if position is not None:
            png = store.artifact_content(meta)
            found += [MisclassifiedImage(meta.filename, position, png)] * png.startswith(_PNG)
    return found


def _without_rank(filename: str) -> str:
    return _RANK.sub("wrong-", filename)
