import json
import tomllib
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pneumosearch.cli.engines import engine_changes
from pneumosearch.errors import ConfigError
from pneumosearch.studyfile import StudySpec, checked_spec, json_schema, read_study_file
from tests.conftest import ROOT


@pytest.mark.parametrize("path", sorted((ROOT / "studies").glob("*.toml")), ids=lambda path: path.stem)
def test_every_shipped_file_is_valid_and_opens_with_cost_and_command(path: Path) -> None:
    assert read_study_file(path).name == path.stem
    opening = path.read_text().split("\n\n")[0]
    assert "# Cost:" in opening
    assert "# Command:" in opening


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sed = 1", "unknown key 'sed'"),
        ('seed = "x"', "seed: input should be a valid integer"),
        ("[space]\nzoom = { low = 0.4, high = 0.5 }", "space.zoom: the range does not contain the baseline's 0.3"),
        ("[space]\nzooom = { low = 0.4, high = 0.5 }", "space.zooom: unknown key"),
        ("[space]\nzoom = { lo = 0.4, high = 0.5 }", "space.zoom: needs choices"),
        ('[space]\nzoom = { low = "0.1", high = 0.5 }', "space.zoom: needs choices"),
        ("[space]\nzoom = 3", "space.zoom: needs choices"),
        ("[space]\nzoom = { low = 0.5, high = 0.1 }", r"space.zoom: high must be at least low"),
        ('protocol = "original"', "must not use the test folder"),
        ('name = "../x"', "name"),
        ('prune_by = "loss"', "prune_by: 'loss' and the metric 'accuracy' improve in opposite directions"),
        ("floor = { auc = 98 }", "floor.auc: 98: wanted a fraction from 0 to 1"),
        ("floor = { loss = -1 }", "floor.loss: -1: wanted 0 or more"),
        ("floor = { acuracy = 0.9 }", "floor.acuracy"),
        ('floor = { auc = "0.9" }', "floor.auc: input should be a valid number"),
        ("floor = { auc = nan }", "floor.auc: input should be a finite number"),
        ("floor = {}", "floor: dictionary should have at least 1 item"),
        ("x = [", "not valid TOML"),
    ],
)
def test_mistake_is_told_in_one_line_with_file_and_key(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as error:
        read_study_file(path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def test_missing_and_binary_files_are_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such study file"):
        read_study_file(tmp_path / "none.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_study_file(tmp_path / "binary.toml")


def test_fixing_a_field_takes_it_out_of_the_default_space() -> None:
    spec = checked_spec({"fixed": {"zoom": 0.1}}, "test")
    assert "zoom" not in spec.space
    assert spec.search_space().centre.zoom == 0.1


@pytest.mark.parametrize(
    ("values", "others"),
    [
        ({}, {"batch_norm_statistics": "precise"}),
        ({"fixed": {"zoom": 0.1}}, {"batch_norm_statistics": "precise"}),
        ({"fixed": {"batch_norm_statistics": "precise"}}, {}),
        ({"others": {"zoom": 0.1}}, {"zoom": 0.1}),
        ({"others": {}}, {}),
        ({"space": {"zoom": {"low": 0.0, "high": 0.5}}}, {}),
    ],
)
def test_others_are_set_by_default_in_the_default_space_alone(
    values: dict[str, object], others: dict[str, object]
) -> None:
    spec = checked_spec(values, "test")
    assert spec.others == others
    assert checked_spec(spec.model_dump(mode="json"), "again") == spec
    assert not {*spec.others, *spec.fixed} & spec.space.keys()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"others": {}}, r"file: control: needs \[others\]"),
        ({"engine": "keras-tuner"}, "file: control: needs engine = 'optuna', not 'keras-tuner'"),
    ],
)
def test_control_needs_what_tells_it_from_the_baseline(values: dict[str, object], message: str) -> None:
    assert checked_spec({"control": True}, "file").control
    with pytest.raises(ConfigError, match=message):
        checked_spec({"control": True, **values}, "file")


_SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(max_size=8)
_VALUES = st.recursive(_SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner))


@given(st.dictionaries(st.sampled_from([*StudySpec.model_fields, "other"]), _VALUES))
def test_any_values_give_a_study_or_one_line(values: dict[str, object]) -> None:
    try:
        spec = checked_spec(values, "file")
    except ConfigError as error:
        assert str(error).startswith("file: ")
    else:
        assert isinstance(spec, StudySpec)


def test_a_search_by_loss_prunes_by_loss_and_any_other_by_the_area_under_the_curve() -> None:
    assert checked_spec({"metric": "loss"}, "test").prune_by == "loss"
    assert checked_spec({"metric": "balanced_accuracy"}, "test").prune_by == "precise_auc"
    assert checked_spec({"pruner": "none"}, "test").prune_by == "auc"  # and pays for no judgement that nobody sees
    assert checked_spec({"engine": "keras-tuner"}, "test").prune_by == "auc"


def test_a_pruner_may_see_precise_batch_normalisation_and_a_search_may_not() -> None:
    assert checked_spec({"prune_by": "precise_auc"}, "test").precise
    assert not checked_spec({"prune_by": "auc"}, "test").precise
    with pytest.raises(ConfigError, match="file: metric: "):
        checked_spec({"metric": "precise_auc"}, "file")


