"""The latest confirmation of a study: reading it, and showing it as a Rich table and as plain values."""

import re
from collections.abc import Iterator
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
    TestScores,
    wrong_picture_file,
)
from pneumosearch.records.dataset import PHANTOMS
from pneumosearch.report.changes import changes_text
from pneumosearch.report.tables import percent, phantom_warning, points, standard_output
from pneumosearch.storage.confirmations import current_confirmation
from pneumosearch.storage.store import Store

_RANK: Final = re.compile(r"^wrong-\d+-")
_PNG: Final = b"\x89PNG\r\n\x1a\n"

#: Metrics of the table: {field: heading}.
_AT_HALF: Final = {
    "accuracy": "accuracy",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "auc": "AUC",
    "calibration_error": "calibration error",
}
_AT_OWN_THRESHOLD: Final = {"accuracy": "accuracy", "balanced_accuracy": "balanced accuracy"}
_INTERVAL: Final = "  95% interval"  # of the row above it

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
        name = candidate.label + "," * (candidate.role == "control")
        console.print(f"{name} differs from the published baseline in {changes}.", markup=False)
    for sentence in confirmation.verdict.sentences:
        if sentence != PHANTOMS:
            console.print(sentence, highlight=False, markup=False)
    n = confirmation.n_openings
    times = f"{n} time{'s' * (n > 1)}"
    console.print(f"Each replicate was {confirmation.trained_on}.", highlight=False, markup=False)
    console.print(f"The test set was opened {times} from this store, including this confirmation.", highlight=False)


def candidates_table(confirmation: Confirmation) -> Table:
    """Return a column for each candidate: its test metrics over seeds, its lead, and those of its seed ensemble.

    A seed ensemble is the mean probability of a candidate's networks.
    """
    n_seeds, n_images = len(confirmation.seeds), len(confirmation.images)
    table = Table(title=f"{n_images} test images; mean ± deviation of {n_seeds} fresh seed{'s' * (n_seeds > 1)} (%)")
    table.add_column("", no_wrap=True)
    for candidate in confirmation.candidates:
        table.add_column(escape(candidate.label_with_failures), justify="right", overflow="fold")
    for part in (_over_seeds, _leads, _lead_on_control, _of_ensembles):
        for row in part(confirmation):
            table.add_row(*row, style="bold" if len(row) == 1 else "")
        table.add_section()
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


def _over_seeds(confirmation: Confirmation) -> Iterator[list[str]]:
    candidates = confirmation.candidates
    yield ["at threshold 0.5"]
    for name, heading in _AT_HALF.items():
        yield [heading, *(_mean(each.at_half[name]) for each in candidates)]
        if name == "accuracy":
            yield [_INTERVAL, *(_range(each) for each in candidates)]
    yield ["at its own threshold"]
    for name, heading in _AT_OWN_THRESHOLD.items():
        yield [heading, *(_mean(each.at_threshold[name]) for each in candidates)]


def _mean(estimate: Estimate) -> str:
    return f"{percent(estimate.mean)} ± {percent(estimate.deviation)}"


def _range(candidate: Candidate) -> str:
    accuracy = candidate.at_half["accuracy"]
    several = len(candidate.replicates) > 1
    return f"{percent(accuracy.low)} to {percent(accuracy.high)}" if several else percent(None)


def _leads(confirmation: Confirmation) -> Iterator[list[str]]:
    """Yield the rows that compare the candidates with the baseline, which is the first of them."""
    compared = confirmation.comparisons
    yield ["above the baseline, at 0.5"]
    yield ["points", "", *(points(each.difference) for each in compared)]
    intervals = (f"{points(each.low)} to {points(each.high)}{other_confidence(each)}" for each in compared)
    yield [_INTERVAL, "", *intervals]
    yield ["McNemar p, seed ensembles", "", *(f"{corrected_p(each):.2g}" for each in compared)]


def _lead_on_control(confirmation: Confirmation) -> Iterator[list[str]]:
    """Yield the rows that compare the best finalist that the search found with the control, in its own column."""
    compared = confirmation.verdict.beside_control
    if compared is None:
        return
    yield ["above the control, at 0.5"]
    for heading, cell in (
        ("points", points(compared.difference)),
        (_INTERVAL, f"{points(compared.low)} to {points(compared.high)}"),
        ("McNemar p, seed ensembles", f"{compared.mcnemar_p:.2g}"),
    ):
        yield [heading, *(cell if n == compared.candidate else "" for n in range(len(confirmation.candidates)))]


def _of_ensembles(confirmation: Confirmation) -> Iterator[list[str]]:
    several = [candidate if len(candidate.replicates) > 1 else None for candidate in confirmation.candidates]
    if not any(several):
        return
    at_half = [each.ensemble_at_half if each else None for each in several]
    at_threshold = [each.ensemble_at_threshold if each else None for each in several]
    yield ["seed ensemble, at 0.5"]
    for name, heading in _AT_HALF.items():
        yield [heading, *(percent(getattr(scores, name, None)) for scores in at_half)]
        if name == "accuracy":
            yield [_INTERVAL, *(_range_of_ensemble(scores) for scores in at_half)]
    yield ["seed ensemble, own threshold"]
    for name, heading in _AT_OWN_THRESHOLD.items():
        yield [heading, *(percent(getattr(scores, name, None)) for scores in at_threshold)]


def _range_of_ensemble(scores: TestScores | None) -> str:
    return f"{percent(scores.accuracy_low)} to {percent(scores.accuracy_high)}" if scores else percent(None)


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
