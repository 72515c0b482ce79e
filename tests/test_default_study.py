from typing import Any

import pytest

from pneumosearch.config import TrialConfig
from pneumosearch.default_study import PHANTOM_FIXED, default_study
from pneumosearch.errors import ConfigError
from pneumosearch.space import DEFAULT_DIMENSIONS
from pneumosearch.studyfile import StudySpec, read_study_file
from tests.conftest import ROOT


def test_default_file_equals_the_built_in_default() -> None:
    assert read_study_file(ROOT / "studies" / "default.toml") == default_study()


def test_it_judges_by_the_rule_around_the_published_network() -> None:
    spec = default_study()
    assert (spec.metric, spec.prune_by, spec.floor) == ("worst_family", "shift_auc", {"auc": 0.97})
    assert spec.search_space().centre.changes() == {}
    own = {"zoom", "lr_reduce_factor", "lr_reduce_mode"}
    assert all(spec.space[name] == DEFAULT_DIMENSIONS[name] for name in DEFAULT_DIMENSIONS.keys() - own)
    assert min(spec.space["zoom"].corners()) == TrialConfig().zoom  # a search would turn it off


@pytest.mark.parametrize(
    ("given", "control"),
    [
        ({}, True),
        ({"control": False}, False),
        ({"others": {"erase": 0.2}}, True),
        ({"others": {}}, False),  # the baseline is trained like all others
        ({"space": {"zoom": {"low": 0.0, "high": 0.5}}}, False),
        ({"engine": "keras-tuner"}, False),
    ],
)
@pytest.mark.parametrize("phantoms", [False, True])
def test_control_tells_what_the_search_gives(given: dict[str, Any], control: bool, phantoms: bool) -> None:
    spec = default_study(given, phantoms=phantoms)
    assert spec.control is control
    earlier = {key: value for key, value in spec.identity().items() if key != "control"}
    assert not default_study(given, phantoms=phantoms, begun=earlier).control or given.get("control")


@pytest.mark.parametrize(
    ("given", "screening"),
    [
        ({}, None),  # its images are small
        ({"fixed": {"image_size": 128}}, 75),
        ({"fixed": {"image_size": 96}}, None),
        ({"others": {"image_size": 96}}, None),
        ({"space": {"image_size": {"choices": [96, 150]}}}, None),
        ({"screening": 50}, 50),
        ({"screening": None}, None),
        ({"pruner": "median"}, None),
        ({"engine": "keras-tuner"}, None),
    ],
)
def test_low_resolution_rung_comes_first_where_images_are_large(given: dict[str, Any], screening: int | None) -> None:
    assert default_study(given).screening == screening


@pytest.mark.parametrize(
    "given", [{"metric": "accuracy"}, {"classes": ["healthy", "ill"]}, {"metric": "worst_family"}], ids=str
)
def test_floor_is_of_the_rule_and_the_xrays(given: dict[str, Any]) -> None:
    assert default_study(given).floor is None
    assert default_study({**given, "floor": {"auc": 0.9}}).floor == {"auc": 0.9}


def test_what_is_given_leaves_the_space() -> None:
    spec = default_study({"fixed": {"zoom": 0.1, "vertical_flip": False}, "others": {"erase": 0.2}})
    assert not {"zoom", "vertical_flip", "erase"} & spec.space.keys()
    assert spec.others == {"erase": 0.2}
    own = default_study({"space": {"zoom": {"low": 0.0, "high": 0.5}}})
    assert (set(own.space), own.others, own.metric) == ({"zoom"}, {}, "worst_family")


@pytest.mark.parametrize("place", ["fixed", "others"])
@pytest.mark.parametrize("phantoms", [False, True])
def test_factor_of_the_plateau_is_searched_under_a_plateau_alone(place: str, phantoms: bool) -> None:
    reduced = {"lr_reduce_factor", "lr_reduce_mode"}
    assert not reduced & default_study(phantoms=phantoms).space.keys()
    assert reduced <= default_study({place: {"lr_schedule": "plateau"}}, phantoms=phantoms).space.keys()


def test_phantoms_are_searched_small_around_a_baseline() -> None:
    spec = default_study({"seed": 5}, phantoms=True)
    assert (spec.seed, spec.metric, spec.floor, spec.screening) == (5, "worst_family", None, None)
    assert spec.search_space().centre.changes() == PHANTOM_FIXED
    assert "batch_norm_statistics" not in spec.others  # the statistics are those of all trials, the baseline included
    assert spec.space.keys() - {"learning_rate"} < default_study().space.keys()


@pytest.mark.parametrize("given", [{"fixed": {"image_size": 48}}, {"others": {}}, {"space": {}}], ids=str)
def test_phantoms_bring_no_space_where_one_is_given(given: dict[str, Any]) -> None:
    spec = default_study(given, phantoms=True)
    assert spec.fixed == given.get("fixed", {})


@pytest.mark.parametrize("phantoms", [False, True])
def test_study_goes_on_as_it_began(phantoms: bool) -> None:
    earlier = StudySpec(seed=5, fixed={"image_size": 64}).identity()  # of a version that judged by accuracy
    assert default_study(phantoms=phantoms, begun=earlier).identity() == earlier
    began = default_study({"metric": "auc"}, phantoms=phantoms)
    assert default_study({"trials": 7}, phantoms=phantoms, begun=began.identity()).identity() == began.identity()
    del earlier["others"]  # of a version that did not know them
    assert default_study(phantoms=phantoms, begun=earlier).others == {}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"fixed": 3}, "options: fixed"),
        ({"others": [1]}, "options: others"),
        ({"space": 3}, "options: space"),
        ({"fixed": {"image_size": "x"}}, "options: fixed"),
        ({"sed": 1}, "options: unknown key 'sed'"),
    ],
)
@pytest.mark.parametrize("phantoms", [False, True])
def test_mistakes_are_told_in_one_line(given: dict[str, Any], message: str, phantoms: bool) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        default_study(given, phantoms=phantoms)
    assert "\n" not in str(error.value)
