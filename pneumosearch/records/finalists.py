"""The finalists of a study: its best trials, which it repeats when its search is over, and what repetition says."""

from collections.abc import Sequence
from typing import NamedTuple

from pneumosearch.records.trial import StudyRecord, TrialRecord, ranked_by_value


class Repeated(NamedTuple):
    """One repetition of a trial that has ended."""

    trial: int  # the trial of the search
    position: int  # of its seed, from 0
    figure: float | None  # the study's metric; None where it failed


def finalists(record: StudyRecord, top: int) -> list[TrialRecord]:
    """Return the `top` best complete trials of different configurations by what the search found, best first.

    The study's control is one more, wherever it ranks: on other seeds and folds it may be the best.
    """
    different: dict[object, TrialRecord] = {}
    for trial in ranked_by_value(record.trials, record.metric, record.floor):
        if trial.run is not None:
            different.setdefault(trial.run.config, trial)
    return best_with_control(list(different.values()), top, record.control)


def best_with_control(ordered: Sequence[TrialRecord], top: int, control: TrialRecord | None) -> list[TrialRecord]:
    """Return the first `top` of some trials, and the control behind them where it is one of the others."""
    return [*ordered[:top], *(trial for trial in ordered[top:] if trial == control)]


def with_repetitions(record: StudyRecord, top: int, repeats: int, found: Sequence[Repeated]) -> StudyRecord:
    """Return the study, the finalists with their figures on repetition once all of these are there.

    Args:
        record: A search.
        top: How many trials are repeated.
        repeats: How often each.
        found: Repetitions that have ended; a confirmation may have added to them.
    """
    figures: dict[int, tuple[float, ...]] = {}
    for trial in finalists(record, top):
        of_trial = {each.position: each for each in found if each.trial == trial.number and each.figure is not None}
        failed = {each.position for each in found if each.trial == trial.number and each.figure is None}
        if not {*of_trial, *failed}.issuperset(range(repeats)):
            return record
        figures[trial.number] = tuple(
            each.figure for n in range(repeats) if (each := of_trial.get(n)) and each.figure is not None
        )
    trials = tuple(trial.model_copy(update={"repeated": figures.get(trial.number, ())}) for trial in record.trials)
    return record.model_copy(update={"trials": trials})
