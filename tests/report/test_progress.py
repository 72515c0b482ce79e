from pneumosearch.report.progress import epoch_line
from tests.support.fakes import a_history


def test_accuracy_stands_in_every_epochs_line_and_the_metric_beside_it() -> None:
    (epoch,) = a_history(0.8)
    epoch = epoch.model_copy(update={"validation_worst_family": 0.5})
    assert "validation accuracy 0.8000, 1.0 s" in epoch_line(epoch, "accuracy")
    assert "validation accuracy 0.8000, worst_family 0.5000, 1.0 s" in epoch_line(epoch, "worst_family")
