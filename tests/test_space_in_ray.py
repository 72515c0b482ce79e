"""The search space as Ray Tune has it, with a stand-in where Ray is not installed."""

import importlib.util
import sys
from types import ModuleType
from typing import Any

import pytest

from pneumosearch.config import TrialConfig
from pneumosearch.errors import ConfigError
from pneumosearch.space import Choice, Range, Space

SPACE = Space(
    {
        "filters_1": Choice(choices=(8, 16)),
        "lr_schedule": Choice(choices=("plateau", "cosine")),
        "warmup_epochs": Range(low=0.0, high=2.0, step=0.5, when={"lr_schedule": "cosine"}),
        "zoom": Range(low=0.05, high=0.5, step=0.05),
        "dropout_conv": Range(low=0.01, high=0.4, step=0.19),
        "dropout_1": Range(low=0.0, high=0.8),
        "learning_rate": Range(low=1e-4, high=1e-2, log=True),
        "units_1": Range(low=8, high=1024, log=True),
        "units_2": Range(low=64, high=150, step=64),
        "epochs": Range(low=5, high=10),
    }
)

WANTED = {
    "filters_1": ("choice", [8, 16]),
    "lr_schedule": ("choice", ["plateau", "cosine"]),
    "warmup_epochs": ("quniform", 0.0, 2.0, 0.5),
    "zoom": ("quniform", 0.05, 0.5, 0.05),
    "dropout_conv": ("choice", [0.01, 0.2, 0.39]),
    "dropout_1": ("uniform", 0.0, 0.8),
    "learning_rate": ("loguniform", 1e-4, 1e-2),
    "units_1": ("lograndint", 8, 1025),
    "units_2": ("qrandint", 64, 128, 64),
    "epochs": ("randint", 5, 11),
}


class RecordingTune(ModuleType):
    """Stands for `ray.tune`: each call becomes a tuple of its name and arguments."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return lambda *arguments: (name, *arguments)


def test_space_becomes_the_same_ranges_in_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = ModuleType("ray")
    ray.tune = RecordingTune("ray.tune")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setitem(sys.modules, "ray.tune", ray.tune)
    assert SPACE.to_ray() == WANTED


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")
def test_configurations_that_ray_draws_are_in_the_space() -> None:
    domains = SPACE.to_ray()
    for _ in range(50):
        config = SPACE.config({name: domain.sample() for name, domain in domains.items()})
        assert all(SPACE.dimensions[name].contains(value) for name, value in SPACE.chosen(config).items())


def test_space_without_ray_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"to_ray needs Ray Tune: pip install 'pneumosearch\[ray\]'"):
        SPACE.to_ray()


def test_values_of_another_library_become_a_configuration() -> None:
    assert SPACE.config({}) == TrialConfig()
    assert SPACE.config({"zoom": 0.15000000000000002}).zoom == 0.15
    assert SPACE.config({"lr_schedule": "plateau", "warmup_epochs": 1.5}).warmup_epochs == 0.0
    assert SPACE.config({"lr_schedule": "cosine", "warmup_epochs": 1.5}).warmup_epochs == 1.5


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"zoom": 0.6}, "values: zoom: 0.6 is not in its range"),
        ({"filters_1": 9}, "values: filters_1: 9 is not in its range"),
        ({"epochs": 5.5}, "values: epochs: 5.5 is not in its range"),
        ({"epochs": "many"}, "values: epochs: 'many' is not in its range"),
        ({"epoch": 5}, "values: 'epoch' is not searched"),
    ],
)
def test_values_outside_the_space_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SPACE.config(values)
