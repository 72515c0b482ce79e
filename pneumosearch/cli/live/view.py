"""What all views have in common."""

from types import TracebackType
from typing import Final, Self

from rich.console import RenderableType
from rich.text import Text

from pneumosearch.cli.live.region import Region, console
from pneumosearch.config import RunSpec
from pneumosearch.records.epoch import History
from pneumosearch.records.trial import TrialRecord
from pneumosearch.report.tables import phantom_warning
from pneumosearch.search.events import (
    DeviceFound,
    EpochEnded,
    FoldStarted,
    PartsDone,
    Repeating,
    StepsDone,
    TrialDeferred,
    TrialEnded,
    TrialEvent,
    TrialStarted,
)

_STEPS_EVERY: Final = 0.25  # seconds between two reports of a training's steps


class View:
    """A live region on a terminal, lines elsewhere, nothing if quiet; a `Listener`.

    Args:
        kind: As `DataDescription.shown_as` says.
        quiet: Show nothing.
        json: The result goes to standard output as JSON: show nothing but a live region.
    """

    def __init__(self, kind: str, *, quiet: bool, json: bool = False) -> None:
        self.kind, self.console = kind, console()
        self.live = self.console.is_interactive and not quiet
        self.quiet = quiet or (json and not self.live)
        self._devices: list[DeviceFound] = []
        self._region: Region | None = None

    @property
    def steps_every(self) -> float | None:
        """Seconds between two `StepsDone` that it wants, for its `Session`."""
        return _STEPS_EVERY if self.live else None

    def __enter__(self) -> Self:
        if self.kind == "phantoms" and not self.quiet:
            self.console.print(phantom_warning())
        if self.live:
            self._region = Region(self.console, self.content, transient=False)
            self._region.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._region:
            last = self.last_content()
            self._region.transient = last is None
            self._region.content = lambda: last or ""
            self._region.stop()
            self._region = None

    def content(self) -> RenderableType:
        """Return what the live region shows; another thread asks."""
        raise NotImplementedError

    def last_content(self) -> RenderableType | None:
        """Return what stays of the live region at the end."""
        return None

    def __call__(self, event: TrialEvent) -> None:
        """Show an event."""
        match event:
            case DeviceFound():
                self._show_device(event)
            case TrialStarted(number, run):
                self.trial_started(number, run)
            case FoldStarted(number, run):
                self.fold_started(number, run)
            case StepsDone():
                self.steps_done(event)
            case EpochEnded(number, history):
                self.epoch_ended(number, history)
            case TrialDeferred(number):
                self.trial_deferred(number)
            case TrialEnded(record):
                self.trial_ended(record)
            case PartsDone():
                self.parts_done(event)
            case Repeating():
                self.repetition(event)

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

    def fold_started(self, number: int, run: RunSpec) -> None:
        """Show that a trial begins with the next of its folds, or goes on with it."""

    def steps_done(self, steps: StepsDone) -> None:
        """Show how far a trial is within its epoch."""

    def epoch_ended(self, number: int, history: History) -> None:
        """Show the last epoch."""

    def trial_deferred(self, number: int) -> None:
        """Show that a trial is deferred."""

    def trial_ended(self, record: TrialRecord) -> None:
        """Show how a trial ended."""

    def parts_done(self, parts: PartsDone) -> None:
        """Show how far a job of several parts is."""

    def repetition(self, event: Repeating) -> None:
        """Show what happens in a repetition of a trial."""

    def say(self, text: str) -> None:
        """Print a permanent line, above the live region."""
        if not self.quiet:
            self.console.print(Text(text), soft_wrap=True)
