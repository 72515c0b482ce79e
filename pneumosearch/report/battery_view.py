"""The page's section "will it hold elsewhere?": scores by family and by copy, with a picture of each copy."""

from functools import cache
from typing import Any, Final

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pneumosearch.data.battery import BATTERY, battery_copies
from pneumosearch.data.cache import shrink
from pneumosearch.data.decoding import PixelArray
from pneumosearch.data.phantom_drawing import draw_phantom
from pneumosearch.records.trial import StudyRecord, TrialRecord
from pneumosearch.report import battery
from pneumosearch.report.figures import GREEN, Drawing, drawing, styled
from pneumosearch.training.plots import EVALUATION_COLOUR

#: The copies as they are drawn on the page; no X-ray is shown there.
CAPTION: Final = (
    "Each change of the battery on a phantom, which is a drawing and no X-ray, with the balanced accuracy of the "
    "baseline and of the best trial on validation images changed in this way."
)

_SIDE: Final = 112  # pixels
_SEED: Final = 3
_SEVERITY: Final = 0.5


def battery_view(record: StudyRecord, top: int) -> dict[str, Any] | None:
    """Return the values that the section needs; None where the battery judged none of the trials shown.

    Args:
        record: The study.
        top: Number of best trials to list besides the baseline.
    """
    trials = battery.judged_trials(record, top)
    if not trials:
        return None
    compared = _compared(record, trials)
    return {
        "headings": battery.battery_headings(record, trials),
        "rows": battery.battery_rows(trials),
        "note": battery.NOTE,
        "figure": by_family(compared),
        "caption": CAPTION,
        "copies": [_copy(name, compared) for name in pictures()],
    }


def _compared(record: StudyRecord, trials: list[TrialRecord]) -> dict[str, TrialRecord]:
    """Return the trials that are drawn by their names: the baseline and the best other one, where they are judged."""
    baseline = [trial for trial in trials if record.baseline and trial.number == record.baseline.number]
    best = [trial for trial in trials if trial not in baseline][:1]
    return dict(zip(("baseline",), baseline, strict=False)) | {f"trial {trial.number}": trial for trial in best}


def _copy(name: str, compared: dict[str, TrialRecord]) -> dict[str, Any]:
    scores = [
        (who, (kept.copies or {}).get(name)) for who, trial in compared.items() if (kept := battery.judged(trial))
    ]
    return {
        "png": pictures()[name],
        "name": name,
        "words": f"{BATTERY[name].family}: {BATTERY[name].words}" if name in BATTERY else "the image itself",
        "scores": ", ".join(f"{who} {100 * score:.1f} %" for who, score in scores if score is not None),
    }


@cache
def pictures() -> dict[str, bytes]:
    """Return a phantom and its copies under the battery as PNG files, by their names; the phantom's is "unchanged"."""
    image = shrink(draw_phantom(np.random.default_rng(_SEED), _SEVERITY), _SIDE, "area")
    copies = battery_copies(image[None], "none")
    return {name: _png(copy) for name, copy in zip(("unchanged", *BATTERY), (image, *copies), strict=True)}


def _png(image: PixelArray) -> bytes:
    return bytes(cv2.imencode(".png", image)[1])


@styled
def by_family(compared: dict[str, TrialRecord]) -> Drawing:
    """Draw the balanced accuracy of each family.

    Args:
        compared: The trials by their names, at most two, each judged by the battery.
    """
    families = battery.families(list(compared.values()))
    figure = Figure(figsize=(5.2, 0.9 + 0.34 * len(families)), layout="constrained")
    axes: Axes = figure.subplots()
    texts = []
    for (who, trial), colour, marker in zip(compared.items(), (GREEN, EVALUATION_COLOUR), "Do", strict=False):
        kept, trained = battery.judged(trial), battery.trained_on(trial)
        scores = {name: 100 * each.accuracy for name, each in (kept.families or {}).items()} if kept else {}
        for name, score in scores.items():
            fill = "none" if name in trained else colour
            axes.plot([score], [families.index(name)], marker, color=colour, markerfacecolor=fill, ms=6)
        axes.plot([], [], marker, color=colour, label=who)
        texts.append(f"{who}: " + ", ".join(f"{name} {score:.1f} %" for name, score in scores.items()))
    axes.set_yticks(range(len(families)), families)
    axes.set(xlabel="balanced accuracy (%)", ylim=(len(families) - 0.4, -0.6))
    figure.legend(loc="outside lower center", ncols=2)
    alt = f"Balanced accuracy by family of changes. {'; '.join(texts)}."
    return drawing(figure, "families", alt=alt, caption="Hollow: the trial trained on changes of this family.")
