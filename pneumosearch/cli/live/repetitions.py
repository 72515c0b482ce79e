"""What a view of a search shows of the repetitions of its finalists, which count as no trials."""

from pneumosearch.cli.live.training import Training
from pneumosearch.metrics import Metric
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

    def heard(self, event: Repeating) -> str | None:
        """Take note of an event; return a line about it, or None where there is nothing to say."""
        match event.event:
            case TrialStarted(number, run):
                of = "an earlier trial" if event.trial is None else f"trial {event.trial}"
                self._current[number] = f"repetition of {of}, seed {run.seed}", Training(run)
            case StepsDone(number) if number in self._current:
                self._current[number][1].steps_done(event.event)
            case EpochEnded(number, history) if number in self._current:
                self._current[number][1].epoch_ended(history)
            case TrialEnded(record):
                name, _ = self._current.pop(record.number, (f"repetition {record.number}", None))
                kept = record.kept if record.state == "complete" else None
                how = f"{self._metric} {kept.evaluation(self._metric):.4f}" if kept else record.failure or ""
                return f"{name}: {record.state}" + f", {how}" * bool(how)
        return None
