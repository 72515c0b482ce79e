"""Progress on standard error: live tables on a terminal, plain lines elsewhere."""

import json
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from pneumosearch.config import RunSpec
from pneumosearch.metrics import Metric, direction
from pneumosearch.records.epoch import EpochMetrics, History
from pneumosearch.records.trial import StudyRecord, TrialRecord, is_baseline, ranked
from pneumosearch.report.tables import (
    changes_text,
    comparison_table,
    epoch_cells,
    epoch_headings,
    epoch_table,
    phantom_warning,
    points,
)
from pneumosearch.search.events import DeviceFound, EpochEnded, TrialDeferred, TrialEnded, TrialEvent, TrialStarted

if TYPE_CHECKING:
    from collections.abc import Callable

    from pneumosearch.data.cache import Progress
    from pneumosearch.search.dry_run import DryRun

_SECONDS_BETWEEN_LINES = 10.0


def print_json(value: Any) -> None:
    """Print one JSON object on standard output."""
    print(json.dumps(value, indent=2, allow_nan=False))


def stopped(reason: str, progress: str, *, can_resume: bool = True) -> typer.Exit:
    """Print why a command stopped early. Return the exit to raise: code 130 if interrupted, otherwise 0."""
    how = "; run the same command again to resume" if can_resume else ""
    print(f"stopped ({reason}) with {progress}{how}", file=sys.stderr)
    return typer.Exit(130 if reason == "interrupted" else 0)


def print_plan(plan: "DryRun") -> None:
    """Print the space, the first configurations and the cost of a study on standard output."""
    from pneumosearch.search.dry_run import dimension_text

    console, space = Console(), plan.spec.search_space()
    ranges = Table("field", "published", "range", title=f"Study '{plan.spec.name}': searched fields")
    for name, dimension in space.dimensions.items():
        ranges.add_row(name, str(getattr(space.centre, name)), escape(dimension_text(dimension)))
    console.print(ranges)
    if space.fixed:
        console.print("Fixed: " + ", ".join(f"{name}={value}" for name, value in space.fixed.items()), markup=False)
    if space.others:
        set_to = ", ".join(f"{name}={value}" for name, value in space.others.items())
        console.print(f"In all trials but the baseline: {set_to}", markup=False)
    first = Table("trial", "parameters", "MMAC", "s/epoch", "epochs", "configuration", title="The first trials")
    for number, trial in enumerate(plan.first):
        seconds = "unknown" if trial.seconds_an_epoch is None else f"{trial.seconds_an_epoch:.0f}"
        cost = (f"{trial.n_parameters:,}", f"{trial.multiply_adds / 1e6:.0f}", seconds, str(trial.config.epochs))
        first.add_row(str(number), *cost, changes_text(trial.config) or "the baseline")
    console.print(first)
    time = "unknown until a trial has run" if plan.seconds is None else f"about {plan.seconds / 60:.0f} min"
    console.print(f"{plan.n_trials} trials like these without pruning: {time}.", highlight=False)


def decoding_progress() -> "Progress":
    """Return a callback for the decoding of images that prints a line every ten seconds."""
    last = time.monotonic()

    def show(done: int, n: int) -> None:
        nonlocal last
        if time.monotonic() - last >= _SECONDS_BETWEEN_LINES or done == n:
            last = time.monotonic()
            print(f"decoded {done} of {n} images", file=sys.stderr)

    return show


