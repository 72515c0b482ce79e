"""The record of one epoch: what training measures, the store keeps and the report shows."""

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, model_validator

from pneumosearch.config import Keep
from pneumosearch.metrics import PruneMetric


class EpochMetrics(BaseModel):
    """One epoch, counted from 1. Accuracies and AUC are fractions; losses mean cross-entropy in nats.

    The training figures are Keras' running ones: augmented images, dropout on, weights changing. Either the
    `validation_` or the `test_` figures are there, as the protocol has it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    epoch: int
    train_accuracy: float
    train_loss: float
    validation_accuracy: float | None = None
    validation_loss: float | None = None
    validation_sensitivity: float | None = None
    validation_specificity: float | None = None
    validation_balanced_accuracy: float | None = None
    validation_auc: float | None = None
    # Of changed copies of the validation images, where the run asks for them.
    validation_stress_accuracy: float | None = None
    validation_stress_auc: float | None = None
    validation_stress_balanced_accuracy: float | None = None
    validation_stress_worst: float | None = None
    # With precise batch normalisation, where the run asks for it.
    validation_precise_accuracy: float | None = None
    validation_precise_loss: float | None = None
    validation_precise_auc: float | None = None
    test_accuracy: float | None = None
    test_loss: float | None = None
    test_sensitivity: float | None = None
    test_specificity: float | None = None
    test_balanced_accuracy: float | None = None
    test_auc: float | None = None
    learning_rate: float  # in force during the epoch
    seconds: float

    @model_validator(mode="after")
    def _judged(self) -> "EpochMetrics":
        if None in (getattr(self, f"{self.evaluated}_{name}") for name in ("loss", "accuracy")):
            raise ValueError("neither validation nor test images judged the epoch")
        return self

    @property
    def evaluated(self) -> Literal["validation", "test"]:
        """Which images judged the epoch."""
        return "validation" if self.validation_loss is not None else "test"

    def evaluation(self, metric: PruneMetric) -> float:
        """Return `metric` on the images that judged the epoch."""
        return float(getattr(self, f"{self.evaluated}_{metric}"))

    def numbers(self) -> dict[str, float]:
        """Return all but the time: what must be equal in a rerun."""
        return {name: value for name, value in self.model_dump(exclude_none=True).items() if name != "seconds"}


History = tuple[EpochMetrics, ...]


def kept_epoch(history: Sequence[EpochMetrics], keep: Keep) -> EpochMetrics:
    """Return the epoch whose weights are kept: the last, or the first of the lowest loss, as in `save_best_only`."""
    if keep == "last":
        return history[-1]
    return min(history, key=lambda epoch: epoch.evaluation("loss"))
