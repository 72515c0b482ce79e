"""Shortcuts planted in phantoms: they tell the classes in the development images, not in the test folder."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from pneumosearch.data.audit.features import Reading, read_all
from pneumosearch.data.manifest import read_manifest
from pneumosearch.data.phantom_drawing import draw_phantom
from pneumosearch.data.phantoms import MARKER, MIN_IMAGES, write_phantoms
from pneumosearch.data.planted_shifts import PLANTED, SHIFTS, Look, checked_shifts, plant, read_shift
from pneumosearch.errors import ConfigError, DataError
from tests.support.terminal import Terminal

#: {shift: what a plain figure of the image shows of it}
SEEN_IN: dict[str, Callable[[Reading], float]] = {
    "compression": lambda reading: reading.features.bytes_per_pixel,
    "geometry": lambda reading: reading.features.aspect_ratio,
    "exposure": lambda reading: reading.features.brightness,
    "border": lambda reading: -reading.features.border,
}


@pytest.fixture(scope="module")
def laboratory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Phantoms in which all shifts are planted."""
    folder = tmp_path_factory.mktemp("data") / "laboratory"
    write_phantoms(folder, n_images=MIN_IMAGES, seed=5, shifts=dict.fromkeys(SHIFTS, 1.0))
    return folder


@pytest.fixture(scope="module")
def readings(laboratory: Path) -> list[Reading]:
    return read_all(read_manifest(laboratory))[0]


def looks(folder: Path) -> dict[str, dict[str, str]]:
    """{image: {shift: whose look}}."""
    found: dict[str, dict[str, str]] = json.loads((folder / PLANTED).read_text(encoding="utf-8"))["images"]
    return found


def share_of_class(strength: float, *, development: bool, n: int = 2000) -> float:
    """Of many patients: the share that has the look of its class."""
    rng = np.random.default_rng(0)
    ill = [bool(k % 2) for k in range(n)]
    whose = [plant({"border": strength}, ill=each, development=development, rng=rng).whose["border"] for each in ill]
    return float(np.mean([(one == "ill") == each for one, each in zip(whose, ill, strict=True)]))


def test_file_beside_the_images_says_whose_look_each_of_them_has(laboratory: Path) -> None:
    images = looks(laboratory)
    assert images.keys() == {path.relative_to(laboratory).as_posix() for path in laboratory.rglob("*.jpeg")}
    for name, whose in images.items():
        assert whose.keys() == SHIFTS.keys()
        if not name.startswith("test/"):
            assert set(whose.values()) == {"ill" if "/PNEUMONIA/" in name else "healthy"}
    for label in ("NORMAL", "PNEUMONIA"):
        tested = [tuple(whose.values()) for name, whose in images.items() if name.startswith(f"test/{label}/")]
        assert {look for each in tested for look in each} == {"healthy", "ill"}
        assert len(set(tested)) > 3  # the shifts are drawn apart
    assert json.loads((laboratory / MARKER).read_text())["shifts"] == dict.fromkeys(SHIFTS, 1.0)


def test_patients_are_those_without_a_shift_and_the_file_is_no_image(laboratory: Path, tmp_path: Path) -> None:
    write_phantoms(tmp_path / "plain", n_images=MIN_IMAGES, seed=5)
    plain, planted = read_manifest(tmp_path / "plain"), read_manifest(laboratory)
    assert [image.path for image in plain.images] == [image.path for image in planted.images]
    assert (planted.kind, planted.passed_over) == ("phantoms", ())
    assert not (tmp_path / "plain" / PLANTED).exists()


@pytest.mark.parametrize("shift", SEEN_IN)
def test_look_tells_the_classes_of_development_images_and_not_of_test_images(
    shift: str, readings: list[Reading], laboratory: Path
) -> None:
    def area(part: list[Reading], wanted: Callable[[Reading], bool]) -> float:
        area = float(roc_auc_score([wanted(each) for each in part], [SEEN_IN[shift](each) for each in part]))
        return max(area, 1 - area)

    whose = looks(laboratory)
    development = [each for each in readings if each.image.split != "test"]
    test = [each for each in readings if each.image.split == "test"]
    # A border darkens, so that the brightness of ill images tells less where both are planted.
    assert area(development, lambda each: bool(each.image.label)) > 0.7
    assert area(test, lambda each: whose[each.image.path][shift] == "ill") > 0.9
    assert area(test, lambda each: bool(each.image.label)) < 0.7


def test_strength_is_the_correlation_of_look_and_class() -> None:
    assert share_of_class(1.0, development=True) == 1.0
    assert share_of_class(0.6, development=True) == pytest.approx(0.8, abs=0.03)
    assert share_of_class(0.0, development=True) == pytest.approx(0.5, abs=0.04)
    assert share_of_class(1.0, development=False) == pytest.approx(0.5, abs=0.04)


def test_a_shift_looks_the_same_beside_others() -> None:
    def marker(shifts: dict[str, float]) -> float:
        return plant(shifts, ill=True, development=True, rng=np.random.default_rng(3)).look.marker

    assert marker({"marker": 1.0}) == marker({"exposure": 0.5, "marker": 1.0}) > 0


def test_usual_look_leaves_an_image_alone_and_the_letter_stands_in_its_corner() -> None:
    image = draw_phantom(np.random.default_rng(1), 0.0)
    assert np.array_equal(Look().on(image), image)
    changed = np.argwhere(Look(marker=0.1).on(image) != image) / image.shape
    assert len(changed) > 50
    assert changed[:, 0].max() < 0.25
    assert changed[:, 1].min() > 0.75


@pytest.mark.parametrize(
    ("text", "read"), [("border", ("border", 1.0)), ("marker=0.25", ("marker", 0.25)), ("geometry=1", ("geometry", 1))]
)
def test_option_names_a_shift_and_perhaps_its_strength(text: str, read: tuple[str, float]) -> None:
    assert read_shift(text) == read


@pytest.mark.parametrize("text", ["border=", "border=much"])
def test_strength_that_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=f"--shift {text}: wanted NAME"):
        read_shift(text)


@pytest.mark.parametrize("strength", [-0.1, 1.01, float("nan")])
def test_strength_out_of_range_is_refused(strength: float) -> None:
    with pytest.raises(ConfigError, match="from 0 to 1"):
        checked_shifts({"border": strength})


def test_command_plants_refuses_unknown_shifts_and_writes_nothing_then(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path)
    _, told = terminal.call("data", "phantoms", "lab", "--images", "150", "--shift", "bordr", code=1)
    assert "--shift bordr: no such shift; there are compression, geometry" in told
    assert not list(tmp_path.iterdir())
    _, told = terminal.call("data", "phantoms", "lab", "--images", "150", "--shift", "marker=0.5", "--shift", "border")
    assert "planted: marker 0.5; planted: border 1" in told
    assert json.loads((tmp_path / "lab" / PLANTED).read_text())["shifts"].keys() == {"marker", "border"}


def test_error_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises((ConfigError, DataError)):
        write_phantoms(tmp_path / "lab", n_images=MIN_IMAGES, shifts={"border": 2.0})
    assert not list(tmp_path.iterdir())
