import itertools

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pneumosearch.config import TrialConfig
from pneumosearch.errors import ConfigError
from pneumosearch.space import DEFAULT_DIMENSIONS, DEFAULT_OTHERS, Choice, Dimension, Range, Space


def test_default_space_contains_the_baseline() -> None:
    space = Space()
    assert space.suggest(optuna.trial.FixedTrial(space.baseline())) == TrialConfig()


def test_every_end_of_every_range_is_a_configuration() -> None:
    space = Space()
    for name, dimension in DEFAULT_DIMENSIONS.items():
        for value in dimension.corners():
            config = space.suggest(optuna.trial.FixedTrial({**space.baseline(), name: value}))
            assert getattr(config, name) == value


def test_space_covers_what_the_design_card_names() -> None:
    names = set(DEFAULT_DIMENSIONS)
    assert {"width", "dropout_conv", "zoom", "lr_reduce_factor", "lr_reduce_mode", "batch_size", "epochs"} <= names
    assert {f"filters_{k}" for k in range(1, 6)} | {f"dropout_{k}" for k in range(1, 4)} <= names


@given(st.integers(0, 2**31 - 1))
def test_sampled_configurations_stay_inside(seed: int) -> None:
    space = Space()
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    config = space.suggest(study.ask())
    assert all(dimension.contains(getattr(config, name)) for name, dimension in DEFAULT_DIMENSIONS.items())


def test_fixed_fields_move_the_centre_and_are_kept() -> None:
    space = Space({"zoom": Range(low=0.0, high=0.5)}, {"image_size": 64})
    config = space.suggest(optuna.trial.FixedTrial({"zoom": 0.1}))
    assert config.changes() == {"image_size": 64, "zoom": 0.1}
    assert space.baseline() == {"zoom": 0.3}


def test_all_but_the_baseline_have_what_is_set_for_the_others() -> None:
    space = Space({"zoom": Range(low=0.0, high=0.5)}, {"image_size": 64}, others=DEFAULT_OTHERS)
    baseline = TrialConfig.checked({"image_size": 64}, "test")
    changed = {"image_size": 64, "zoom": 0.1, "batch_norm_statistics": "precise"}
    for zoom, changes in ((0.3, baseline.changes()), (0.1, changed)):
        chosen = space.suggest(optuna.trial.FixedTrial({"zoom": zoom}))
        assert chosen.changes() == space.config({"zoom": zoom}).changes() == changes
        assert space.chosen(chosen) == {"zoom": zoom}
    assert space.baseline() == {"zoom": 0.3}
    assert space.describe()["others"] == {"batch_norm_statistics": "precise"}


def test_baselines_values_are_the_control_in_every_trial_but_the_first() -> None:
    space = Space({"zoom": Range(low=0.0, high=0.5)}, {"image_size": 64}, others=DEFAULT_OTHERS)
    first, later = (space.suggest(optuna.trial.FixedTrial({"zoom": 0.3}, number)) for number in (0, 5))
    assert (first, later) == (space.centre, space.control)
    assert later.changes() == {"image_size": 64, "batch_norm_statistics": "precise"}
    assert Space().control is None


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ({"zoom": 0.1}, "'zoom' is both set for the others and searched"),
        ({"image_size": 32}, "'image_size' is both set for the others and fixed"),
        ({"batch_norm_statistics": "none"}, "test: others: .*batch_norm_statistics"),
        ({"batch_norm": "precise"}, "test: others: unknown key 'batch_norm'"),
        ({"lr_schedule": "cosine"}, "space.warmup_epochs: when: 'lr_schedule' is set for the others"),
    ],
)
def test_what_cannot_be_set_for_the_others_is_refused(others: dict[str, object], message: str) -> None:
    dimensions: dict[str, Dimension] = {
        "zoom": Range(low=0.0, high=0.5),
        "warmup_epochs": Range(low=0.0, high=2.0, step=0.5, when={"lr_schedule": ("cosine",)}),
    }
    with pytest.raises(ConfigError, match=message):
        Space(dimensions, {"image_size": 64}, "test", others)


@pytest.mark.parametrize(
    ("dimensions", "fixed", "message"),
    [
        ({"zooom": Range(low=0.0, high=0.5)}, {}, "space.zooom: unknown key"),
        ({"zoom": Range(low=0.4, high=0.5)}, {}, "does not contain the baseline's 0.3"),
        ({"zoom": Range(low=0.0, high=0.5, step=0.2)}, {}, "does not contain the baseline's 0.3"),
        ({"batch_size": Choice(choices=(16, 64))}, {}, "does not contain the baseline's 32"),
        ({"zoom": Range(low=0.0, high=1.5)}, {}, "less than 1"),
        ({"zoom": Range(low=0.0, high=0.5)}, {"zoom": 0.3}, "both fixed and searched"),
        ({}, {"zoom": 3.0}, "less than 1"),
        ({}, {"zom": 0.3}, "unknown key 'zom'"),
    ],
)
def test_space_without_the_baseline_is_refused(
    dimensions: dict[str, Choice | Range], fixed: dict[str, float], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        Space(dimensions, fixed)


@given(st.integers(-50, 50), st.integers(0, 20), st.integers(1, 7), st.integers(0, 50))
def test_range_contains_exactly_its_grid(low: int, n: int, step: int, offset: int) -> None:
    whole = Range(low=low, high=low + n * step, step=step)
    grid = [low + k * step for k in range(n + 1)]
    value = low + offset
    assert whole.contains(value) == (value in grid)
    assert not whole.contains(value + 0.5)


def test_corners_of_the_default_space_are_many_and_distinct() -> None:
    corners = list(itertools.chain(*(dimension.corners() for dimension in DEFAULT_DIMENSIONS.values())))
    assert len(corners) >= 2 * len(DEFAULT_DIMENSIONS)


CONDITIONAL: dict[str, Dimension] = {
    "lr_schedule": Choice(choices=("plateau", "cosine")),
    "warmup_epochs": Range(low=0.0, high=2.0, step=0.5, when={"lr_schedule": ("cosine",)}),
}


def test_field_is_chosen_only_where_its_condition_holds() -> None:
    space = Space(CONDITIONAL)
    for schedule, expected in (("plateau", 0.0), ("cosine", 1.5)):
        trial = optuna.trial.FixedTrial({"lr_schedule": schedule, "warmup_epochs": 1.5})
        assert space.suggest(trial).warmup_epochs == expected
        assert ("warmup_epochs" in trial.params) == (schedule == "cosine")
    assert space.baseline() == {"lr_schedule": "plateau"}
    assert space.conditional
    assert not Space().conditional


@pytest.mark.parametrize(
    ("dimensions", "message"),
    [
        (dict(reversed(CONDITIONAL.items())), "'lr_schedule' must come before 'warmup_epochs'"),
        ({"zoom": Range(low=0.0, high=0.5, step=0.05, when={"lr_schedul": ("cosine",)})}, "unknown key 'lr_schedul'"),
        ({"zoom": Range(low=0.0, high=0.5, step=0.05, when={"lr_schedule": ("cosin",)})}, "lr_schedule: input should"),
    ],
)
def test_condition_that_cannot_be_read_is_refused(dimensions: dict[str, Dimension], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Space(dimensions)
