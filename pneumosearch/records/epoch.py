"""The record of one epoch: training measures it, the store keeps it and the report shows it."""

import statistics
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, create_model, model_validator

from pneumosearch.config import Keep
from pneumosearch.metrics import METRICS, AnyMetric, FamilyScores, PruneMetric


class _Epoch(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    epoch: int
    train_accuracy: float
    train_loss: float


def _figure_names() -> list[str]:
    plain = [name for name, kind in METRICS.items() if kind.judge == "images"]
    return [*(f"validation_{name}" for name in METRICS), *(f"test_{name}" for name in plain)]


if TYPE_CHECKING:

    class _Figures(_Epoch):
        def __getattr__(self, name: str) -> float | None: ...

else:
    _Figures = create_model("_Figures", __base__=_Epoch, **dict.fromkeys(_figure_names(), (float | None, None)))


class EpochMetrics(_Figures):
    """One epoch, counted from 1. Accuracies and AUC are fractions; losses are mean cross-entropy in nats.

    The training figures are Keras' running ones: augmented images, dropout on, weights changing. The others have the
    names of `metrics.METRICS` behind `validation_` or, where the protocol judges by the test images, `test_`. None
    stands for a figure that the run did not measure.
    """

    families: dict[str, FamilyScores] | None = None  # of the battery
    copies: dict[str, float] | None = None  # balanced accuracy under each change of the battery
    learning_rate: float  # in force during the epoch
    seconds: float

    @model_validator(mode="after")
    def _judged(self) -> "EpochMetrics":
        test, validation = (self.test_loss, self.test_accuracy), (self.validation_loss, self.validation_accuracy)
        if None in (test if self.validation_loss is None else validation):
            raise ValueError("neither validation nor test images judged the epoch")
        return self

    @property
    def evaluated(self) -> Literal["validation", "test"]:
        """Which images judged the epoch."""
        return "validation" if self.validation_loss is not None else "test"

    def evaluation(self, metric: PruneMetric) -> float:
        """Return `metric` on the images that judged the epoch."""
        return float(getattr(self, f"{self.evaluated}_{metric}"))

    def figure(self, metric: AnyMetric) -> float | None:
        """Return any metric on the images that judged the epoch; None where it was not measured."""
        value: float | None = getattr(self, f"{self.evaluated}_{metric}", None)
        return value

    def numbers(self) -> dict[str, float]:
        """Return all figures but the time. A rerun must give equal ones."""
        figures = self.model_dump(exclude_none=True, exclude={"seconds", "families", "copies"})
        for family, scores in (self.families or {}).items():
            figures |= {f"{family} {name}": value for name, value in asdict(scores).items()}
        return figures | {f"{copy} accuracy": value for copy, value in (self.copies or {}).items()}


History = tuple[EpochMetrics, ...]


def kept_epoch(history: Sequence[EpochMetrics], keep: Keep) -> EpochMetrics:
    """Return the epoch whose weights are kept: the last, or the first of the lowest loss, as in `save_best_only`."""
    if keep == "last":
        return history[-1]
    return min(history, key=lambda epoch: epoch.evaluation("loss"))


def mean_epoch(epochs: Sequence[EpochMetrics]) -> EpochMetrics:
    """Return the first of some epochs of one study with each figure the mean over all; its number and time stay."""
    first = epochs[0]
    if len(epochs) == 1:
        return first
    dumped = [epoch.model_dump(exclude_none=True, exclude={"epoch", "seconds"}) for epoch in epochs]
    return EpochMetrics.model_validate({
        "epoch": first.epoch,
        "seconds": first.seconds,
        **_means(dumped),
    })  # fmt: skip


def _means(dumped: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the mean of each number, in tables within the tables too."""
    return {
        name: _means([each[name] for each in dumped])
        if isinstance(value, dict)
        else statistics.fmean(each[name] for each in dumped)
        for name, value in dumped[0].items()
    }
