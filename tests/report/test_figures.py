import pytest

from pneumosearch.metrics import METRICS
from pneumosearch.report.figures import axis_label


@pytest.mark.parametrize("metric", METRICS)
def test_axis_title_fits_the_height_of_a_figure(metric: str) -> None:
    lines = axis_label(metric, "validation").splitlines()
    assert max(map(len, lines)) <= 34
    assert " ".join(lines).startswith("validation ")
