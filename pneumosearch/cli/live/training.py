"""One training as it goes on: epoch, step, rate, metric and loss, and how it is drawn."""

from collections.abc import Sequence
from typing import Final

from rich.console import RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from pneumosearch.cli.live.curve import Curve
from pneumosearch.config import RunSpec
from pneumosearch.metrics import Metric, direction, metric_name
from pneumosearch.records.epoch import History, kept_epoch, mean_epoch
from pneumosearch.search.events import StepsDone

_SMOOTHING: Final = 0.3  # share of the latest rate
_CURVE: Final = 12  # characters


class Training:
    """What is known of a training that goes on.

    Args:
        run: What it trains.
        history: Epochs that it had before.
    """

    def __init__(self, run: RunSpec, history: History = ()) -> None:
        self.run = run
        self.history: History = ()  # of its present fold
        self.fold = 0
        self._earlier: tuple[History, ...] = ()  # of its folds before
        self.now: StepsDone | None = None  # within an epoch; None between two
        self.images_per_second: float | None = None
        self.losses = Curve()
        self.epoch_ended(history)

    def epoch_ended(self, history: History) -> None:
        """Take over the history after another epoch."""
        if self.now is None:  # an epoch that was not followed by its steps
            for epoch in history[len(self.history) :]:
                self.losses.add(epoch.train_loss)
        self.history, self.now = history, None

    def fold_started(self, fold: int) -> None:
        """Begin with the next fold, from 0."""
        self._earlier += (self.history,) if self.history else ()
        self.history, self.now, self.fold, self.losses = (), None, fold, Curve()

    def steps_done(self, steps: StepsDone) -> None:
        """Take over how far it is within an epoch."""
        if steps.images_per_second is not None:
            before = self.images_per_second or steps.images_per_second
            self.images_per_second = before + _SMOOTHING * (steps.images_per_second - before)
        if steps.epoch:  # the small images have a loss of their own
            self.losses.add(steps.loss)
        self.now = steps

    def metric(self, metric: Metric) -> float | None:
        """Return the metric after the last epoch; None before the first."""
        return self.history[-1].evaluation(metric) if self.history else None

    def best(self, metric: Metric) -> float | None:
        """Return the best that the metric was."""
        values = [epoch.evaluation(metric) for epoch in self.history]
        return (max if direction(metric) == "maximize" else min)(values, default=None)

    @property
    def n_epochs(self) -> int:
        """Epochs of all folds that were seen."""
        return sum(map(len, (*self._earlier, self.history)))

    def judged(self, metric: Metric) -> float | None:
        """Return the metric at the kept epoch so far, over the folds that were seen their mean; None before one."""
        histories = [*self._earlier, self.history] if self.history else self._earlier
        kept = [kept_epoch(history, self.run.config.keep) for history in histories]
        return mean_epoch(kept).evaluation(metric) if kept else None


def trainings_table(trainings: Sequence[tuple[str, Training]], metric: Metric, width: int) -> Table:
    """Return a line for each training, at most `width` wide; the bar takes what the numbers leave."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim", width=min(width, _WIDEST))
    table.add_column("trial", justify="right", min_width=5, no_wrap=True)
    table.add_column("epoch", justify="right", min_width=5, no_wrap=True)
    table.add_column("", ratio=1, min_width=6)
    for heading in ("step", "images/s", metric_name(metric), "best"):
        table.add_column(heading, justify="right", min_width=6, max_width=12, no_wrap=True)
    table.add_column("loss", min_width=_CURVE, no_wrap=True)
    for name, training in trainings:
        table.add_row(*_cells(name, training, metric))
    return table


_WIDEST: Final = 100


def _cells(name: str, training: Training, metric: Metric) -> list[RenderableType]:
    now, epochs, done = training.now, training.run.config.epochs, len(training.history)
    of_fold = f"fold {training.fold + 1}: " if len(training.run.trainings) > 1 else ""
    rate = "" if training.images_per_second is None else f"{training.images_per_second:.0f}"
    figures = (_figure(training.metric(metric)), _figure(training.best(metric)))
    curve = Text(training.losses.bars(_CURVE), style="cyan")
    if now is None:
        step = "starts" if done == 0 else "goes on" if done < epochs else "ends"
        return [name, f"{of_fold}{done}/{epochs}", ProgressBar(1, 0), step, rate, *figures, curve]
    epoch = f"{of_fold}{now.epoch}/{epochs}" if now.epoch else "small"
    step = "judging" if now.step == now.steps else f"{now.step}/{now.steps}"
    return [name, epoch, ProgressBar(now.steps, now.step), step, rate, *figures, curve]


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"
