"""Figures as inline SVG. Neutral lines take the text colour of the page, which suits light and dark mode."""

import io
import re
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar
from xml.etree import ElementTree

from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.figure import Figure

from pneumosearch.errors import printable
from pneumosearch.metrics import Metric, metric_name, scale
from pneumosearch.training.plots import TRAIN_COLOUR

#: Placeholder for the text colour of the page; no other part of a figure may use it.
INK: Final = "#010203"
#: More colours of Okabe and Ito, in addition to those of `training.plots`.
GREEN: Final = "#009E73"
PURPLE: Final = "#CC79A7"
#: For rasterised parts, which cannot take the text colour; visible on light and dark backgrounds.
GREY: Final = "#808080"

#: Above this number, points or curves are rasterised, which keeps the file small.
N_RASTERISED: Final = 200
#: Maximum number of faint lines; more would only take time, as the lines already overlap.
MAX_LINES: Final = 600

_STYLE: Final[dict[Any, Any]] = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # a name may contain dollar signs
    "font.size": 9,
    "axes.labelsize": 9,
    "legend.fontsize": 8.5,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": INK,
    "grid.alpha": 0.15,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "legend.frameon": False,
}
#: Decorator that gives all figures the same style.
styled: Final = rc_context(_STYLE)

#: The page defines a lighter blue for dark mode.
_BLUE: Final = f"var(--blue, {TRAIN_COLOUR})"

_SVG: Final = "http://www.w3.org/2000/svg"
_LINK: Final = "{http://www.w3.org/1999/xlink}href"
_FONT: Final = re.compile(r"font: ([\d.]+px) [^;]*|font-family: [^;]*; ?")
_MAX_LABEL: Final = 40  # characters
_MAX_SCALE: Final = 1.45  # pixels on a page per point of a figure
_DPI: Final = 144  # of rasterised parts


T = TypeVar("T")


@dataclass(frozen=True)
class Drawing:
    """A figure of a page."""

    svg: Markup
    caption: str
    wide: bool = False  # whether it scrolls horizontally on a narrow screen


def drawing(figure: Figure, name: str, *, alt: str, caption: str = "", wide: bool = False) -> Drawing:
    """Convert a matplotlib figure to inline SVG. Call this inside a `styled` function.

    Args:
        figure: The figure.
        name: Letters, digits and dashes, unique on the page; prefix of the identifiers in the SVG.
        alt: A sentence that describes the figure to readers who cannot see it.
        caption: Text below the figure.
        wide: Whether the figure scrolls horizontally on a narrow screen instead of shrinking.
    """
    text = io.BytesIO()
    with rc_context({"svg.hashsalt": name}), warnings.catch_warnings():
        # The browser's fonts draw the text; the font that matplotlib measures with may lack a glyph.
        warnings.filterwarnings("ignore", message="Glyph .* missing", category=UserWarning)
        figure.savefig(text, format="svg", dpi=_DPI, metadata={"Date": None, "Creator": None})
    root = ElementTree.fromstring(text.getvalue())  # noqa: S314  (matplotlib wrote it a line above)
    _tidy(root, name)
    root.set("style", _widths(float(root.get("viewBox", "").split()[2]), wide))
    root.set("role", "img")
    root.set("aria-label", printable(alt))
    return Drawing(Markup(_serialised(root)), caption, wide)  # noqa: S704  (ElementTree has escaped all text)


def thinned(lines: Sequence[T]) -> tuple[Sequence[T], str]:
    """Return at most `MAX_LINES` of the lines, evenly spaced, and a sentence for the caption if any are left out."""
    if len(lines) <= MAX_LINES:
        return lines, ""
    kept = [lines[len(lines) * index // MAX_LINES] for index in range(MAX_LINES)]
    return kept, f" {MAX_LINES} of {len(lines)} faint lines are drawn, evenly spaced."


def label(text: str) -> str:
    """Return untrusted text as a label: one line of at most 40 printable characters."""
    clean = printable(text)
    return clean if len(clean) <= _MAX_LABEL else clean[: _MAX_LABEL - 1] + "…"


def with_unit(metric: Metric) -> str:
    """Return the metric in words, with its unit."""
    return metric_name(metric) + {100.0: " (%)", 1.0: ""}[scale(metric)]


def axis_label(metric: Metric, evaluated: str = "", width: int = 34) -> str:
    """Return the title of an axis: images ("validation" or "test"), metric and unit, in lines of `width` characters."""
    return textwrap.fill(f"{evaluated} {with_unit(metric)}".strip(), width)


def _widths(points: float, wide: bool) -> str:
    """Return CSS limits on the width of a figure, so that text is readable and of similar size in all figures."""
    return f"max-width: {_MAX_SCALE * points:.0f}px" + f"; min-width: {points:.0f}px" * wide


def _tidy(root: ElementTree.Element, name: str) -> None:
    """Remove what does not belong inside a page: size, metadata, style sheet, identifiers shared with other figures."""
    del root.attrib["width"], root.attrib["height"]
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{{{_SVG}}}metadata", f"{{{_SVG}}}style"):
                parent.remove(child)
    used = set(_references(root))
    for element in root.iter():
        _tidy_attributes(element, used, name)


def _references(root: ElementTree.Element) -> Iterator[str]:
    for element in root.iter():
        yield element.get(_LINK, "").removeprefix("#")
        yield element.get("clip-path", "").removeprefix("url(#").removesuffix(")")


def _tidy_attributes(element: ElementTree.Element, used: set[str], name: str) -> None:
    attributes = element.attrib
    if attributes.get("id") in used:
        attributes["id"] = f"{name}-{attributes['id']}"
    else:
        attributes.pop("id", None)
    if attributes.get(_LINK, "").startswith("#"):
        attributes[_LINK] = f"#{name}-{attributes[_LINK][1:]}"
    if "clip-path" in attributes:
        attributes["clip-path"] = attributes["clip-path"].replace("url(#", f"url(#{name}-")
    if "style" in attributes:
        attributes["style"] = _FONT.sub(_only_size, attributes["style"]).replace(INK, "currentColor")
        attributes["style"] = attributes["style"].replace(TRAIN_COLOUR.lower(), _BLUE)
    if "d" in attributes:
        attributes["d"] = attributes["d"].replace("\n", "")
    element.tail = None


def _only_size(font: re.Match[str]) -> str:
    return f"font-size: {font[1]}" if font[1] else ""


def _serialised(root: ElementTree.Element) -> str:
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", "http://www.w3.org/1999/xlink")
    return ElementTree.tostring(root, encoding="unicode")
