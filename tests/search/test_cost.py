from typing import Any

import pytest

from pneumosearch.config import TrialConfig
from pneumosearch.network import backend
from pneumosearch.published import PUBLISHED_PARAMETERS
from pneumosearch.search.cost import Limits, multiply_adds, n_parameters, seconds_an_epoch
from tests.conftest import TINY
from tests.support.fakes import a_trial


@pytest.mark.parametrize(
    "changes",
    [{}, {"n_blocks": 3}, {"convolution": "plain"}, {"head": "mean"}, {"width": 0.3, "filters_2": 5, "units_2": 3}],
    ids=str,
)
def test_parameters_are_those_that_keras_counts(changes: dict[str, Any]) -> None:
    backend.start()
    from pneumosearch.network.model import build_model
    from pneumosearch.training.loop import n_parameters as counted

    config = TrialConfig.checked({**TINY, **changes}, "test")
    assert n_parameters(config) == counted(build_model(config))


def test_baseline_has_the_published_parameters_and_three_hundred_million_operations() -> None:
    assert n_parameters(TrialConfig()) == PUBLISHED_PARAMETERS
    operations = 2 * 3 * multiply_adds(TrialConfig())  # forwards and twice backwards
    assert 0.5e9 < operations < 0.7e9  # the design's 0.61 GFLOP an image


def test_time_is_estimated_in_proportion_to_arithmetic() -> None:
    trained = [a_trial(0, 0.9, 0.9), a_trial(1, 0.9, image_size=75)]
    assert seconds_an_epoch(TrialConfig(), trained[:1]) == pytest.approx(1.0)  # the fakes' epochs take a second
    smaller = seconds_an_epoch(TrialConfig(image_size=75), trained[:1])
    assert smaller is not None
    assert 0.2 < smaller < 0.3
    assert seconds_an_epoch(TrialConfig(), []) is None


def test_limits_say_what_is_too_much() -> None:
    trained = [a_trial(0, 0.9, 0.9)]
    assert Limits().excess(TrialConfig(), lambda: trained) is None
    assert Limits(2_314_337, 1.0).excess(TrialConfig(), lambda: trained) is None
    large = Limits(parameters=2_000_000).excess(TrialConfig(), lambda: trained)
    assert large == "2,314,337 parameters, at most 2,000,000 allowed"
    slow = Limits(seconds_an_epoch=2.0).excess(TrialConfig(filters_1=48), lambda: trained)
    assert str(slow).endswith("s an epoch, at most 2 allowed")
    assert Limits(seconds_an_epoch=2.0).excess(TrialConfig(filters_1=48), lambda: []) is None
