"""Plots of a single training."""

from pathlib import Path
from typing import Final

from pneumosearch._utils.atomic import replacing
from pneumosearch.records.epoch import History

#: Colours of Okabe and Ito, which colour-blind readers can distinguish: blue for training, vermilion for evaluation.
TRAIN_COLOUR: Final = "#0072B2"
EVALUATION_COLOUR: Final = "#D55E00"


def learning_curves(history: History, path: Path, *, title: str) -> None:
    """Write a PNG file with accuracy and loss by epoch, for training and evaluation.

    Args:
        history: At least one epoch.
        path: File to write; missing folders are created.
        title: Title of the figure.
    """
    from matplotlib.figure import Figure  # not before the first picture, which follows the first epochs

    path.parent.mkdir(parents=True, exist_ok=True)
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    epochs, evaluated = [epoch.epoch for epoch in history], history[0].evaluated
    for axes, metric in zip(figure.subplots(1, 2), ("accuracy", "loss"), strict=True):
        train = [getattr(epoch, f"train_{metric}") for epoch in history]
        axes.plot(epochs, train, "o-", color=TRAIN_COLOUR, label="training")
        evaluation = [getattr(epoch, f"{evaluated}_{metric}") for epoch in history]
        axes.plot(epochs, evaluation, "s--", color=EVALUATION_COLOUR, label=evaluated)
        axes.set(xlabel="epoch", ylabel=metric)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.legend()
    figure.suptitle(title)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=100, format="png")
