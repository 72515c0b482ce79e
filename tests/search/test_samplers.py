import json
import math
import pickle
import sys
from collections.abc import Callable
from importlib.util import find_spec
from types import ModuleType, SimpleNamespace
from typing import Any

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.samplers import BaseSampler

from pneumosearch.errors import ConfigError, StoreError
from pneumosearch.search.samplers import LegibleCmaEsSampler, PriorSampler, derived_seed, make_sampler, study_sampler
from pneumosearch.space import Choice, Range, Space
from pneumosearch.studyfile import checked_spec

SPACE = Space({"zoom": Range(low=0.0, high=0.5), "batch_size": Choice(choices=(16, 32, 64))})


def proposals(name: str, n: int, space: Space = SPACE, seed: int = 0) -> list[dict[str, Any]]:
    """What a search of `n` trials proposes; accuracy is best at zoom 0.1."""
    study = optuna.create_study(direction="maximize")
    for number in range(n):
        study.sampler = make_sampler(name, space, study_seed=seed, trial_seed=1000 * seed + number)
        trial = study.ask()
        study.tell(trial, 1 - abs(space.suggest(trial).zoom - 0.1))
    return [trial.params for trial in study.trials]


@pytest.mark.parametrize("name", ["tpe", "random", "prior", "qmc", "optuna.samplers:RandomSampler"])
def test_sampler_stays_in_the_space_repeats_and_differs_by_seed(name: str) -> None:
    first = proposals(name, 15)
    assert first == proposals(name, 15)
    assert first != proposals(name, 15, seed=1)
    assert len({params["zoom"] for params in first}) >= 10
    assert all(0 <= params["zoom"] <= 0.5 and params["batch_size"] in (16, 32, 64) for params in first)


def test_tpe_looks_at_each_trial_once_and_proposes_as_optuna_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ranges = {
        "zoom": {"low": 0.0, "high": 0.5},
        "batch_size": {"choices": [16, 32, 64]},
        "epochs": {"low": 5, "high": 10},
    }
    spec = checked_spec({"seed": 3, "space": ranges}, "test")
    space, plain, comparisons = spec.search_space(), FloatDistribution.__eq__, 0

    def counted(one: FloatDistribution, other: object) -> bool:
        nonlocal comparisons
        comparisons += 1
        return plain(one, other)

    def searched(sampler_of: Callable[[int], BaseSampler]) -> tuple[list[dict[str, Any]], int]:
        nonlocal comparisons
        study, comparisons = optuna.create_study(direction="maximize"), 0
        for number in range(30):
            study.sampler = sampler_of(number)
            trial = study.ask()
            study.tell(trial, 1 - abs(space.suggest(trial).zoom - 0.1))
        return [trial.params for trial in study.trials], comparisons

    monkeypatch.setattr(FloatDistribution, "__eq__", counted)
    of_study = study_sampler(spec, space)
    proposed, few = searched(lambda _: of_study)
    plainly, many = searched(lambda n: make_sampler("tpe", space, study_seed=3, trial_seed=derived_seed(3, n)))
    assert proposed == plainly
    assert few < many / 4


