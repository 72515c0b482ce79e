"""Figures as SVG that stands inside a page: neutral lines take the page's text colour, so they suit light and dark."""

import io
import re
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

#: Stands for the colour of the page's text; no other part of a figure has it.
INK: Final = "#010203"
#: More of Okabe and Ito's colours, beside those of `pictures`.
GREEN: Final = "#009E73"
PURPLE: Final = "#CC79A7"
#: For what is a picture inside the figure, which cannot take the colour of the text; seen on light and dark.
GREY: Final = "#808080"

#: From so many points or curves on, they are a picture inside the figure, which then stays small.
N_RASTERISED: Final = 200
#: So many faint lines one over the other are a grey ground; more only take time to draw.
MOST_LINES: Final = 2000

_STYLE: Final[dict[Any, Any]] = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # a name may hold dollar signs
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
#: Decorates what draws a figure, so that all have one style.
styled: Final = rc_context(_STYLE)

#: The page has a lighter blue on a dark ground.
_BLUE: Final = f"var(--blue, {TRAIN_COLOUR})"

_SVG: Final = "http://www.w3.org/2000/svg"
_LINK: Final = "{http://www.w3.org/1999/xlink}href"
_FONT: Final = re.compile(r"font: ([\d.]+px) [^;]*|font-family: [^;]*; ?")
_LONGEST_LABEL: Final = 40  # characters
_LARGEST: Final = 1.45  # pixels on a page for a point of a figure
_DPI: Final = 144  # of what is a picture inside a figure


T = TypeVar("T")


@dataclass(frozen=True)
class Drawing:
    """A figure of a page."""

    svg: Markup
    caption: str
    wide: bool = False  # whether it needs more room than a phone has, and scrolls there


def drawing(figure: Figure, name: str, *, alt: str, caption: str = "", wide: bool = False) -> Drawing:
    """Turn a figure into SVG that can stand in a page beside others. To be called in a `styled` function.

    Args:
        figure: What was drawn.
        name: Of letters, digits and dashes; equal to that of no other figure of the page. Identifiers begin with it.
        alt: A sentence that says what the figure shows, for readers who do not see it.
        caption: What stands below it.
        wide: Whether it needs more room than a phone has.
    """
    text = io.BytesIO()
    with rc_context({"svg.hashsalt": name}), warnings.catch_warnings():
        # The page's own fonts draw the text; those that matplotlib measures it with may lack a letter.
        warnings.filterwarnings("ignore", message="Glyph .* missing", category=UserWarning)
        figure.savefig(text, format="svg", dpi=_DPI, metadata={"Date": None, "Creator": None})
    root = ElementTree.fromstring(text.getvalue())  # noqa: S314  (matplotlib wrote it a line above)
    _tidy(root, name)
    root.set("style", _widths(float(root.get("viewBox", "").split()[2]), wide))
    root.set("role", "img")
    root.set("aria-label", printable(alt))
    return Drawing(Markup(_serialised(root)), caption, wide)  # noqa: S704  (ElementTree has escaped all text)


def thinned(lines: Sequence[T]) -> tuple[Sequence[T], str]:
    """Return at most `MOST_LINES` of the lines, evenly spaced, and what the caption says where some are left out."""
    if len(lines) <= MOST_LINES:
        return lines, ""
    kept = [lines[len(lines) * index // MOST_LINES] for index in range(MOST_LINES)]
    return kept, f" Of {len(lines)} faint lines {MOST_LINES} are drawn, evenly spaced."


def label(text: str) -> str:
    """Return text that may come from anywhere as a label: one line of at most 40 characters that can be drawn."""
    clean = printable(text)
    return clean if len(clean) <= _LONGEST_LABEL else clean[: _LONGEST_LABEL - 1] + "…"


def axis_label(metric: Metric, evaluated: str) -> str:
    """Return the title of an axis: which images, which metric, which unit."""
    return f"{evaluated} {metric_name(metric)}" + {100.0: " (%)", 1.0: ""}[scale(metric)]


def _widths(points: float, wide: bool) -> str:
    """Say between which widths a figure may be scaled, so that text in all figures is of one size and can be read."""
    return f"max-width: {_LARGEST * points:.0f}px" + f"; min-width: {points:.0f}px" * wide


def _tidy(root: ElementTree.Element, name: str) -> None:
    """Leave out what does not belong inside a page: size, metadata, style sheet, names that other figures have too."""
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
