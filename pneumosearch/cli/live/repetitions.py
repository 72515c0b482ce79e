"""What views show of repetitions: those of a search's finalists, which count as no trials, and those of `confirm`."""

from pneumosearch.cli.live.training import Training
from pneumosearch.metrics import Metric
from pneumosearch.records.trial import BASELINE, TrialRecord
from pneumosearch.search.events import EpochEnded, Repeating, StepsDone, TrialEnded, TrialStarted


class Repetitions:
    """The repetitions in training, by what they are called.

    Args:
        metric: Of the study.
    """

    def __init__(self, metric: Metric) -> None:
        self._metric = metric
        self._current: dict[int, tuple[str, Training]] = {}  # by number among the repetitions

    def current(self) -> list[tuple[str, Training]]:
        """Return those in training, by number."""
        return [each for _, each in sorted(self._current.items())]

    def name(self, number: int) -> str:
        """Return what the repetition of this number is called."""
        return self._current[number][0] if number in self._current else f"repetition {number}"

    def heard(self, event: Repeating) -> str | None:
        """Take note of an event; return how a repetition ended, or None where none has."""
        match event.event:
            case TrialStarted(number, run):
                of = "baseline" if event.trial == BASELINE else f"trial {event.trial}"
                of = "an earlier trial" if event.trial is None else of
                self._current[number] = f"{of}, seed {run.seed}", Training(run)
            case StepsDone(number) if number in self._current:
                self._current[number][1].steps_done(event.event)
            case EpochEnded(number, history) if number in self._current:
                self._current[number][1].epoch_ended(history)
            case TrialEnded(record):
                name = self.name(record.number)
                self._current.pop(record.number, None)
                return f"{name}: {self._ending(record)}"
        return None

    def _ending(self, record: TrialRecord) -> str:
        kept = record.kept if record.state == "complete" else None
        how = f"{self._metric} {kept.evaluation(self._metric):.4f}" if kept else record.failure or ""
        return record.state + f", {how}" * bool(how)
