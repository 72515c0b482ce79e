"""Figures of a search: the baseline against the published table, the history, the learning curves."""

from itertools import accumulate
from typing import Any, Final, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pneumosearch.metrics import Metric, metric_name, scale, shown
from pneumosearch.published import PUBLISHED_TABLE
from pneumosearch.records.epoch import History
from pneumosearch.records.trial import StudyRecord, TrialRecord, standing
from pneumosearch.report.figures import (
    GREEN,
    GREY,
    INK,
    N_RASTERISED,
    PURPLE,
    Drawing,
    axis_label,
    drawing,
    styled,
    thinned,
    with_unit,
)
from pneumosearch.training.plots import EVALUATION_COLOUR, TRAIN_COLOUR

_FAINT: Final = 0.35


def evaluated(record: StudyRecord) -> str:
    """Return which images the epochs of a study are evaluated on: "validation" or "test"."""
    return next((trial.history[0].evaluated for trial in record.trials if trial.history), "validation")


@styled
def published_curve(history: History) -> Drawing:
    """Draw the published accuracies and those of the baseline by epoch.

    Args:
        history: History of the baseline, at least one epoch.
    """
    figure = Figure(figsize=(5.2, 3.7), layout="constrained")
    axes: Axes = figure.subplots()
    judge, colour = history[0].evaluated, EVALUATION_COLOUR if history[0].evaluated == "test" else GREEN
    hollow: dict[str, Any] = {"linestyle": ":", "markerfacecolor": "none"}
    epochs = [row.epoch for row in PUBLISHED_TABLE]
    published = {
        name: [100 * getattr(row, f"{name}_accuracy") for row in PUBLISHED_TABLE] for name in ("train", "test")
    }
    axes.plot(epochs, published["train"], "o", color=TRAIN_COLOUR, label="published train", **hollow)
    axes.plot(epochs, published["test"], "s", color=EVALUATION_COLOUR, label="published test", **hollow)
    own = {
        "train": [100 * e.train_accuracy for e in history],
        judge: [100 * e.evaluation("accuracy") for e in history],
    }
    epochs = [epoch.epoch for epoch in history]
    axes.plot(epochs, own["train"], "o-", ms=4, color=TRAIN_COLOUR, label="baseline here, train")
    axes.plot(epochs, own[judge], "D-", ms=4, color=colour, label=f"baseline here, {judge}")
    axes.set(xlabel="epoch", ylabel="accuracy (%)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(loc="outside lower center", ncols=2)
    ends = [f"published {name} {_from_to(values)}" for name, values in published.items()]
    ends += [f"this baseline's {name} {_from_to(values)}" for name, values in own.items()]
    alt = f"Accuracy by epoch, first and last: {'; '.join(ends)}."
    same = "" if judge == "test" else " Validation and test images differ: compare shapes, not levels."
    return drawing(
        figure, "published", alt=alt, caption=f"Hollow markers: published. Filled markers: this baseline.{same}"
    )


def _from_to(values: list[float]) -> str:
    return f"from {values[0]:.1f} to {values[-1]:.1f} %"


def _height(trial: TrialRecord, metric: Metric) -> float | None:
    """Return the metric of a trial as drawn; for a pruned trial, the metric of its kept epoch."""
    value = trial.value
    if value is None and trial.kept is not None:
        value = trial.kept.evaluation(metric)
    return None if value is None else scale(metric) * value


def _points(record: StudyRecord, state: Literal["complete", "pruned"]) -> tuple[list[int], list[float]]:
    drawn = [(t.number, _height(t, record.metric)) for t in record.trials if t.state == state]
    there = [(number, value) for number, value in drawn if value is not None]
    return [number for number, _ in there], [value for _, value in there]


@styled
def history(record: StudyRecord) -> Drawing | None:
    """Draw the metric of each trial by trial number, with the best so far.

    Returns:
        None if no trial is complete.
    """
    numbers, values = _points(record, "complete")
    if not numbers:
        return None
    figure = Figure(figsize=(7.2, 3.8), layout="constrained")
    axes: Axes = figure.subplots()
    many = len(record.trials) > N_RASTERISED
    stopped = _points(record, "pruned")
    if stopped[0]:
        axes.plot(
            *stopped,
            "x",
            color=GREY if many else INK,
            alpha=_FAINT,
            ms=5,
            label="pruned, at its kept epoch",
            rasterized=many,
        )
    below = {trial.number for trial in record.trials if record.below_floor(trial)}
    places = list(zip(numbers, values, strict=True))
    for name, chosen, inside in (
        ("complete", [place for place in places if place[0] not in below], TRAIN_COLOUR),
        ("below the floor", [place for place in places if place[0] in below], "none"),
    ):
        if chosen:
            points = zip(*chosen, strict=True)
            axes.plot(*points, "o", color=TRAIN_COLOUR, mfc=inside, ms=4, label=name, zorder=3, rasterized=many)
    axes.step(numbers, _best_so_far(record, numbers), where="post", color=EVALUATION_COLOUR, label="best so far")
    _levels(record, axes)
    axes.set(xlabel="trial", ylabel=axis_label(record.metric, evaluated(record)))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(loc="outside lower center", ncols=3)
    return drawing(figure, "history", alt=_history_alt(record), caption=_history_caption(record), wide=True)


def _best_so_far(record: StudyRecord, numbers: list[int]) -> list[float]:
    """Return the height of the best of the first, the first two, ... of these complete trials."""
    trials = {trial.number: trial for trial in record.trials}
    places = {number: standing(trials[number], record.metric, record.floor) for number in numbers}

    def better(first: int, second: int) -> int:
        return second if places[second] < places[first] else first

    return [_height(trials[number], record.metric) or 0.0 for number in accumulate(numbers, better)]


def _levels(record: StudyRecord, axes: Axes) -> None:
    """Draw lines for the baseline and, if the metric is accuracy, for the published test accuracy."""
    baseline = _height(record.baseline, record.metric) if record.baseline else None
    if baseline is not None:
        axes.axhline(baseline, color=GREEN, linestyle="--", lw=1.2, label="baseline")
    if _beside_published(record):
        best = max(PUBLISHED_TABLE, key=lambda row: row.test_accuracy)
        name = f"published TEST accuracy, {100 * best.test_accuracy:.1f} % (epoch {best.epoch})"
        axes.axhline(100 * best.test_accuracy, color=PURPLE, linestyle=":", lw=1.6, label=name)


def _beside_published(record: StudyRecord) -> bool:
    return record.metric == "accuracy" and record.data.beside_published


def _history_alt(record: StudyRecord) -> str:
    best, baseline = record.ranking()[0], record.baseline
    values = [trial.value for trial in record.trials if trial.state == "complete" and trial.value is not None]
    name = f"{evaluated(record)} {metric_name(record.metric)}"
    text = (
        f"{name[0].upper()}{name[1:]} by trial: {len(values)} complete trials from {shown(min(values), record.metric)} "
        f"to {shown(max(values), record.metric)}, {record.count('pruned')} pruned; the best is trial {best.number}"
    )
    if baseline and baseline.value is not None:
        text += f"; the baseline has {shown(baseline.value, record.metric)}"
    return text + "."


def _history_caption(record: StudyRecord) -> str:
    caption = f"Each point is one trial with one seed on {record.n_judging} {evaluated(record)} images."
    if record.n_folds:
        caption = f"Each point is the mean of a trial over {record.n_folds} folds; of a pruned one, its first fold."
    if not _beside_published(record):
        return caption
    return f"{caption} The published line was measured on the TEST images and is not comparable with these points."


@styled
def learning_curves(record: StudyRecord, metric: Literal["accuracy", "auc"]) -> Drawing | None:
    """Draw a metric of all trials by epoch, with the baseline and the best trial highlighted.

    Returns:
        None if no epoch has the metric.
    """
    key = f"{evaluated(record)}_{metric}"
    curves = {trial.number: curve for trial in record.trials if (curve := _curve(trial, key, scale(metric)))}
    if not curves:
        return None
    figure = Figure(figsize=(5.2, 3.7), layout="constrained")
    axes: Axes = figure.subplots()
    complete = {trial.number for trial in record.trials if trial.state == "complete"}
    others = [curve for number, curve in curves.items() if number not in complete]
    left_out = _bundle(axes, others, INK, "not complete")
    left_out += _bundle(axes, [curves[number] for number in curves if number in complete], TRAIN_COLOUR, "complete")
    best = next((trial.number for trial in record.ranking()), None)
    for number, colour, name in (
        (record.baseline.number if record.baseline else None, GREEN, "baseline"),
        (best, EVALUATION_COLOUR, f"best, trial {best}"),
    ):
        if number in curves:
            axes.plot(*zip(*curves[number], strict=True), "o-", ms=3, color=colour, label=name)
    axes.set(xlabel="epoch", ylabel=axis_label(metric, evaluated(record)))
    axes.autoscale()
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(loc="outside lower center", ncols=2)
    alt = _curves_alt(record, metric, list(curves.values()))
    of_folds = f" on the first of {record.n_folds} folds" if record.n_folds else ""
    caption = f"Each line is a trial{of_folds}: {with_unit(metric)}.{left_out}"
    return drawing(figure, f"curves-{metric}", alt=alt, caption=caption)


def _curve(trial: TrialRecord, key: str, times: float) -> list[tuple[int, float]]:
    """Return `times` the figure under this key of each epoch that has it."""
    values = [(epoch.epoch, getattr(epoch, key)) for epoch in trial.history]
    return [(number, times * value) for number, value in values if value is not None]


def _bundle(axes: Axes, curves: list[list[tuple[int, float]]], colour: str, name: str) -> str:
    """Draw faint curves as one collection, single epochs as dots. Return a caption for curves that are left out."""
    if not curves:
        return ""
    drawn, left_out = thinned(curves)
    many = len(curves) > N_RASTERISED
    colour = GREY if many and colour == INK else colour
    faint = max(0.06, min(_FAINT, 15 / len(drawn)))
    axes.add_collection(LineCollection(drawn, colors=colour, alpha=faint, linewidths=1, rasterized=many))
    dots = [curve[0] for curve in drawn if len(curve) == 1]
    axes.plot(*(zip(*dots, strict=True) if dots else ((), ())), ".", color=colour, alpha=faint, ms=3, rasterized=many)
    axes.plot([], [], color=colour, alpha=_FAINT, label=f"{name} ({len(curves)})")
    return left_out


def _curves_alt(record: StudyRecord, metric: Metric, curves: list[list[tuple[int, float]]]) -> str:
    ends = [curve[-1][1] / scale(metric) for curve in curves]
    return (
        f"{evaluated(record).capitalize()} {metric_name(metric)} by epoch of {len(curves)} trials; their last "
        f"epochs range from {shown(min(ends), metric)} to {shown(max(ends), metric)}, "
        f"with a median of {shown(float(np.median(ends)), metric)}."
    )