def test_a_floor_has_what_it_needs_measured() -> None:
    plain = {"metric": "accuracy", "prune_by": "auc"}
    spec = checked_spec({**plain, "floor": {"auc": 0.98, "loss": 1, "specificity": 0.9}}, "test")
    assert spec.floor == {"auc": 0.98, "loss": 1.0, "specificity": 0.9}
    assert not spec.stress
    assert not spec.precise
    assert checked_spec({**plain, "floor": {"stress_worst": 0.7}}, "test").stress
    assert checked_spec({**plain, "floor": {"precise_auc": 0.9}}, "test").precise
    assert checked_spec({**plain, "floor": {"worst_family": 0.6}}, "test").judged_by_battery
    assert checked_spec({}, "test").identity()["floor"] is None


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"tuner": "grid"}, "file: tuner: needs engine = 'keras-tuner'"),
        ({"engine": "keras-tuner", "sampler": "random"}, "file: sampler: 'random' is for engine = 'optuna'"),
        ({"engine": "keras-tuner", "pruner": "median"}, "file: pruner: 'median' is for engine = 'optuna'"),
        ({"engine": "keras-tuner", "tuner": "tpe"}, "file: tuner: "),
    ],
)
def test_settings_of_the_other_engine_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        checked_spec(values, "file")


def test_each_engine_has_its_own_defaults() -> None:
    optuna, kerastuner = checked_spec({}, "test"), checked_spec({"engine": "keras-tuner"}, "test")
    assert (optuna.tuner, optuna.pruner) == (None, "promote")
    assert (kerastuner.tuner, kerastuner.pruner) == ("random", "none")


def test_option_of_an_engine_replaces_the_settings_of_the_files_engine() -> None:
    spec = checked_spec({"sampler": "random", "rungs": [2], "reduction_factor": 3}, "test")
    changes = engine_changes(spec, "keras-tuner", "grid")
    changed = checked_spec({**spec.model_dump(mode="json"), **changes}, "test")
    assert (changed.engine, changed.tuner, changed.sampler, changed.pruner) == ("keras-tuner", "grid", "tpe", "none")
    assert engine_changes(spec, "optuna", None) == {}
    assert engine_changes(changed, None, "random") == {"tuner": "random"}
    back = engine_changes(changed, "optuna", None)
    assert (back["tuner"], back["pruner"]) == (None, "promote")


def test_shipped_schema_is_that_of_this_version_and_accepts_the_shipped_studies() -> None:
    """Written by: python -m pneumosearch.studyfile > studies/study.schema.json"""
    shipped = json.loads((ROOT / "studies" / "study.schema.json").read_text())
    assert shipped == json.loads(json.dumps(json_schema()))
    validator = jsonschema.Draft202012Validator(shipped)
    for path in (ROOT / "studies").glob("*.toml"):
        validator.validate(tomllib.loads(path.read_text()))
    for wrong in ({"sed": 1}, {"space": {"zooom": {"low": 0.1, "high": 0.5}}}, {"fixed": {"zoom": 3}}):
        assert not validator.is_valid(wrong)


def test_finalists_are_off_by_default_and_checked() -> None:
    assert StudySpec().finalists is None
    spec = checked_spec({"finalists": {"top": 4}}, "test")
    assert spec.finalists is not None
    assert (spec.finalists.top, spec.finalists.repeats) == (4, 3)
    assert spec.identity()["finalists"] == {"top": 4, "repeats": 3}
    for values, message in (({"top": 0}, "finalists.top: .* got 0"), ({"best": 3}, "unknown key 'finalists.best'")):
        with pytest.raises(ConfigError, match=message):
            checked_spec({"finalists": values}, "test")


def test_the_two_halves_of_the_lesson_train_the_same_and_judge_by_other_rules() -> None:
    plain, rule = (read_study_file(ROOT / "studies" / f"lesson-{half}.toml") for half in ("plain", "rule"))
    assert (plain.metric, plain.floor) == ("auc", None)
    assert (rule.metric, rule.floor) == ("worst_family", {"auc": 0.9})
    judging = {"name", "metric", "floor", "prune_by"}
    assert plain.model_dump(exclude=judging) == rule.model_dump(exclude=judging)
    assert plain.pruner == rule.pruner == "none"


def test_study_on_folds_has_five_unless_it_says_otherwise_and_excludes_what_does_not_fit() -> None:
    assert checked_spec({"protocol": "folds"}, "test").trainings_each == 5
    assert checked_spec({"protocol": "folds", "folds": 10}, "test").trainings_each == 10
    assert StudySpec().trainings_each == 1
    for values, message in (
        ({"folds": 4}, "test: folds: needs protocol = 'folds', not 'holdout'"),
        ({"protocol": "brightness", "folds": 4}, "test: folds: needs protocol = 'folds', not 'brightness'"),
        ({"protocol": "folds", "folds": 1}, "test: folds: .* got 1"),
        ({"protocol": "folds", "folds": 11}, "test: folds: .* got 11"),
        ({"protocol": "folds", "finalists": {}}, "test: finalists: protocol 'folds' trains each configuration 5 times"),
        ({"protocol": "original"}, "choose 'holdout', 'folds' or 'brightness'"),
    ):
        with pytest.raises(ConfigError, match=message):
            checked_spec(dict(values), "test")
