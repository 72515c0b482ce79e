"""The view of single trainings: `baseline` and `rerun`."""

from typing import Final

from rich.console import Console, Group, RenderableType
from rich.table import Table

from pneumosearch.cli.live.times import TimeLeft, clock_text
from pneumosearch.cli.live.training import Training, trainings_table
from pneumosearch.cli.live.view import View
from pneumosearch.config import RunSpec
from pneumosearch.records.epoch import History
from pneumosearch.records.trial import TrialRecord
from pneumosearch.report.changes import changes_text
from pneumosearch.report.tables import comparison_table, epoch_cells, epoch_headings, epoch_table
from pneumosearch.search.events import StepsDone

_WIDTH_OF_PUBLISHED: Final = 116  # of a table of epochs with the published ones


class EpochView(View):
    """One training: a line for each epoch, compared with the published accuracies."""

    def __init__(self, kind: str, *, quiet: bool, json: bool = False) -> None:
        super().__init__(kind, quiet=quiet, json=json)
        self._training: tuple[int, Training] | None = None
        self._times = TimeLeft()

    def trial_started(self, number: int, run: RunSpec) -> None:
        """Print the heading."""
        self._training = number, Training(run)
        text = f"{run.protocol} protocol, seed {run.seed}, {run.config.epochs} epochs"
        if run.config.changes().keys() - {"epochs"}:
            text += " with " + changes_text(run.config, ignore=("epochs",))
        if not self.quiet:
            self.console.print(text)
        if not self.live:
            self.headings = epoch_headings("test" if run.protocol == "original" else "validation", self.kind)
            self.say("  ".join(self.headings))

    def fold_started(self, number: int, run: RunSpec) -> None:
        """Begin with the next fold."""
        if self._training:
            self._training[1].fold_started(run.position)
        if not self.live:
            self.say(f"fold {run.position + 1} of {run.n_folds}, seed {run.seed}")

    def steps_done(self, steps: StepsDone) -> None:
        """Move the bar."""
        if self._training:
            self._training[1].steps_done(steps)

    def epoch_ended(self, number: int, history: History) -> None:
        """Show the table so far, or print a line for the last epoch."""
        if self._training:
            self._training[1].epoch_ended(history)
        if not self.live:
            cells = zip(epoch_cells(history[-1], self.kind), self.headings, strict=True)
            self.say("  ".join(cell.rjust(len(heading)) for cell, heading in cells))

    def content(self) -> RenderableType:
        """Return the epochs of the training, and where it is."""
        lines: list[RenderableType] = []
        if self._training:
            number, training = self._training
            room = max(1, self.console.height - 8)
            if training.history:
                lines.append(self._epochs(training.history[-room:]))
            lines.append(trainings_table([(str(number), training)], "accuracy", self.console.width))
        if not lines:
            lines.append(f"starting: images, store, Keras, {clock_text(self._times.elapsed)}")
        return Group(*lines)

    def _epochs(self, history: History) -> Table:
        """Return the epochs, beside the published ones where the terminal has room; the result has these again."""
        return epoch_table(history, self.kind if self.console.width >= _WIDTH_OF_PUBLISHED else "")

    def last_content(self) -> RenderableType | None:
        """Return the epochs."""
        if not self._training or not self._training[1].history:
            return None
        return self._epochs(self._training[1].history)

    def print_result(self, record: TrialRecord) -> None:
        """Print the result on standard output next to the published accuracies."""
        if self.kind == "images":
            Console().print(comparison_table(record.history))
        kept = record.kept
        if kept is not None:
            value = kept.evaluation("accuracy")
            print(f"kept epoch {kept.epoch} (lowest {kept.evaluated} loss): {kept.evaluated} accuracy {value:.1%}")
