"""The audit of a data folder as one self-contained HTML page."""

import io
from pathlib import Path
from typing import Any, Final, NamedTuple

import cv2
import matplotlib
from markupsafe import Markup
from matplotlib.figure import Figure

from pneumosearch._utils.atomic import write_output
from pneumosearch._utils.jinja import data_uri, template
from pneumosearch.data.audit.audit import Audit, NearPair
from pneumosearch.data.audit.shift import Histogram, ShiftComparison
from pneumosearch.data.cache import shrink
from pneumosearch.data.decoding import decode
from pneumosearch.data.names import path_below, path_of
from pneumosearch.records.classes import Classes
from pneumosearch.records.dataset import PHANTOMS
from pneumosearch.report import audit as tables
from pneumosearch.training.plots import EVALUATION_COLOUR, TRAIN_COLOUR

_N_PAIRS: Final = 24  # near-duplicate pairs on the page
_SIDE: Final = 224  # pixels of a thumbnail
_INK: Final = "#010203"  # placeholder for the text colour of the page, which differs in light and dark mode
_MARKERS: Final = (("o", TRAIN_COLOUR), ("s", EVALUATION_COLOUR), ("^", "#009E73"))


class Image(NamedTuple):
    """An image or a plot of the page with its text alternative."""

    source: str  # data URI or SVG
    alt: str


class ImagePair(NamedTuple):
    """Two near-duplicate images side by side."""

    images: tuple[Image, Image]
    caption: str


def write_page(audit: Audit, path: Path) -> None:
    """Write the page, completely or not at all. It reads the images of pairs from the audited folder.

    Raises:
        PneumosearchError: The file cannot be written.
    """
    write_output(path, page(audit))


def page(audit: Audit) -> str:
    """Return the page as HTML."""
    shown = tables.worst_first(audit.near.pairs)[:_N_PAIRS]
    return template("audit.html").render(
        audit=audit,
        folder=Path(audit.folder).name,  # the page may be shared, and the rest of the path is private
        warning=PHANTOMS if audit.kind == "phantoms" else None,
        tables=tables,
        overview=_overview(audit.comparisons) if audit.comparisons else None,
        legend=list(_styles(audit.classes).items()),
        histograms=[_histogram(histogram, _styles(audit.classes)) for histogram in audit.histograms],
        pairs=[_pair(audit, pair) for pair in shown],
        beyond=[_pair(audit, pair) for pair in audit.near.beyond],
    )


def _pair(audit: Audit, pair: NearPair) -> ImagePair:
    first, second = (_thumbnail(path_of(audit.folder), name) for name in (pair.first, pair.second))
    return ImagePair((first, second), tables.pair_text(pair))


def _thumbnail(folder: Path, name: str) -> Image:
    _, data = cv2.imencode(".jpg", shrink(decode(path_below(folder, name)), _SIDE, "area"))
    return Image(data_uri(data.tobytes(), "image/jpeg"), f"X-ray {name}")


def _overview(comparisons: list[ShiftComparison]) -> Image:
    """Draw the AUC of every feature in every comparison, with its interval."""
    names = [feature.feature.replace("_", " ") for feature in comparisons[0].features]
    figure = _figure(4.4, 5.6)
    axes = figure.subplots()
    for k, comparison in enumerate(comparisons):
        positions = [row + 0.22 * (k - 1) for row in range(len(names))]
        values = [feature.auc for feature in comparison.features]
        below = [max(0.0, feature.auc - feature.auc_low) for feature in comparison.features]
        above = [max(0.0, feature.auc_high - feature.auc) for feature in comparison.features]
        marker, colour = _MARKERS[k]
        label = f"{comparison.first} and {comparison.second}".replace("$", r"\$")  # no formula
        axes.errorbar(values, positions, xerr=[below, above], fmt=marker, color=colour, markersize=4, label=label)
    axes.axvline(0.5, color=_INK, linewidth=0.8)
    axes.set_yticks(range(len(names)), names)
    axes.set(xlim=(0, 1), xlabel="AUC (0.5: no difference)", ylim=(len(names) - 0.5, -0.5))
    figure.legend(loc="outside upper left", frameon=False, labelcolor=_INK)
    _ink(axes)
    return Image(
        _svg(figure), "AUC of each feature in each comparison with 95% intervals; the tables below list the values"
    )


def _styles(classes: Classes) -> dict[str, tuple[str, str]]:
    """Return colour and line of each set of images, such as "train NORMAL"."""
    colours = zip(classes, (TRAIN_COLOUR, EVALUATION_COLOUR), strict=True)
    lines = (("train", "-"), ("test", "--"))
    return {f"{split} {name}": (colour, line) for name, colour in colours for split, line in lines}


def _histogram(histogram: Histogram, styles: dict[str, tuple[str, str]]) -> Image:
    """Draw one feature's distribution in train and test, by class."""
    figure, name = _figure(2.9, 1.9), histogram.feature.replace("_", " ")
    axes = figure.subplots()
    for label, shares in histogram.shares.items():
        colour, line = styles[label]
        axes.stairs(shares, histogram.edges, color=colour, linestyle=line, linewidth=1.2)
    axes.set_title(name, fontsize=9, color=_INK)
    axes.set_yticks([])
    axes.locator_params(axis="x", nbins=5)
    _ink(axes)
    return Image(_svg(figure), f"Histograms of {name} in train and test, by class")


def _figure(width: float, height: float) -> Figure:
    return Figure(figsize=(width, height), layout="constrained", facecolor="none")


def _ink(axes: Any) -> None:
    """Draw axes in the text colour of the page, without a background."""
    axes.set_facecolor("none")
    axes.tick_params(colors=_INK, labelsize=9)
    axes.xaxis.label.set_color(_INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[:].set_color(_INK)


def _svg(figure: Figure) -> str:
    """Return a figure as an SVG element that keeps text as text."""
    file = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "audit", "font.size": 9}):
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    text = file.getvalue()
    # The figure contains names of features, splits and classes only, which matplotlib escapes.
    return Markup(text[text.index("<svg") :].replace(_INK, "currentColor"))  # noqa: S704
