"""Figures of the hyperparameters: importance, slices and parallel coordinates."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from pneumosearch.config import TrialConfig
from pneumosearch.metrics import metric_name, scale, shown
from pneumosearch.records.trial import StudyRecord
from pneumosearch.report.figures import (
    GREEN,
    INK,
    N_RASTERISED,
    Drawing,
    axis_label,
    drawing,
    label,
    styled,
    thinned,
)
from pneumosearch.report.figures_search import evaluated
from pneumosearch.space import Choice, Dimension, Range, Scalar, Space
from pneumosearch.studyfile import checked_spec
from pneumosearch.training.plots import EVALUATION_COLOUR, TRAIN_COLOUR

_BEST_SHARE: Final = 0.1  # share of trials that parallel coordinates highlight
_JITTER: Final = 0.2  # as a share of the distance between two choices
_MAX_BEST: Final = 20
_MAX_AXES: Final = 16  # of parallel coordinates

Floats = npt.NDArray[np.float64]


def searched_space(record: StudyRecord) -> Space | None:
    """Return the space of a study; None if it searches nothing, such as a single baseline."""
    if not isinstance(record.spec.get("space"), dict):
        return None
    return checked_spec(dict(record.spec), "stored study").search_space()


@styled
def importance_bars(shares: Mapping[str, float]) -> Drawing | None:
    """Draw the importance of each hyperparameter, largest on top.

    Args:
        shares: {name: share}, as `importance` returns it; if empty, the result is None.
    """
    if not shares:
        return None
    figure = Figure(figsize=(5.2, 0.8 + 0.19 * len(shares)), layout="constrained")
    axes: Axes = figure.subplots()
    names = list(shares)[::-1]
    bars = axes.barh([label(name) for name in names], [100 * shares[name] for name in names], color=TRAIN_COLOUR)
    axes.bar_label(bars, fmt="%.0f", padding=3, fontsize=8.5)
    axes.set_xlabel("importance (%)")
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.grid(visible=False, axis="y")
    first = ", ".join(f"{name} {share:.0%}" for name, share in list(shares.items())[:3])
    alt = f"Importance of {len(shares)} hyperparameters by PED-ANOVA; the most important are {first}."
    caption = (
        "PED-ANOVA: how much the values of the best trials differ from those of all trials. Imprecise with few trials."
    )
    return drawing(figure, "importance", alt=alt, caption=caption)


@dataclass(frozen=True)
class _Result:
    """A complete trial in a figure."""

    number: int
    config: TrialConfig
    value: float
    height: float  # the value as drawn: accuracies in percent
    is_baseline: bool


def _results(record: StudyRecord) -> list[_Result]:
    """Return the complete trials that were trained, best first."""
    baseline = record.baseline.number if record.baseline else None
    return [
        _Result(
            trial.number, trial.run.config, trial.value, scale(record.metric) * trial.value, trial.number == baseline
        )
        for trial in record.ranking()
        if trial.run is not None and trial.value is not None
    ]


def _ordered(space: Space, order: Sequence[str]) -> list[str]:
    return [*order, *(name for name in space.dimensions if name not in order)]


def slices(record: StudyRecord, order: Sequence[str] = ()) -> list[Drawing]:
    """Draw the metric against the value of each searched hyperparameter, those in `order` first."""
    space, results, drawn = searched_space(record), _results(record), []
    if space is None or not results:
        return []
    chosen = [space.chosen(result.config) for result in results]
    for name in _ordered(space, order):
        there = [(result, values[name]) for result, values in zip(results, chosen, strict=True) if name in values]
        if there:
            drawn.append(_slice(record, name, space.dimensions[name], there))
    return drawn


@styled
def _slice(record: StudyRecord, name: str, dimension: Dimension, there: list[tuple[_Result, Scalar]]) -> Drawing:
    figure = Figure(figsize=(2.5, 1.95))
    axes: Axes = figure.add_axes((0.27, 0.24, 0.70, 0.72))
    values = [value for _, value in there]
    places, heights = _places(dimension, values), [result.height for result, _ in there]
    if isinstance(dimension, Choice):
        places = places + np.random.default_rng(0).uniform(-_JITTER, _JITTER, len(places))
    many = len(there) > N_RASTERISED
    axes.plot(places, heights, "o", color=TRAIN_COLOUR, alpha=0.6, ms=3.5, mew=0, rasterized=many)
    baseline = [(place, result.height) for place, (result, _) in zip(places, there, strict=True) if result.is_baseline]
    axes.plot(*(zip(*baseline, strict=True) if baseline else ((), ())), "D", color=GREEN, ms=5)
    axes.plot(places[:1], heights[:1], "o", color=EVALUATION_COLOUR, ms=5)
    _name_values(axes, dimension, values)
    axes.set(xlabel=label(name), ylabel=axis_label(record.metric, width=20))
    best, value = there[0]
    alt = (
        f"{evaluated(record).capitalize()} {metric_name(record.metric)} against {name}, {len(there)} complete trials; "
        f"the best, trial {best.number}, has {_text(value)} and {shown(best.value, record.metric)}."
    )
    return drawing(figure, f"slice-{name.replace('_', '-')}", alt=alt)


def _places(dimension: Dimension, values: Sequence[Scalar]) -> Floats:
    """Return the positions of values on an axis: numbers as they are, choices at 0, 1, 2, ..."""
    if isinstance(dimension, Range):
        return np.array([float(value) for value in values])
    choices = _choices(dimension, values)
    return np.array([float(choices.index(value)) for value in values])


def _choices(dimension: Choice, values: Sequence[Scalar]) -> list[Scalar]:
    """Return the choices, then values outside the space, such as those of the baseline."""
    return list(dict.fromkeys([*dimension.choices, *values]))


def _name_values(axes: Axes, dimension: Dimension, values: Sequence[Scalar]) -> None:
    if isinstance(dimension, Choice):
        names = [label(_text(choice)) for choice in _choices(dimension, values)]
        axes.set_xticks(range(len(names)), names)
        axes.set_xlim(-0.5, len(names) - 0.5)
    elif dimension.log:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())


def _text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


@styled
def parallel_coordinates(record: StudyRecord, order: Sequence[str] = ()) -> Drawing | None:
    """Draw each complete trial as a line through its values: one axis for each hyperparameter, then the metric.

    Args:
        record: The study.
        order: Hyperparameters by importance; the first 16 are drawn.

    Returns:
        None if fewer than two trials are complete.
    """
    space, results = searched_space(record), _results(record)
    if space is None or len(results) < 2:
        return None
    names = _ordered(space, order)[:_MAX_AXES]
    values = [[getattr(result.config, name) for result in results] for name in names]
    shares = [_shares(space.dimensions[name], column) for name, column in zip(names, values, strict=True)]
    heights = np.array([result.height for result in results])
    lines = np.stack([*shares, _between(heights, heights.min(), heights.max())], axis=1)
    figure = Figure(figsize=(max(6.5, 0.64 * (len(names) + 1)), 4.2))
    axes: Axes = figure.add_axes((0.04, 0.33, 0.92, 0.58))
    n_best = min(max(1, round(_BEST_SHARE * len(results))), _MAX_BEST)
    left_out = _draw_lines(axes, lines, n_best, [result.is_baseline for result in results])
    ends = [_ends(space.dimensions[name], column) for name, column in zip(names, values, strict=True)]
    _label_axes(
        axes,
        [*map(label, names), textwrap.fill(metric_name(record.metric), 20)],
        [*ends, (f"{heights.min():.4g}", f"{heights.max():.4g}")],
    )
    alt = (
        f"{len(results)} complete trials as lines through their values of {len(names)} hyperparameters to their "
        f"{evaluated(record)} {metric_name(record.metric)}, which is {heights.min():.4g} to {heights.max():.4g}."
    )
    caption = (
        f"Orange: the best {n_best} of {len(results)}. Green, dashed: the baseline. The ends of each axis are labelled."
    )
    return drawing(figure, "parallel", alt=alt, caption=caption + left_out, wide=True)


def _between(values: Floats, low: float, high: float) -> Floats:
    return (values - low) / ((high - low) or 1.0)


def _shares(dimension: Dimension, values: Sequence[Scalar]) -> Floats:
    """Return the positions of values between the ends of a dimension, from 0 to 1."""
    places = _places(dimension, values)
    if isinstance(dimension, Choice):
        return _between(places, 0.0, len(_choices(dimension, values)) - 1.0)
    if dimension.log:
        return _between(np.log(places), float(np.log(dimension.low)), float(np.log(dimension.high)))
    return _between(places, dimension.low, dimension.high)


def _ends(dimension: Dimension, values: Sequence[Scalar]) -> tuple[str, str]:
    if isinstance(dimension, Range):
        return _text(dimension.low), _text(dimension.high)
    choices = _choices(dimension, values)
    return label(_text(choices[0])), label(_text(choices[-1]))


def _draw_lines(axes: Axes, lines: Floats, n_best: int, is_baseline: Sequence[bool]) -> str:
    many, places = len(lines) > N_RASTERISED, np.arange(lines.shape[1])
    curves = [np.column_stack([places, line]) for line in lines]
    others, left_out = thinned(curves[n_best:])
    faint = max(0.08, min(0.35, 20 / len(lines)))
    axes.add_collection(LineCollection(others, colors=TRAIN_COLOUR, alpha=faint, linewidths=1, rasterized=many))
    axes.add_collection(LineCollection(curves[:n_best], colors=EVALUATION_COLOUR, alpha=0.8, linewidths=1.3))
    baseline = [curve for curve, is_it in zip(curves, is_baseline, strict=True) if is_it]
    axes.add_collection(LineCollection(baseline, colors=GREEN, linewidths=1.8, linestyles="--"))
    return left_out


def _label_axes(axes: Axes, names: Sequence[str], ends: Sequence[tuple[str, str]]) -> None:
    axes.set(xlim=(-0.3, len(names) - 0.7), ylim=(-0.02, 1.02), yticks=[])
    axes.set_xticks(range(len(names)), names, rotation=55, ha="right", rotation_mode="anchor")
    axes.tick_params(axis="x", length=0, pad=14)
    axes.grid(visible=False)
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)
    for place, (low, high) in enumerate(ends):
        axes.axvline(place, color=INK, alpha=0.4, lw=0.8)
        axes.annotate(low, (place, 0), (0, -4), textcoords="offset points", ha="center", va="top", fontsize=7.5)
        axes.annotate(high, (place, 1), (0, 4), textcoords="offset points", ha="center", va="bottom", fontsize=7.5)
