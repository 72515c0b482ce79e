"""A sampler that looks where earlier studies were good."""

from typing import Any

import optuna
import pytest

from pneumosearch.records.earlier import EarlierStudy, EarlierTrial
from pneumosearch.search.informed import InformedSampler
from pneumosearch.search.samplers import make_sampler
from pneumosearch.space import Choice, Range, Space

SPACE = Space({"zoom": Range(low=0.0, high=0.5), "batch_size": Choice(choices=(16, 32, 64))})


def earlier(best: float, *, name: str = "zoom") -> EarlierStudy:
    """Thirty-one trials over the range; the nearer to `best`, the better."""
    values = [i / 60 for i in range(31)]
    trials = [EarlierTrial(values={name: value}, score=1 - abs(value - best) / 0.5) for value in values]
    return EarlierStudy(source="earlier", trials=tuple(trials))


def proposals(*studies: EarlierStudy, n: int = 40, sampler: str = "random", seed: int = 0) -> list[dict[str, Any]]:
    """What a search proposes whose accuracy is best at zoom 0.05."""
    study = optuna.create_study(direction="maximize")
    for number in range(n):
        trial_seed = 1000 * seed + number
        base = make_sampler(sampler, SPACE, study_seed=seed, trial_seed=trial_seed)
        study.sampler = InformedSampler(base, SPACE, studies, trial_seed) if studies else base
        trial = study.ask()
        study.tell(trial, 1 - abs(SPACE.suggest(trial).zoom - 0.05))
    return [trial.params for trial in study.trials]


def near(params: list[dict[str, Any]], zoom: float) -> float:
    return len([each for each in params if abs(each["zoom"] - zoom) < 0.1]) / len(params)


def test_proposals_lie_where_an_earlier_study_was_good() -> None:
    alone = [each for seed in range(5) for each in proposals(n=12, seed=seed)]
    informed = [each for seed in range(5) for each in proposals(earlier(0.05), n=12, seed=seed)]
    assert near(alone, 0.05) < 0.45
    assert near(informed, 0.05) > 0.6


def test_study_that_misleads_is_followed_at_first_and_then_no_more() -> None:
    misled = [proposals(earlier(0.45), n=60, seed=seed) for seed in range(5)]
    alone = [proposals(n=60, seed=seed) for seed in range(5)]
    first = near([each for params in misled for each in params[:4]], 0.45)
    late, usual = (near([each for params in some for each in params[30:]], 0.45) for some in (misled, alone))
    assert first > 0.6
    assert late == pytest.approx(usual, abs=0.1)


@pytest.mark.parametrize("sampler", ["tpe", "random", "prior", "qmc"])
def test_informed_proposals_repeat_differ_by_seed_and_stay_in_the_space(sampler: str) -> None:
    first = proposals(earlier(0.05), n=15, sampler=sampler)
    assert first == proposals(earlier(0.05), n=15, sampler=sampler)
    assert first != proposals(earlier(0.05), n=15, sampler=sampler, seed=1)
    assert all(0 <= params["zoom"] <= 0.5 and params["batch_size"] in (16, 32, 64) for params in first)


def test_fields_that_the_earlier_study_did_not_search_are_drawn_as_without_it() -> None:
    sizes = [each["batch_size"] for seed in range(10) for each in proposals(earlier(0.05), n=9, seed=seed)]
    assert all(20 <= sizes.count(size) <= 40 for size in (16, 32, 64))


def test_several_studies_each_propose() -> None:
    params = [each for seed in range(5) for each in proposals(earlier(0.05), earlier(0.3), n=8, seed=seed)]
    assert near(params, 0.05) > 0.3
    assert near(params, 0.3) > 0.3
