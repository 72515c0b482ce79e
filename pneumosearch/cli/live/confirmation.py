"""The view of `confirm`: the replicates in training, how many there are, then the networks at the test images."""

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from pneumosearch.cli.live.repetitions import Repetitions
from pneumosearch.cli.live.times import TimeLeft, clock_text
from pneumosearch.cli.live.training import trainings_table
from pneumosearch.cli.live.view import View
from pneumosearch.metrics import Metric
from pneumosearch.report.progress import epoch_line
from pneumosearch.search.events import EpochEnded, PartsDone, Repeating

_FIXED_LINES = 5  # heading, bar and gaps


class ConfirmationView(View):
    """Replicates on any number of workers: a bar for each and one over all, or a line for each epoch.

    Args:
        kind: As `DataDescription.shown_as` says.
        metric: Of the search.
        quiet: Show nothing.
        json: The result goes to standard output as JSON: show nothing but a live region.
    """

    def __init__(self, kind: str, metric: Metric, *, quiet: bool, json: bool = False) -> None:
        super().__init__(kind, quiet=quiet, json=json)
        self.metric = metric
        self._repetitions = Repetitions(metric)
        self._parts: PartsDone | None = None
        self._times = TimeLeft()

    def repetition(self, event: Repeating) -> None:
        """Move the bar of a replicate, print its epochs where there are no bars, and how it ended."""
        ending = self._repetitions.heard(event)
        if isinstance(event.event, EpochEnded) and not self.live:
            number, history = event.event.number, event.event.history
            self.say(f"{self._repetitions.name(number)}: {epoch_line(history[-1], self.metric)}")
        if ending:
            self.say(ending)

    def parts_done(self, parts: PartsDone) -> None:
        """Move the bar over all."""
        if self._parts is None or self._parts.what != parts.what:
            self._times = TimeLeft()
        self._times.reached(parts.done)
        self._parts = parts

    def content(self) -> RenderableType:
        """Return the replicates in training, and how many are left."""
        current = self._repetitions.current()
        room = max(1, (self.console.height - _FIXED_LINES) // 2)
        shown = current[:room]
        lines: list[RenderableType] = [Text(name, no_wrap=True, overflow="ellipsis") for name, _ in shown]
        if shown:
            rows = [("", training) for _, training in shown]
            lines.append(trainings_table(rows, self.metric, self.console.width))
        if len(current) > room:
            lines.append(Text(f"and {len(current) - room} more in training", style="dim"))
        if self._parts:
            lines.append(self._bar(self._parts))
        if not lines:
            lines.append(f"starting: images, store, Keras, {clock_text(self._times.elapsed)}")
        return Group(*lines)

    def _bar(self, parts: PartsDone) -> Table:
        bar = Table.grid(padding=(0, 1), expand=True)
        for ratio in (None, 1, None):
            bar.add_column(ratio=ratio, no_wrap=True)
        bar.add_row(
            f"{parts.done} of {parts.n} {parts.what}", ProgressBar(parts.n, parts.done), self._times.text(parts.n)
        )
        return bar