class _View:
    """A live region on a terminal, lines elsewhere, nothing if quiet."""

    def __init__(self, kind: str, *, quiet: bool) -> None:
        self.kind, self.quiet = kind, quiet
        self.console = Console(stderr=True, quiet=quiet)
        self._devices: list[DeviceFound] = []
        self._live = Live(console=self.console, auto_refresh=False) if self.console.is_terminal and not quiet else None

    def __enter__(self) -> Self:
        if self.kind == "phantoms":
            self.console.print(phantom_warning())
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def __call__(self, event: TrialEvent) -> None:
        """Show an event; a view is a `Listener`."""
        match event:
            case DeviceFound():
                self._show_device(event)
            case TrialStarted(number, run):
                self.trial_started(number, run)
            case EpochEnded(number, history):
                self.epoch_ended(number, history)
            case TrialDeferred(number):
                self.trial_deferred(number)
            case TrialEnded(record):
                self.trial_ended(record)

    def show_device(self) -> None:
        """Show where this process is about to train, which imports Keras."""
        from pneumosearch.network.backend import device_in_words, idle_gpu_warning

        self._show_device(DeviceFound(device_in_words(), idle_gpu_warning()))

    def _show_device(self, found: DeviceFound) -> None:
        if found not in self._devices:  # each process of a study says so
            self._devices.append(found)
            self.say(f"training on {found.device}")
            if found.warning:
                self.say(f"warning: {found.warning}")

    def trial_started(self, number: int, run: RunSpec) -> None:
        """Show that a trial starts or resumes."""

    def epoch_ended(self, number: int, history: History) -> None:
        """Show the last epoch."""

    def trial_deferred(self, number: int) -> None:
        """Show that a trial is deferred."""

    def trial_ended(self, record: TrialRecord) -> None:
        """Show how a trial ended."""

    def say(self, text: str) -> None:
        """Print a permanent line."""
        self.console.print(Text(text), soft_wrap=True)

    def _show(self, content: RenderableType) -> None:
        if self._live:
            self._live.update(content, refresh=True)


class EpochView(_View):
    """One training: a line for each epoch, compared with the published accuracies."""

    def trial_started(self, number: int, run: RunSpec) -> None:
        """Print the heading."""
        self.console.print(
            f"{run.protocol} protocol, seed {run.seed}, {run.config.epochs} epochs"
            + (
                " with " + changes_text(run.config, ignore=("epochs",))
                if run.config.changes().keys() - {"epochs"}
                else ""
            )
        )
        if not self._live:
            self.headings = epoch_headings("test" if run.protocol == "original" else "validation", self.kind)
            self.say("  ".join(self.headings))

    def epoch_ended(self, number: int, history: History) -> None:
        """Show the table so far, or print a line for the last epoch."""
        self._show(epoch_table(history, self.kind))
        if not self._live:
            cells = zip(epoch_cells(history[-1], self.kind), self.headings, strict=True)
            self.say("  ".join(cell.rjust(len(heading)) for cell, heading in cells))

    def print_result(self, record: TrialRecord) -> None:
        """Print the result on standard output next to the published accuracies."""
        if self.kind == "images":
            Console().print(comparison_table(record.history))
        kept = record.kept
        if kept is not None:
            value = kept.evaluation("accuracy")
            print(f"kept epoch {kept.epoch} (lowest {kept.evaluated} loss): {kept.evaluated} accuracy {value:.1%}")


