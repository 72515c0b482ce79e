import pytest
from pydantic import ValidationError

from pneumosearch.config import Fold, RunSpec, TrialConfig
from pneumosearch.errors import ConfigError, first_difference


def test_default_is_the_published_network() -> None:
    config = TrialConfig()
    assert config.block_filters == (16, 32, 64, 128, 256)
    assert config.dense_layers == ((512, 0.7), (128, 0.5), (64, 0.3))
    assert (config.image_size, config.batch_size, config.epochs, config.dropout_conv) == (150, 32, 10, 0.2)
    assert (config.zoom, config.vertical_flip, config.learning_rate) == (0.3, True, 0.001)
    assert (config.lr_reduce_factor, config.lr_reduce_patience, config.lr_reduce_mode) == (0.3, 2, "max")
    assert not config.early_stopping
    assert RunSpec().seed == 232


def test_changes_name_only_what_differs() -> None:
    assert TrialConfig().changes() == {}
    assert TrialConfig(zoom=0.1, epochs=10).changes() == {"zoom": 0.1}


def test_grid_of_a_search_meets_the_baseline_in_spite_of_rounding() -> None:
    assert 0.1 + 2 * 0.1 != 0.3
    assert TrialConfig(lr_reduce_factor=0.1 + 2 * 0.1).changes() == {}
    assert TrialConfig(learning_rate=1.23456789e-7).learning_rate == 1.23456789e-7


def test_width_scales_every_block_and_leaves_at_least_one_filter() -> None:
    assert TrialConfig(width=0.5).block_filters == (8, 16, 32, 64, 128)
    assert TrialConfig(width=0.01).block_filters == (1, 1, 1, 1, 3)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"zom": 0.1}, "here: unknown key 'zom'"),
        ({"zoom": 1.0}, "here: zoom: input should be less than 1, got 1.0"),
        ({"image_size": 16}, "here: image_size: input should be greater than or equal to 32, got 16"),
        ({"lr_reduce_mode": "auto"}, "here: lr_reduce_mode: input should be 'max' or 'min', got 'auto'"),
        ({"batch_size": "many"}, "here: batch_size"),
        ({"vertical_flip": "yes"}, "here: vertical_flip"),
    ],
)
def test_bad_value_is_named_in_one_line(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        TrialConfig.checked(values, "here")
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_original_protocol_stays_float32() -> None:
    with pytest.raises(ValidationError, match="computes in float32, as published"):
        RunSpec(protocol="original", precision="bfloat16")


def test_fold_is_one_of_its_number_and_a_run_of_an_earlier_version_has_none() -> None:
    run = RunSpec(fold=1, n_folds=5)
    assert run.judging_fold == Fold(1, 5)
    earlier = {name: value for name, value in RunSpec().model_dump().items() if name not in ("fold", "n_folds")}
    assert RunSpec.model_validate(earlier) == RunSpec()
    assert RunSpec().judging_fold is None
    for values, message in (
        ({"fold": 1}, "one needs the other"),
        ({"fold": 5, "n_folds": 5}, "fold 5: there are 5, counted from 0"),
        ({"fold": 1, "n_folds": 5, "protocol": "brightness"}, "protocol brightness has a split of its own"),
    ):
        with pytest.raises(ValidationError, match=message):
            RunSpec.model_validate(values)


@pytest.mark.parametrize(
    ("before", "now", "told"),
    [
        (1, 2, "k (1, now 2)"),
        ({"a": 1, "b": 2}, {"a": 1, "b": 3}, "k.b (2, now 3)"),
        ({"a": {"x": 1}}, {"a": {}}, "k.a.x (1, now absent)"),
        ({}, {"a": None}, "k.a (absent, now None)"),  # a setting that an older version did not write down
    ],
)
def test_setting_that_differs_is_named(before: object, now: object, told: str) -> None:
    assert first_difference("k", before, now) == told


def test_run_on_folds_has_a_training_for_each_on_a_seed_of_its_own() -> None:
    run = RunSpec(protocol="folds", n_folds=4, seed=2**32 - 1)
    assert [training.judging_fold for training in run.trainings] == [(n, 4) for n in range(4)]
    assert run.trainings[0].seed == run.seed
    assert len({training.seed for training in run.trainings}) == 4
    assert [RunSpec.model_validate(training.model_dump()).position for training in run.trainings] == [0, 1, 2, 3]
    assert run.trainings[2].trainings == (run.trainings[2],)
    replicate = RunSpec(fold=2, n_folds=5)
    assert (replicate.trainings, replicate.position) == ((replicate,), 0)
    with pytest.raises(ValidationError, match="n_folds: the protocol folds needs it"):
        RunSpec(protocol="folds")
