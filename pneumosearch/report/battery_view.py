"""The page's section "will it hold elsewhere?": scores by family and by copy, with a picture of each copy."""

from collections.abc import Mapping, Sequence
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
from pneumosearch.records.confirmation import Confirmation
from pneumosearch.records.trial import StudyRecord, TrialRecord
from pneumosearch.report import battery, battery_repeated
from pneumosearch.report.battery_repeated import Replicates
from pneumosearch.report.figures import GREEN, Drawing, drawing, styled
from pneumosearch.training.plots import EVALUATION_COLOUR

#: The copies as they are drawn on the page; no X-ray is shown there.
CAPTION: Final = (
    "Each change of the battery on a phantom, which is a drawing and no X-ray, with the balanced accuracy of the "
    "baseline and of the best or the confirmed trial in the search, on validation images changed in this way."
)

_SIDE: Final = 112  # pixels
_SEED: Final = 3
_SEVERITY: Final = 0.5


def battery_view(
    record: StudyRecord,
    top: int,
    confirmation: Confirmation | None = None,
    replicates: Sequence[TrialRecord] = (),
) -> dict[str, Any] | None:
    """Return the values that the section needs; None where the battery judged none of the trials shown.

    Args:
        record: The study.
        top: Number of best trials to list besides the baseline.
        confirmation: Its latest confirmation, or None; its winner is the one that is set beside the baseline.
        replicates: Trials of the confirmation's study of replicates.
    """
    winner = _winner(record, confirmation)
    trials = _with_winner(battery.judged_trials(record, top), winner)
    if not trials:
        return None
    compared = _compared(record, trials, winner)
    repeated = battery_repeated.repeated(confirmation, replicates) if confirmation else {}
    return {
        "headings": battery.battery_headings(record, trials),
        "rows": battery.battery_rows(trials),
        "note": battery.NOTE,
        "figure": by_family(compared, repeated),
        "repeated": _repeated(repeated, battery.families(trials)),
        "caption": CAPTION,
        "copies": [_copy(name, compared) for name in pictures()],
    }


def _winner(record: StudyRecord, confirmation: Confirmation | None) -> TrialRecord | None:
    """Return the confirmed winner's trial; None where nothing is confirmed, or the battery did not judge it."""
    if confirmation is None:
        return None
    number = confirmation.candidates[confirmation.verdict.winner].trial
    return next((t for t in record.trials if number in (t.number, *t.earlier) and battery.judged(t)), None)


def _with_winner(trials: list[TrialRecord], winner: TrialRecord | None) -> list[TrialRecord]:
    """Return the trials, and the winner behind them where it is not among them."""
    missing = winner is not None and all(trial.number != winner.number for trial in trials)
    return [*trials, *([winner] if winner and missing else [])]


def _compared(record: StudyRecord, trials: list[TrialRecord], winner: TrialRecord | None) -> dict[str, TrialRecord]:
    """Return the trials that are drawn by their names: the baseline, and the winner or else the best other one."""
    baseline = [trial for trial in trials if record.baseline and trial.number == record.baseline.number]
    best = [winner] if winner else [trial for trial in trials if trial not in baseline][:1]
    return dict(zip(("baseline",), baseline, strict=False)) | {f"trial {trial.number}": trial for trial in best}


def _repeated(repeated: Mapping[str, Replicates], families: list[str]) -> dict[str, Any] | None:
    if not repeated:
        return None
    headings = ["", *(f"{who}, {_seeds(replicates)}" for who, replicates in repeated.items()), "lead, points"]
    rows = battery_repeated.repeated_rows(repeated, families)
    return {"headings": headings, "rows": rows, "note": battery_repeated.NOTE}


def _seeds(replicates: Replicates) -> str:
    return f"{len(replicates)} seed{'s' * (len(replicates) != 1)}"


def _copy(name: str, compared: Mapping[str, TrialRecord]) -> dict[str, Any]:
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
def by_family(compared: Mapping[str, TrialRecord], repeated: Mapping[str, Replicates]) -> Drawing:
    """Draw the balanced accuracy of each family.

    Args:
        compared: The trials by their names, at most two, each judged by the battery.
        repeated: Their replicates by the same names, or nothing.
    """
    families = battery.families(list(compared.values()))
    figure = Figure(figsize=(5.2, 0.9 + 0.34 * len(families)), layout="constrained")
    axes: Axes = figure.subplots()
    texts = []
    for (who, trial), colour, marker in zip(compared.items(), (GREEN, EVALUATION_COLOUR), "Do", strict=False):
        scores = _scores(trial, repeated.get(who, {}))
        for name, (score, deviation) in scores.items():
            place, fill = families.index(name), "none" if name in battery.trained_on(trial) else colour
            axes.errorbar(
                [score], [place], xerr=[deviation] if deviation else None,
                fmt=marker, color=colour, markerfacecolor=fill, ms=6, elinewidth=1,
            )  # fmt: skip
        axes.plot([], [], marker, color=colour, label=who)
        texts.append(f"{who}: " + ", ".join(f"{name} {score:.1f} %" for name, (score, _) in scores.items()))
    axes.set_yticks(range(len(families)), families)
    axes.set(xlabel="balanced accuracy (%)", ylim=(len(families) - 0.4, -0.6))
    figure.legend(loc="outside lower center", ncols=2)
    alt = f"Balanced accuracy by family of changes. {'; '.join(texts)}."
    caption = "Hollow: the trial trained on changes of this family."
    caption += " Mean and standard deviation on repetition." * bool(repeated)
    return drawing(figure, "families", alt=alt, caption=caption)


def _scores(trial: TrialRecord, replicates: Replicates) -> dict[str, tuple[float, float]]:
    """Return {family: (percent, deviation)}: on repetition where there is one, else of the trial itself."""
    if replicates:
        of_seeds = battery_repeated.by_family(replicates)
        means = {name: battery_repeated.mean_and_deviation(list(each.values())) for name, each in of_seeds.items()}
        return {name: (100 * mean, 100 * deviation) for name, (mean, deviation) in means.items()}
    kept = battery.judged(trial)
    return {name: (100 * scores.accuracy, 0.0) for name, scores in (kept.families or {}).items()} if kept else {}
