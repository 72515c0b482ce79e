"""Optuna's own contract for samplers, held by the two that are this project's."""

from collections.abc import Callable
from functools import partial

import pytest
from optuna.samplers import BaseSampler
from optuna.testing.pytest_samplers import BasicSamplerTestCase, RelativeSamplerTestCase

from pneumosearch.search.samplers import LegibleCmaEsSampler, PriorSampler


class TestPriorSampler(BasicSamplerTestCase):
    @pytest.fixture
    def sampler(self) -> Callable[[], BaseSampler]:
        return partial(PriorSampler, {}, seed=1)  # the cases use one name for many ranges: no prior fits all of them


class TestLegibleCmaEsSampler(BasicSamplerTestCase, RelativeSamplerTestCase):
    @pytest.fixture
    def sampler(self) -> Callable[[], BaseSampler]:
        return partial(LegibleCmaEsSampler, seed=1, n_startup_trials=0, warn_independent_sampling=False)
