"""The view of a search."""

import time
from typing import TYPE_CHECKING, Final

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from pneumosearch.cli.live.best import best_table
from pneumosearch.cli.live.repetitions import Repetitions
from pneumosearch.cli.live.times import TimeLeft
from pneumosearch.cli.live.training import Training, trainings_table
from pneumosearch.cli.live.view import View
from pneumosearch.config import RunSpec
from pneumosearch.metrics import Floor, Metric, direction
from pneumosearch.records.epoch import History
from pneumosearch.records.trial import BASELINE, NO_FLOOR, StudyRecord, TrialRecord, is_baseline, ranked
from pneumosearch.report.changes import changes_text, differences_text, others_text
from pneumosearch.report.progress import ending_line, epoch_line
from pneumosearch.report.tables import points
from pneumosearch.search.events import Repeating, StepsDone

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_BEST: Final = 5  # trials in the table
_FIXED_LINES: Final = 7  # headings, counts, bar and gaps


class StudyView(View):
    """A search: the trials in training, the best so far, counts and the time left."""

    def __init__(
        self, kind: str, n_trials: int, metric: Metric, *, quiet: bool, json: bool = False, floor: Floor = NO_FLOOR
    ) -> None:
        super().__init__(kind, quiet=quiet, json=json)
        self.n_trials, self.metric, self.floor = n_trials, metric, floor
        self.records: dict[int, TrialRecord] = {}
        self._current: dict[int, Training] = {}  # running trials
        self._deferred: dict[int, Training] = {}  # deferred trials
        self._repetitions = Repetitions(metric)
        self._known: set[int] = set()  # numbers of trials that run here or have ended anywhere
        self._load: Callable[[], StudyRecord] | None = None
        self._start, self._ended_before = time.monotonic(), 0
        self._times = TimeLeft()
        self._baseline: RunSpec | None = None
        self._others: Mapping[str, object] = {}

    def show_earlier(self, load: "Callable[[], StudyRecord]") -> None:
        """Show the stored trials of this study, which `load` returns; later also those of other processes."""
        self._load = load
        record = self._update(load)
        self._ended_before = len(self.records)
        self._times.reached(self._n_ended())
        if self.live and record.others:  # which the table of the best leaves out; plain lines have all fields
            self.say(others_text(record.others))
        if self.records:
            self.say(f"resuming '{record.name}': {self._counts()}")

    def _update(self, load: "Callable[[], StudyRecord]") -> StudyRecord:
        record = load()
        self.records = {t.number: t for t in record.trials if t.state in ("complete", "pruned", "failed")}
        ended = [t for t in record.trials if t.state not in ("running", "waiting")]
        self._known.update(number for t in ended for number in (t.number, *t.earlier))
        self._others = record.others
        if record.baseline and record.baseline.run:
            self._baseline = record.baseline.run
        return record

    def trial_started(self, number: int, run: RunSpec) -> None:
        """Show the configuration of a trial."""
        self._known.add(number)
        if number == BASELINE:
            self._baseline = run
        before = self._deferred.pop(number, None)
        self._current[number] = Training(run, before.history if before else ())
        if not self.live:
            self.say(f"trial {number}: {changes_text(run.config) or 'the baseline'}")

    def fold_started(self, number: int, run: RunSpec) -> None:
        """Begin with the next fold of a trial."""
        if number in self._current:
            self._current[number].fold_started(run.position)
        if not self.live:
            self.say(f"trial {number}: fold {run.position + 1} of {run.n_folds}")

    def steps_done(self, steps: StepsDone) -> None:
        """Move the bar of a trial."""
        if steps.number in self._current:
            self._current[steps.number].steps_done(steps)

    def epoch_ended(self, number: int, history: History) -> None:
        """Show an epoch, except one that was shown before the trial was deferred."""
        shown: History = ()
        if number in self._current:
            shown = self._current[number].history
            self._current[number].epoch_ended(history)
        if not self.live and len(history) > len(shown):
            self.say(f"trial {number}: " + epoch_line(history[-1], self.metric))

    def trial_deferred(self, number: int) -> None:
        """Show that a trial (only the baseline can be) is deferred."""
        self._deferred[number] = self._current.pop(number)
        epochs = len(self._deferred[number].history)
        self.say(f"trial {number} waits after epoch {epochs} until another is complete")

    def trial_ended(self, record: TrialRecord) -> None:
        """Show how a trial ended."""
        self.records[record.number] = record
        self._current.pop(record.number, None)
        if record.continues is not None:
            self.records.pop(record.continues, None)
        if self._load and len(self._known) <= max(self._known, default=-1):  # other processes train trials too
            self._update(self._load)
        self._times.reached(self._n_ended())
        self.say(ending_line(record, self.metric))
        if not self.live:
            self.say(f"{self._counts()}; {self._best()}{self._time_left()}")

    def repetition(self, event: Repeating) -> None:
        """Move the bar of a repetition, and show how it ended."""
        line = self._repetitions.heard(event)
        if line:
            self.say(f"repetition of {line}")

    def content(self) -> RenderableType:
        """Return the trials in training, the best ones, and how many are left."""
        current = sorted(self._current.items())
        room = max(1, (self.console.height - _FIXED_LINES - _BEST) // 2)
        shown = current[:room]
        lines: list[RenderableType] = [
            Text(f"trial {number}: {self._differences(training.run)}", no_wrap=True, overflow="ellipsis")
            for number, training in shown
        ]
        if shown:
            rows = [(str(number), training) for number, training in shown]
            lines.append(trainings_table(rows, self.metric, self.console.width))
        elif repetitions := self._repetitions.current()[:room]:
            names = [f"repetition of {name}" for name, _ in repetitions]
            lines += [Text(name, no_wrap=True, overflow="ellipsis") for name in names]
            lines.append(trainings_table([("", each) for _, each in repetitions], self.metric, self.console.width))
        else:
            lines.append(Text("starting: images, store, Keras"))
        if len(current) > room:
            lines.append(Text(f"and {len(current) - room} more in training", style="dim"))
        records = list(self.records.values())
        waiting = list(self._deferred.items())
        table = best_table(records, current, waiting, self.metric, _BEST, self._differences, self.floor)
        if table.row_count and self.console.height > _FIXED_LINES + 2 * len(shown) + table.row_count:
            lines += ["", table]
        return Group(*lines, "", self._bar(), Text(f"{self._states()}; {self._best(gain=False)}"))

    def _bar(self) -> Table:
        bar = Table.grid(padding=(0, 1), expand=True)
        for ratio in (None, 1, None):
            bar.add_column(ratio=ratio, no_wrap=True)
        done = min(self._n_ended(), self.n_trials)
        bar.add_row(
            f"{done} of {self.n_trials} trials", ProgressBar(self.n_trials, done), self._times.text(self.n_trials)
        )
        return bar

    def _differences(self, run: RunSpec) -> str:
        """Say in what a configuration differs from the baseline of this study, whose fixed fields all trials have."""
        baseline = (self._baseline or RunSpec()).config
        return "the baseline" if run.config == baseline else differences_text(run.config, baseline, self._others)

    def _n_ended(self) -> int:
        return sum(record.state != "passed over" for record in list(self.records.values()))

    def _states(self) -> str:
        states = [record.state for record in list(self.records.values())]
        return ", ".join(f"{states.count(state)} {state}" for state in ("complete", "pruned", "failed"))

    def _counts(self) -> str:
        return f"{self._n_ended()} of {self.n_trials} trials ({self._states()})"

    def _best(self, *, gain: bool = True) -> str:
        best = ranked(list(self.records.values()), self.metric, self.floor)
        if not best or best[0].value is None:
            return "no result yet"
        baseline = self.records.get(BASELINE)
        below = ", below the floor" if best[0].below(self.floor) else ""
        text = f"best {self.metric} {best[0].value:.4f} (trial {best[0].number}{below})"
        if not gain or baseline is None or baseline.value is None or is_baseline(best[0]):
            return text
        difference = best[0].value - baseline.value
        if direction(self.metric) == "minimize":
            return f"{text}, {difference:+.4f} on the baseline"
        return f"{text}, {points(difference)} points on the baseline"

    def _time_left(self) -> str:
        done = len(self.records) - self._ended_before
        if not done:
            return ""
        seconds = (time.monotonic() - self._start) / done * max(0, self.n_trials - len(self.records))
        return f"; about {seconds / 60:.0f} min left"
