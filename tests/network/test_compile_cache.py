"""The contract of every hyperparameter with the compiled training step."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pneumosearch.config import RunSpec, TrialConfig, untraced_fields
from pneumosearch.data.protocols import DataSource
from pneumosearch.network.compile_cache import step_key
from pneumosearch.training.loop import train
from tests.conftest import TINY

FIELDS = tuple(TrialConfig.model_fields)
UNTRACED = tuple(name for name in FIELDS if name in untraced_fields())

#: Four blocks are the fewest with a dropout.
SMALL = {**TINY, "n_blocks": 4, "epochs": 5}
#: A field acts in one of these: most within two epochs; each schedule has fields of its own; with a large rate the loss
#: also rises, on some processors only between the first epoch and the third.
SETTINGS: tuple[dict[str, object], ...] = (
    {"epochs": 2},
    {},
    {"lr_schedule": "cosine"},
    {"learning_rate": 0.05},
    {"learning_rate": 0.05, "epochs": 3},
)


def a_run(**changes: object) -> RunSpec:
    return RunSpec(config=TrialConfig.checked({**SMALL, **changes}, "test"))


def another_value(name: str) -> object:
    """A value of the field, near the one that `a_run` has."""
    kind, value = TrialConfig.model_json_schema()["properties"][name], getattr(a_run().config, name)
    if kind["type"] == "boolean":
        return not value
    if "enum" in kind:
        return next(choice for choice in kind["enum"] if choice != value)
    upper = kind.get("maximum", kind.get("exclusiveMaximum"))
    if kind["type"] == "integer":
        return value + 1 if value < upper else value - 1
    if value:
        return value / 2 if value / 2 >= kind.get("minimum", 0.0) else 2 * value
    return upper / 10


@pytest.mark.parametrize("name", FIELDS)
def test_field_is_part_of_the_key_of_the_step_unless_it_is_untraced(name: str) -> None:
    same = step_key(a_run(**{name: another_value(name)})) == step_key(a_run())
    assert same == (name in untraced_fields())


Outcome = tuple[Any, list[dict[str, float]], list[bytes]]


@pytest.fixture(scope="module")
def outcome(phantoms: Path, cache_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[RunSpec], Outcome]:
    """Return the network of a training, its history and its kept weights; each run trains once."""
    from pneumosearch.data.manifest import read_manifest

    source, known = DataSource(read_manifest(phantoms), cache_dir), dict[str, Outcome]()

    def of(run: RunSpec) -> Outcome:
        key = run.model_dump_json()
        if key not in known:
            dataset = source.load(run.protocol, run.config.image_size, run.config.equalization)
            result = train(run, dataset, tmp_path_factory.mktemp("training"), lambda history: None)
            weights = [np.asarray(weight).tobytes() for weight in result.model.get_weights()]
            known[key] = result.model, [epoch.numbers() for epoch in result.history], weights
        return known[key]

    return of


@pytest.mark.slow
@pytest.mark.parametrize("name", UNTRACED)
def test_untraced_field_acts_in_the_same_step(name: str, outcome: Callable[[RunSpec], Outcome]) -> None:
    assert any(_acts(name, a_run(**setting), outcome) for setting in SETTINGS)


def _acts(name: str, base: RunSpec, outcome: Callable[[RunSpec], Outcome]) -> bool:
    changed = RunSpec(config=base.config.model_copy(update={name: another_value(name)}))
    (model, *before), (same_model, *after) = outcome(base), outcome(changed)
    assert same_model is model
    return before != after