class StudyView(_View):
    """A search: counts, epochs of the running trials, the best trial against the baseline, the time left."""

    def __init__(self, kind: str, n_trials: int, metric: Metric, *, quiet: bool) -> None:
        super().__init__(kind, quiet=quiet)
        self.n_trials, self.metric = n_trials, metric
        self.records: dict[int, TrialRecord] = {}
        self._current: dict[int, tuple[RunSpec, History]] = {}  # running trials
        self._deferred: dict[int, History] = {}  # deferred trials
        self._known: set[int] = set()  # numbers of trials that run here or have ended anywhere
        self._load: Callable[[], StudyRecord] | None = None
        self._start, self._ended_before = time.monotonic(), 0

    def show_earlier(self, load: "Callable[[], StudyRecord]") -> None:
        """Show the stored trials of this study, which `load` returns; later also those of other processes."""
        self._load = load
        record = self._update(load)
        self._ended_before = len(self.records)
        if self.records:
            self.say(f"resuming '{record.name}': {self._counts()}")

    def _update(self, load: "Callable[[], StudyRecord]") -> StudyRecord:
        record = load()
        self.records = {t.number: t for t in record.trials if t.state in ("complete", "pruned", "failed")}
        ended = [t for t in record.trials if t.state not in ("running", "waiting")]
        self._known.update(number for t in ended for number in (t.number, *t.earlier))
        return record

    def trial_started(self, number: int, run: RunSpec) -> None:
        """Show the configuration of a trial."""
        self._known.add(number)
        self._current[number] = (run, self._deferred.pop(number, ()))
        if not self._live:
            self.say(f"trial {number}: {changes_text(run.config) or 'the baseline'}")

    def epoch_ended(self, number: int, history: History) -> None:
        """Show an epoch, except one that was shown before the trial was deferred."""
        shown: History = ()
        if number in self._current:
            run, shown = self._current[number]
            self._current[number] = (run, history)
        self._show(self._content())
        if not self._live and len(history) > len(shown):
            self.say(f"trial {number}: " + _epoch_line(history[-1], self.metric))

    def trial_deferred(self, number: int) -> None:
        """Show that a trial (only the baseline can be) is deferred."""
        _, self._deferred[number] = self._current.pop(number)
        epochs = len(self._deferred[number])
        self.say(f"trial {number} waits after epoch {epochs} until another is complete")
        self._show(self._content())

    def trial_ended(self, record: TrialRecord) -> None:
        """Show how a trial ended."""
        self.records[record.number] = record
        self._current.pop(record.number, None)
        if record.continues is not None:
            self.records.pop(record.continues, None)
        if self._load and len(self._known) <= max(self._known, default=-1):  # other processes train trials too
            self._update(self._load)
        self.say(_ending_line(record, self.metric))
        self._show(self._content())
        if not self._live:
            self.say(f"{self._counts()}; {self._best()}{self._time_left()}")

    def _content(self) -> RenderableType:
        lines: list[RenderableType] = [Text(f"{self._counts()}; {self._best()}{self._time_left()}", style="bold")]
        for number, (run, history) in sorted(self._current.items()):
            lines.append(Text(f"trial {number}: {changes_text(run.config) or 'the baseline'}"))
            table = Table("epoch", "train", f"validation {self.metric}", "seconds", box=None, padding=(0, 2))
            for epoch in history:
                table.add_row(
                    f"{epoch.epoch}/{run.config.epochs}",
                    f"{epoch.train_accuracy:.1%}",
                    f"{epoch.evaluation(self.metric):.4f}",
                    f"{epoch.seconds:.1f}",
                )
            lines.append(table)
        return Group(*lines)

    def _counts(self) -> str:
        states = [record.state for record in self.records.values() if record.state != "passed over"]
        kinds = ", ".join(f"{states.count(state)} {state}" for state in ("complete", "pruned", "failed"))
        return f"{len(states)} of {self.n_trials} trials ({kinds})"

    def _best(self) -> str:
        best = ranked(list(self.records.values()), self.metric)
        if not best or best[0].value is None:
            return "no result yet"
        baseline = self.records.get(0)
        text = f"best {self.metric} {best[0].value:.4f} (trial {best[0].number})"
        if baseline is None or baseline.value is None or is_baseline(best[0]):
            return text
        gain = best[0].value - baseline.value
        if direction(self.metric) == "minimize":
            return f"{text}, {gain:+.4f} on the baseline"
        return f"{text}, {points(gain)} points on the baseline"

    def _time_left(self) -> str:
        done = len(self.records) - self._ended_before
        if not done:
            return ""
        seconds = (time.monotonic() - self._start) / done * max(0, self.n_trials - len(self.records))
        return f"; about {seconds / 60:.0f} min left"


def _epoch_line(epoch: EpochMetrics, metric: Metric) -> str:
    return (
        f"epoch {epoch.epoch}: train {epoch.train_accuracy:.1%}, "
        f"validation {metric} {epoch.evaluation(metric):.4f}, {epoch.seconds:.1f} s"
    )


def _ending_line(record: TrialRecord, metric: Metric) -> str:
    which = f"{record.number}" + (f" (resuming {record.continues})" if record.continues is not None else "")
    text = f"trial {which} {record.state} after {len(record.history)} epochs"
    if record.screening and not record.history:
        auc = record.screening.epoch.evaluation("auc")
        text = f"trial {which} {record.state} at its low-resolution rung (AUC {auc:.4f})"
    if record.value is not None:
        return f"{text}: {metric} {record.value:.4f}"
    why = record.failure or record.passed_over
    return f"{text}: {why}" if why else text
