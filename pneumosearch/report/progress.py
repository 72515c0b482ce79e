"""What happens in a search, a line for each epoch and each end of a trial."""

from pneumosearch.intervals import sample_deviation
from pneumosearch.metrics import Metric
from pneumosearch.records.epoch import EpochMetrics
from pneumosearch.records.trial import TrialRecord


def epoch_line(epoch: EpochMetrics, metric: Metric) -> str:
    """Say what an epoch measured: the accuracy, and the metric if it is another one."""
    judged = ", ".join(f"{name} {epoch.evaluation(name):.4f}" for name in dict.fromkeys(("accuracy", metric)))
    return f"epoch {epoch.epoch}: train {epoch.train_accuracy:.1%}, validation {judged}, {epoch.seconds:.1f} s"


def ending_line(record: TrialRecord, metric: Metric) -> str:
    """Say how a trial ended."""
    which = f"{record.number}" + (f" (resuming {record.continues})" if record.continues is not None else "")
    n = record.n_epochs
    text = f"trial {which} {record.state} after {n} epoch" + "s" * (n != 1)
    if record.screening and not record.history:
        auc = record.screening.epoch.evaluation("auc")
        text = f"trial {which} {record.state} at its low-resolution rung (AUC {auc:.4f})"
    if record.value is not None:
        folds = [epoch.evaluation(metric) for epoch in record.kept_of_folds]
        spread = f" ± {sample_deviation(folds):.4f} over {len(folds)} folds" if folds else ""
        return f"{text}: {metric} {record.value:.4f}{spread}"
    why = record.failure or record.passed_over
    return f"{text}: {why}" if why else text
