"""Optuna's own contract for samplers, held by those that are this project's."""

from collections.abc import Callable
from functools import partial

import pytest
from optuna.samplers import BaseSampler, RandomSampler
from optuna.testing.pytest_samplers import BasicSamplerTestCase, RelativeSamplerTestCase

from pneumosearch.records.earlier import EarlierStudy, EarlierTrial
from pneumosearch.search.informed import InformedSampler
from pneumosearch.search.samplers import LegibleCmaEsSampler, PriorSampler
from pneumosearch.space import Range, Space


class TestPriorSampler(BasicSamplerTestCase):
    @pytest.fixture
    def sampler(self) -> Callable[[], BaseSampler]:
        return partial(PriorSampler, {}, seed=1)  # the cases use one name for many ranges: no prior fits all of them


class TestInformedSampler(BasicSamplerTestCase):
    @pytest.fixture
    def sampler(self) -> Callable[[], BaseSampler]:
        earlier = EarlierStudy(source="earlier", trials=(EarlierTrial(values={"zoom": 0.1}, score=1.0),))
        space = Space({"zoom": Range(low=0.0, high=0.5)})  # whose name is none of the cases'
        return lambda: InformedSampler(RandomSampler(seed=1), space, [earlier], seed=1)


class TestLegibleCmaEsSampler(BasicSamplerTestCase, RelativeSamplerTestCase):
    @pytest.fixture
    def sampler(self) -> Callable[[], BaseSampler]:
        return partial(LegibleCmaEsSampler, seed=1, n_startup_trials=0, warn_independent_sampling=False)