@pytest.mark.parametrize(("name", "package"), [("cmaes", "cmaes"), ("gp", "torch")])
def test_sampler_that_lacks_its_package_says_which(name: str, package: str) -> None:
    if find_spec(package):
        assert len(proposals(name, 3)) == 3
    else:
        with pytest.raises(ConfigError, match=f"sampler '{name}' needs the package {package}, which is not installed"):
            proposals(name, 3)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no.such.module:Sampler", "cannot be imported"),
        ("optuna.samplers:NoSuchSampler", "cannot be imported"),
        ("optuna.pruners:MedianPruner", "is not a class of Optuna samplers"),
        ("optuna.samplers:GridSampler", "cannot be made with a seed alone"),
        ("tree", "there are tpe, random"),
    ],
)
def test_unusable_sampler_is_told(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_sampler(name, SPACE, study_seed=0, trial_seed=0)


def _prior_draws(n: int, study: optuna.Study | None = None) -> list[float]:
    study = study or optuna.create_study(direction="maximize")
    zoom = SPACE.dimensions["zoom"]
    draws = []
    for seed in range(n):
        study.sampler = PriorSampler(SPACE.centre.model_dump(), seed)
        trial = study.ask()
        draws.append(float(zoom.suggest(trial, "zoom")))
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
    return draws


def test_prior_looks_around_the_baseline_first_and_at_the_whole_space_too() -> None:
    draws = _prior_draws(600)
    near = sum(abs(zoom - 0.3) < 0.125 for zoom in draws) / len(draws)
    assert 0.55 < near < 0.75  # two thirds within a deviation of the baseline's 0.3 with 0.7, one third with 0.5
    assert min(draws) < 0.02
    assert max(draws) > 0.48


def test_prior_moves_to_the_best_trial_where_the_good_ones_are_far_from_the_baseline() -> None:
    study = optuna.create_study(direction="maximize")
    distribution = optuna.distributions.FloatDistribution(0.0, 0.5)
    for zoom in (0.3, 0.02, 0.03, 0.04, 0.05, 0.4, 0.35, 0.45, 0.3):
        study.add_trial(
            optuna.trial.create_trial(params={"zoom": zoom}, distributions={"zoom": distribution}, value=1 - zoom)
        )
    draws = _prior_draws(300, study)
    assert sum(zoom < 0.125 for zoom in draws) / len(draws) > 0.5
    assert sum(math.isclose(zoom, 0.02) for zoom in draws) > 30


def test_grids_and_logarithms_are_kept() -> None:
    space = Space(
        {
            "learning_rate": Range(low=1e-4, high=1e-2, log=True),
            "dropout_1": Range(low=0.0, high=0.8, step=0.1),
            "epochs": Range(low=5, high=10),
            "zoom": Range(low=0.0, high=0.5),
        }
    )
    for params in proposals("prior", 60, space):
        assert 1e-4 <= params["learning_rate"] <= 1e-2
        assert space.dimensions["dropout_1"].contains(params["dropout_1"])
        assert params["epochs"] in range(5, 11)


HUB = "optunahub:samplers/auto_sampler:RandomSampler"


def test_sampler_of_optunahub_is_fetched_by_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def load_module(package: str) -> ModuleType:
        asked.append(package)
        return optuna.samplers

    monkeypatch.setitem(sys.modules, "optunahub", SimpleNamespace(load_module=load_module))
    sampler = make_sampler(HUB, SPACE, study_seed=1, trial_seed=2)
    assert isinstance(sampler, optuna.samplers.RandomSampler)
    assert asked == ["samplers/auto_sampler"]
    assert checked_spec({"sampler": HUB}, "file.toml").sampler == HUB


def test_optunahub_that_cannot_be_asked_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_module(package: str) -> ModuleType:
        raise OSError("no network")

    monkeypatch.setitem(sys.modules, "optunahub", SimpleNamespace(load_module=load_module))
    with pytest.raises(ConfigError, match=r"cannot be fetched from OptunaHub \(no network\)"):
        make_sampler(HUB, SPACE, study_seed=1, trial_seed=2)
    monkeypatch.setitem(sys.modules, "optunahub", None)
    with pytest.raises(ConfigError, match="needs the package optunahub"):
        make_sampler(HUB, SPACE, study_seed=1, trial_seed=2)


def proposals_of(sampler: type[optuna.samplers.CmaEsSampler], n: int) -> tuple[list[dict[str, Any]], optuna.Study]:
    """What it proposes trial by trial, made anew for each, as a study does."""
    study = optuna.create_study()
    for number in range(n):
        study.sampler = sampler(seed=number, warn_independent_sampling=False)
        trial = study.ask()
        x, y = trial.suggest_float("x", 0.0, 1.0), trial.suggest_int("y", 1, 9)
        study.tell(trial, (x - 0.3) ** 2 + y)
    return [trial.params for trial in study.trials], study


def test_cma_es_proposes_as_optunas_own_and_keeps_no_pickle() -> None:
    ours, study = proposals_of(LegibleCmaEsSampler, 40)
    assert ours == proposals_of(optuna.samplers.CmaEsSampler, 40)[0]
    kept = {key: value for trial in study.trials for key, value in trial.system_attrs.items() if "optimizer" in key}
    assert kept
    assert all(":json:" in key for key in kept)
    last = max(study.trials, key=lambda trial: (any("optimizer" in key for key in trial.system_attrs), trial.number))
    parts = sorted((int(key.rpartition(":")[2]), value) for key, value in last.system_attrs.items() if ":json:" in key)
    assert json.loads("".join(value for _, value in parts))["numbers"]["_g"] > 0


class Pwned:
    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("a pickle from the store was run",))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("cma:optimizer:0", pickle.dumps(Pwned()).hex()),
        ("cma:optimizer:json:0", pickle.dumps(Pwned()).hex()),
        ("cma:optimizer:json:0", '{"arrays": {}, "numbers": {"_n_dim": 2}}'),
        ("cma:optimizer:json:0", '{"arrays": {}, "numbers": {"_n_dim": "x"}}'),
        ("cma:optimizer:json:0", "[]"),
    ],
)
def test_hostile_state_of_a_cma_es_is_told_and_never_run(key: str, value: str) -> None:
    _, study = proposals_of(LegibleCmaEsSampler, 5)
    hostile = optuna.create_study()
    hostile.add_trials(
        [
            optuna.trial.create_trial(
                value=1.0, params=trial.params, distributions=trial.distributions, system_attrs={key: value}
            )
            for trial in study.trials[:5]
        ]
    )
    hostile.sampler = LegibleCmaEsSampler(seed=1, warn_independent_sampling=False)
    if ":json:" not in key:
        hostile.ask(study.trials[0].distributions)  # as if it were not there
        return
    with pytest.raises(StoreError, match="CMA-ES"):
        hostile.ask(study.trials[0].distributions)
