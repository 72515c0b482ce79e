"""Will it hold elsewhere? Scores under the battery of crafted shifts, the best trials beside the baseline."""

from collections.abc import Sequence
from typing import Any, Final

from rich.table import Table

from pneumosearch.data.families import FAMILIES, trained_families
from pneumosearch.metrics import METRICS, Metric, of_battery, shown
from pneumosearch.records.epoch import EpochMetrics
from pneumosearch.records.trial import StudyRecord, TrialRecord

NOTE: Final = (
    "Balanced accuracy of each family, in %, at threshold 0.5 and at the kept epoch. * The trial trained on changes of "
    "this family, so its score there says little about elsewhere; 'unseen' leaves such families out."
)

_SHORT: Final[dict[Metric, str]] = {
    "shift_accuracy": "all %",
    "unseen_shift_accuracy": "unseen %",
    "worst_family": "worst %",
    "shift_specificity": "specificity %",
    "shift_loss": "loss",
}


def judged_trials(record: StudyRecord, top: int) -> list[TrialRecord]:
    """Return the baseline and the `top` best other trials, those of them that the battery judged."""
    return [trial for trial in record.leaders(top) if judged(trial) is not None]


def judged(trial: TrialRecord) -> EpochMetrics | None:
    """Return the kept epoch of a trial; None where the battery did not judge it."""
    kept = trial.kept
    return kept if kept is not None and kept.families else None


def battery_headings(trials: Sequence[TrialRecord]) -> list[str]:
    """Return the headings of `battery_rows`."""
    return ["trial", *_SHORT.values(), *families(trials)]


def battery_rows(trials: Sequence[TrialRecord]) -> list[list[str]]:
    """Return a row for each trial that the battery judged: figures over all copies, then by family."""
    return [_cells(trial, families(trials)) for trial in trials]


def _cells(trial: TrialRecord, names: Sequence[str]) -> list[str]:
    kept, trained = judged(trial), trained_on(trial)
    if kept is None or kept.families is None:
        return [str(trial.number), *["–"] * (len(_SHORT) + len(names))]
    over_all = [shown(kept.evaluation(name), name).removesuffix(" %") for name in _SHORT]
    scores = [(family, kept.families.get(family)) for family in names]
    by_family = [f"{100 * each.accuracy:.1f}" + "*" * (name in trained) if each else "–" for name, each in scores]
    return [str(trial.number), *over_all, *by_family]


def families(trials: Sequence[TrialRecord]) -> list[str]:
    """Return the families of the trials, those of this version first and in its order."""
    there = dict.fromkeys(name for trial in trials if (kept := judged(trial)) for name in kept.families or {})
    return sorted(there, key=[*FAMILIES, *there].index)


def trained_on(trial: TrialRecord) -> frozenset[str]:
    """Return the families that a trial saw in training."""
    return frozenset(trained_families(trial.run.config)) if trial.run else frozenset()


def battery_table(trials: Sequence[TrialRecord]) -> Table:
    """Return the rows as a table."""
    table = Table(title="Will it hold elsewhere? Scores under the battery of crafted shifts", caption=NOTE)
    for heading in battery_headings(trials):
        table.add_column(heading, justify="right")
    for cells in battery_rows(trials):
        table.add_row(*cells)
    return table


def battery_summary(trial: TrialRecord) -> dict[str, Any] | None:
    """Return the scores of a trial at its kept epoch for JSON; None where the battery did not judge it."""
    kept = judged(trial)
    if kept is None or kept.families is None:
        return None
    trained = trained_on(trial)
    return {
        **{name: kept.evaluation(name) for name in METRICS if of_battery(name)},
        "families": {
            name: {
                "accuracy": scores.accuracy,
                "loss": scores.loss,
                "specificity": scores.specificity,
                "auc": scores.auc,
                "trained": name in trained,
            }
            for name, scores in kept.families.items()
        },
        "copies": kept.copies,
    }
