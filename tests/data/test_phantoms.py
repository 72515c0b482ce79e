"""What a user relies on in generated X-rays: layout, names, repeatability, and classes that pixels must tell."""

import json
import re
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from pneumosearch.data.audit.features import read_all
from pneumosearch.data.audit.shift import compare_all
from pneumosearch.data.manifest import read_manifest
from pneumosearch.data.phantom_drawing import draw_phantom
from pneumosearch.data.phantoms import MARKER, MIN_IMAGES, write_phantoms
from pneumosearch.errors import DataError

SEED = 5
CLASSES = ("NORMAL", "PNEUMONIA")
NAMES = {
    "NORMAL": re.compile(r"(?:NORMAL2-)?IM-(\d{4})-\d{4}\.jpeg"),
    "PNEUMONIA": re.compile(r"person(\d+)_(?:bacteria|virus)_\d+\.jpeg"),
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "phantoms"
    write_phantoms(folder, n_images=MIN_IMAGES, seed=SEED)
    return folder


def _images(tree: Path) -> list[tuple[str, str, str]]:
    """(split, class, file name) of every image."""
    return [(path.parts[-3], path.parts[-2], path.name) for path in sorted(tree.rglob("*.jpeg"))]


def _pixels(path: Path) -> npt.NDArray[np.uint8]:
    """As the file holds them: (height, width) if it is grey."""
    pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert pixels is not None
    return np.asarray(pixels, dtype=np.uint8)


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _patient(label: str, name: str) -> int:
    match = NAMES[label].fullmatch(name)
    assert match, name
    return int(match.group(1))


def test_sizes_of_splits_and_classes_follow_the_public_data(tree: Path) -> None:
    images = _images(tree)
    n_of = {(s, c): sum(i[:2] == (s, c) for i in images) for s in ("train", "val", "test") for c in CLASSES}
    assert len(images) == sum(n_of.values()) == MIN_IMAGES
    assert min(n_of.values()) >= 2
    assert sum(n_of["test", c] for c in CLASSES) == pytest.approx(0.20 * MIN_IMAGES, abs=1)
    assert sum(n_of[s, "NORMAL"] for s in ("train", "val", "test")) == pytest.approx(0.35 * MIN_IMAGES, abs=2)


def test_smallest_tree_can_be_split_by_patient(tree: Path) -> None:
    for label in CLASSES:
        assert len({_patient(c, name) for split, c, name in _images(tree) if c == label and split != "test"}) >= 10


def test_no_number_of_a_patient_comes_in_two_places(tree: Path) -> None:
    places: dict[int, set[tuple[str, str, str]]] = {}
    for split, label, name in _images(tree):
        series = name.split("-")[0] if label == "NORMAL" else "person"
        places.setdefault(_patient(label, name), set()).add((split, label, series))
    assert all(len(place) == 1 for place in places.values())


def test_patients_have_one_to_four_images_and_both_series_and_kinds_occur(tree: Path) -> None:
    images = _images(tree)
    patients = [_patient(label, name) for _, label, name in images]
    assert {patients.count(p) for p in patients} == {1, 2, 3, 4}
    beginnings = {re.sub(r"\d+", "#", name.rsplit("-", 2)[0].rsplit("_", 1)[0]) for *_, name in images}
    assert beginnings == {"IM", "NORMAL#-IM", "person#_bacteria", "person#_virus"}


def test_images_of_a_patient_resemble_each_other(tree: Path) -> None:
    def shape(path: Path) -> npt.NDArray[np.float64]:
        small = cv2.resize(_pixels(path), (32, 32), interpolation=cv2.INTER_AREA).astype(np.float64)
        return np.asarray((small.ravel() - small.mean()) / small.std(), dtype=np.float64)

    paths = sorted((tree / "train" / "NORMAL").iterdir())
    same: list[float] = []
    other: list[float] = []
    for a, b in pairwise(paths):
        ours = same if _patient("NORMAL", a.name) == _patient("NORMAL", b.name) else other
        ours.append(float(np.abs(shape(a) - shape(b)).mean()))
    assert 0 < np.mean(same) < 0.7 * np.mean(other)


def test_same_seed_gives_the_same_bytes_and_parents_are_made(tree: Path, tmp_path: Path) -> None:
    write_phantoms(tmp_path / "far" / "away", n_images=MIN_IMAGES, seed=SEED)
    assert _contents(tmp_path / "far" / "away") == _contents(tree)


def test_other_seed_gives_other_images_and_an_empty_folder_is_filled(tree: Path, tmp_path: Path) -> None:
    write_phantoms(tmp_path, n_images=MIN_IMAGES, seed=SEED + 1)
    assert len(_images(tmp_path)) == MIN_IMAGES
    assert not set(_contents(tmp_path).values()) & set(_contents(tree).values())


def test_marker_says_how_the_tree_was_made(tree: Path) -> None:
    marker = json.loads((tree / MARKER).read_text(encoding="utf-8"))
    assert marker.pop("note")
    assert marker == {"kind": "phantoms", "images": MIN_IMAGES, "seed": SEED, "generator": 2}


def test_files_are_grey_jpegs_of_various_sizes(tree: Path) -> None:
    images = [_pixels(path) for path in (tree / "test" / "PNEUMONIA").iterdir()]
    assert all(image.ndim == 2 for image in images)
    assert len({image.shape for image in images}) > len(images) / 2


def test_plain_features_hardly_tell_the_classes(tmp_path: Path) -> None:
    """The audit's twelve, each alone and all together: who is ill must be seen in the lungs."""
    write_phantoms(tmp_path / "many", n_images=400, seed=SEED)
    manifest = read_manifest(tmp_path / "many")
    readings = [reading for reading in read_all(manifest)[0] if reading.image.split == "train"]
    [classes] = compare_all(readings, manifest.classes)
    assert classes.model is not None
    assert classes.model.auc < 0.75
    assert len(classes.features) == 12
    assert all(0.25 < feature.auc < 0.75 for feature in classes.features)


def test_phantoms_of_earlier_versions_can_be_drawn_again(phantoms: Path) -> None:
    assert json.loads((phantoms / MARKER).read_text())["generator"] == 1
    image = _pixels(phantoms / "train" / "NORMAL" / "IM-0001-0001.jpeg")
    assert (image.shape, round(float(image.mean()), 1)) == ((227, 262), 124.3)


@pytest.mark.parametrize(("height", "width"), [(224, 256), (97, 64)])
def test_drawing_has_the_size_asked_for_and_uses_the_grey_scale(height: int, width: int) -> None:
    image = draw_phantom(np.random.default_rng(1), 0.5, height=height, width=width)
    assert image.shape == (height, width)
    assert image.dtype == np.uint8
    assert np.ptp(image) > 100


def test_chest_is_where_a_radiologist_expects_it() -> None:
    chest = np.mean([draw_phantom(np.random.default_rng(k), 0.0) for k in range(16)], axis=0)
    corner, spine = chest[:20, :20].mean(), chest[60:120, 124:132].mean()
    lungs = (chest[60:120, 70:85].mean() + chest[60:120, 171:186].mean()) / 2
    assert corner < lungs < spine
    left_of_patient, right_of_patient = chest[130:150, 150:160].mean(), chest[130:150, 96:106].mean()
    assert left_of_patient > right_of_patient + 15  # the heart


@pytest.mark.parametrize("seed", range(6))
def test_illness_shows_in_the_lungs_and_only_there(seed: int) -> None:
    healthy, faint, grave = (draw_phantom(np.random.default_rng(seed), s).astype(float) for s in (0.0, 0.3, 1.0))
    changes = np.abs(grave - healthy)
    lung = changes > 15
    assert 0.01 < lung.mean() < 0.5
    assert changes[:10].max() <= 1
    assert changes[:, :5].max() <= 1
    assert 0 < (faint - healthy)[lung].mean() < (grave - healthy)[lung].mean()


@pytest.mark.parametrize("severity", [-0.1, 1.1, float("nan")])
def test_severity_out_of_range_is_refused(severity: float) -> None:
    with pytest.raises(ValueError, match="wanted 0 to 1"):
        draw_phantom(np.random.default_rng(0), severity)


def test_what_is_there_already_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    for target in (tmp_path, tmp_path / "mine.txt"):
        with pytest.raises(DataError, match="not empty"):
            write_phantoms(target)
    assert _contents(tmp_path) == {"mine.txt": b"mine"}


@pytest.mark.parametrize(("n_images", "seed", "message"), [(MIN_IMAGES - 1, 1, "at least"), (MIN_IMAGES, -1, "seed")])
def test_arguments_out_of_range_are_refused(tmp_path: Path, n_images: int, seed: int, message: str) -> None:
    with pytest.raises(DataError, match=message):
        write_phantoms(tmp_path / "new", n_images=n_images, seed=seed)
    assert not list(tmp_path.iterdir())


def test_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, data: bytes) -> int:
        if "PNEUMONIA" in self.parts:
            raise OSError(28, "No space left on device")
        return 0

    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(DataError, match="No space left") as caught:
        write_phantoms(tmp_path / "new", n_images=MIN_IMAGES)
    assert isinstance(caught.value.__cause__, OSError)
    assert not list(tmp_path.iterdir())
