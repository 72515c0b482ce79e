"""ROC curves and calibration of one network or of two, on labelled images."""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pneumosearch.intervals import Floats
from pneumosearch.records.confirmation import TestScores
from pneumosearch.report.curves import calibration, roc_band
from pneumosearch.report.figures import GREEN, INK, Drawing, drawing, label, styled
from pneumosearch.training.plots import EVALUATION_COLOUR

_COLOURS: Final = (GREEN, EVALUATION_COLOUR)
_LINES: Final = ("--", "-")
_MARKS: Final[tuple[dict[str, Any], ...]] = ({"fmt": "D--", "ms": 4}, {"fmt": "o-", "ms": 5})


class Curve(NamedTuple):
    """A network's answers on labelled images."""

    name: str
    labels: Sequence[int]
    probabilities: Floats
    patients: Sequence[str]
    scores: TestScores  # at threshold 0.5


@styled
def roc_curves(curves: Sequence[Curve], title: str, whose: str = "") -> Drawing:
    """Draw ROC curves, each with a 95% band.

    Args:
        curves: One or two; the last one is drawn as the main one.
        title: Begins the text alternative.
        whose: Begins the caption.
    """
    figure = Figure(figsize=(4.6, 4.6), layout="constrained")
    axes: Axes = figure.subplots()
    axes.plot([0, 100], [0, 100], color=INK, alpha=0.3, lw=0.8, linestyle=":")
    labels, n = [], len(curves)
    for curve, colour, line in zip(curves, _COLOURS[-n:], _LINES[-n:], strict=True):
        band = roc_band(curve.labels, curve.probabilities, curve.patients)
        axes.fill_between(100 * band.grid, 100 * band.low, 100 * band.high, color=colour, alpha=0.18, lw=0)
        labels.append(f"{label(curve.name)}: AUC {curve.scores.auc:.3f}")
        axes.plot(100 * band.false_positive, 100 * band.true_positive, line, color=colour, label=labels[-1])
        at = curve.scores
        axes.plot([100 * (1 - at.specificity)], [100 * at.sensitivity], "o", color=colour, ms=5)
    axes.set(xlabel="100 − specificity (%)", ylabel="sensitivity (%)", xlim=(-2, 102), ylim=(-2, 102), aspect="equal")
    axes.legend(loc="lower right")
    caption = f"{whose}Band: pointwise 95% by a bootstrap over patients, 1,000 resamples. Dot: at threshold 0.5."
    return drawing(figure, "roc", alt=f"{title}: {', '.join(labels)}.", caption=caption)


@styled
def calibration_diagram(curves: Sequence[Curve], positive: str, title: str) -> Drawing:
    """Draw the observed share of the positive class against the mean predicted probability.

    Args:
        curves: One or two; the last one is drawn as the main one.
        positive: The positive class in words.
        title: Begins the text alternative.
    """
    figure = Figure(figsize=(4.6, 4.6), layout="constrained")
    axes: Axes = figure.subplots()
    axes.plot([0, 100], [0, 100], color=INK, alpha=0.3, lw=0.8, linestyle=":")
    labels, n = [], len(curves)
    for curve, colour, look in zip(curves, _COLOURS[-n:], _MARKS[-n:], strict=True):
        bins = calibration(curve.labels, curve.probabilities)
        shares = [100 * each.share_ill for each in bins]
        below = [100 * (each.share_ill - each.low) for each in bins]
        above = [100 * (each.high - each.share_ill) for each in bins]
        labels.append(f"{label(curve.name)}: {100 * curve.scores.calibration_error:.1f}")
        axes.errorbar([100 * each.mean_probability for each in bins], shares, (below, above), color=colour, lw=1.2,
                      elinewidth=0.7, label=labels[-1] + " points off", **look)  # fmt: skip
    words = label(positive)
    axes.set(xlabel=f"mean probability of {words} (%)", ylabel=f"images with {words} (%)", aspect="equal")
    axes.set(xlim=(-2, 102), ylim=(-2, 102))
    axes.legend(loc="upper left")
    alt = f"{title}; expected calibration error in points: {', '.join(labels)}."
    caption = "Ten bins of equal width, 95% Wilson intervals; a calibrated network lies on the dotted line."
    return drawing(figure, "calibration", alt=alt, caption=caption)
