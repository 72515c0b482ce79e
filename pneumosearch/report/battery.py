"""Will it hold elsewhere? Scores under the battery of crafted shifts, the best trials beside the baseline."""

from collections.abc import Sequence
from operator import itemgetter
from typing import Any, Final

from rich.table import Table

from pneumosearch.data.families import FAMILIES, trained_families
from pneumosearch.metrics import METRICS, Metric, of_battery, shown
from pneumosearch.records.epoch import EpochMetrics
from pneumosearch.records.trial import StudyRecord, TrialRecord

#: What is said of a search that the battery did not judge.
NOT_JUDGED: Final = (
    "The battery of crafted shifts did not judge this study. With battery = true in its file, a new study records for "
    "each trial how it does under changes of exposure, tone, geometry, resolution, compression and borders."
)

NOTE: Final = (
    "Balanced accuracy in %, at threshold 0.5 and at the kept epoch. * The trial trained on changes of this family, so "
    "its score there says little about elsewhere; unseen families are those without a star. The worst copy is the one "
    "change that the trial bears least, which the mean of a family may hide."
)

#: Figures over all copies: {heading: metric}.
OVER_ALL: Final[dict[str, Metric]] = {
    "unseen families": "unseen_shift_accuracy",
    "all families": "shift_accuracy",
    "worst family": "worst_family",
    "specificity, all": "shift_specificity",
    "loss, all": "shift_loss",
}
_LABEL, _COLUMN = 20, 14  # characters of a terminal


def judged_trials(record: StudyRecord, top: int) -> list[TrialRecord]:
    """Return the baseline and the `top` best other trials, those of them that the battery judged."""
    return [trial for trial in record.leaders(top) if judged(trial) is not None]


def judged(trial: TrialRecord) -> EpochMetrics | None:
    """Return the figures that a trial is judged by; None where the battery did not judge it."""
    figures = trial.judged
    return figures if figures is not None and figures.families else None


def battery_headings(record: StudyRecord, trials: Sequence[TrialRecord]) -> list[str]:
    """Return the headings of `battery_rows`."""
    number = record.baseline.number if record.baseline else None
    return ["", *("baseline" if trial.number == number else f"trial {trial.number}" for trial in trials)]


def battery_rows(trials: Sequence[TrialRecord]) -> list[list[str]]:
    """Return a row for each family, each figure over all, and the worst copy; a column for each judged trial."""
    by_family = [[name, *(_of_family(trial, name) for trial in trials)] for name in families(trials)]
    over_all = [[label, *(_over_all(trial, name) for trial in trials)] for label, name in OVER_ALL.items()]
    return [*by_family, *over_all, ["worst copy", *map(_worst_copy, trials)]]


def _of_family(trial: TrialRecord, family: str) -> str:
    kept = judged(trial)
    scores = (kept.families or {}).get(family) if kept else None
    return f"{100 * scores.accuracy:.1f}" + "*" * (family in trained_on(trial)) if scores else "–"


def _over_all(trial: TrialRecord, name: Metric) -> str:
    kept = judged(trial)
    return shown(kept.evaluation(name), name).removesuffix(" %") if kept else "–"


def _worst_copy(trial: TrialRecord) -> str:
    kept = judged(trial)
    if kept is None or not kept.copies:
        return "–"
    name, accuracy = min(kept.copies.items(), key=itemgetter(1))
    return f"{100 * accuracy:.1f} {name}"


def families(trials: Sequence[TrialRecord]) -> list[str]:
    """Return the families of the trials, those of this version first and in its order."""
    there = dict.fromkeys(name for trial in trials if (kept := judged(trial)) for name in kept.families or {})
    return sorted(there, key=[*FAMILIES, *there].index)


def trained_on(trial: TrialRecord) -> frozenset[str]:
    """Return the families that a trial saw in training."""
    return frozenset(trained_families(trial.run.config)) if trial.run else frozenset()


def battery_table(record: StudyRecord, top: int, width: int) -> Table | None:
    """Return the scores as a table; None where the battery judged none of the trials.

    Args:
        record: The study.
        top: Number of best trials besides the baseline.
        width: Width of the console in characters; the trials that do not fit are left out.
    """
    trials = judged_trials(record, top)[: max(2, (width - _LABEL) // _COLUMN)]
    if not trials:
        return None
    table = Table(title="Will it hold elsewhere? The battery of crafted shifts", caption=NOTE)
    for position, heading in enumerate(battery_headings(record, trials)):
        table.add_column(heading, justify="right" if position else "left")
    for cells in battery_rows(trials):
        table.add_row(*cells, end_section=cells[0] == families(trials)[-1])
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
