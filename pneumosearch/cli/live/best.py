"""The best trials so far, as a small table."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from rich.table import Table

from pneumosearch.cli.live.training import Training
from pneumosearch.config import RunSpec
from pneumosearch.metrics import Floor, Metric, direction, metric_name
from pneumosearch.records.trial import NO_FLOOR, TrialRecord, is_baseline


class _Row(NamedTuple):
    number: int
    state: str
    run: RunSpec
    n_epochs: int
    value: float  # the metric that it is judged by
    below: bool = False  # the study's floor


def best_table(
    records: Sequence[TrialRecord],
    current: Sequence[tuple[int, Training]],
    waiting: Sequence[tuple[int, Training]],
    metric: Metric,
    n: int,
    differences: Callable[[RunSpec], str],
    floor: Floor = NO_FLOOR,
) -> Table:
    """Return the best `n` trials: the complete ones, as reports rank them, then those that have an epoch.

    Args:
        records: Ended trials.
        current: Trials in training, by number.
        waiting: Trials that go on later, by number.
        metric: By which they are ranked.
        n: At most so many.
        differences: Says in what a run differs from the baseline.
        floor: Of the study; complete trials below it come behind the others.
    """
    rows = _ended(records, {training.run for _, training in current}, metric, floor)
    rows += [*_unfinished(current, "training", metric), *_unfinished(waiting, "waiting", metric)]
    sign = -1.0 if direction(metric) == "maximize" else 1.0
    rows.sort(key=lambda row: (row.state != "complete", row.below, sign * row.value, row.number))
    baseline = next((row.value for row in rows if is_baseline(row) and row.state == "complete"), None)
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim", expand=True)
    for heading in ("best", metric_name(metric), "gain", "epochs"):
        table.add_column(heading, justify="right", min_width=4, max_width=12, no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("differs from the baseline in", ratio=1, no_wrap=True, overflow="ellipsis")
    for row in rows[:n]:
        epochs = f"{row.n_epochs}/{row.run.config.epochs * len(row.run.trainings)}"
        state = row.state + ", below the floor" * row.below
        cells = (str(row.number), f"{row.value:.4f}", _gain(row, baseline), epochs, state)
        table.add_row(*cells, differences(row.run), style="bold" if row is rows[0] else "")
    return table


def _ended(records: Sequence[TrialRecord], running: set[RunSpec], metric: Metric, floor: Floor) -> list[_Row]:
    """Return the ended trials that have an epoch; one that another trial resumes now is no longer one."""
    rows = []
    for record in records:
        kept = record.kept if record.duplicate_of is None else None
        if kept and record.run and record.state in ("complete", "pruned") and record.run not in running:
            value = record.value if record.value is not None else kept.evaluation(metric)
            below = record.state == "complete" and record.below(floor)
            rows.append(_Row(record.number, record.state, record.run, record.n_epochs, value, below))
    return rows


def _unfinished(trainings: Sequence[tuple[int, Training]], state: str, metric: Metric) -> list[_Row]:
    rows = []
    for number, training in trainings:
        value = training.judged(metric)
        if value is not None:
            rows.append(_Row(number, state, training.run, training.n_epochs, value))
    return rows


def _gain(row: _Row, baseline: float | None) -> str:
    return "" if baseline is None or is_baseline(row) else f"{row.value - baseline:+.4f}"
