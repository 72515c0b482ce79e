import hashlib
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from pneumosearch.data.cache import decode
from pneumosearch.data.manifest import phantom_settings, read_manifest
from pneumosearch.data.phantoms import MARKER, draw_phantom, write_phantoms
from pneumosearch.errors import DataError


def _digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_one_seed_gives_one_set_of_files(phantoms: Path, tmp_path: Path) -> None:
    write_phantoms(tmp_path / "again", n_images=160, seed=1)
    assert _digests(tmp_path / "again") == _digests(phantoms)
    write_phantoms(tmp_path / "other", n_images=160, seed=2)
    assert not set(_digests(tmp_path / "other").values()) & set(_digests(phantoms).values())


def test_tree_has_all_images_and_says_what_it_is(phantoms: Path) -> None:
    manifest = read_manifest(phantoms)
    assert manifest.kind == "phantoms"
    assert len(manifest.images) == 160
    assert phantom_settings(phantoms) == {"kind": "phantoms", "images": 160, "seed": 1, "generator": 1}


def test_no_patient_is_in_two_splits_or_classes(phantoms: Path) -> None:
    manifest = read_manifest(phantoms)
    places: dict[str, set[tuple[str, int]]] = {}
    for image in manifest.images:
        assert image.patient != image.name
        places.setdefault(image.patient, set()).add((image.split, image.label))
    assert all(len(place) == 1 for place in places.values())


def test_illness_shows_in_the_lungs() -> None:
    def lungs(severity: float) -> float:
        images = [draw_phantom(np.random.default_rng(k), severity) for k in range(20)]
        return float(np.mean([image[70:150, 50:100] / image.mean() for image in images]))

    assert lungs(1.0) > 1.08 * lungs(0.0)


def test_mean_brightness_alone_does_not_tell_the_classes(phantoms: Path) -> None:
    manifest = read_manifest(phantoms)
    brightness = np.array([decode(phantoms / image.name).mean() for image in manifest.images])
    labels = np.array([image.label for image in manifest.images])
    best = max(balanced_accuracy_score(labels, brightness > threshold) for threshold in brightness)
    assert best < 0.75


def test_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match="not empty"):
        write_phantoms(tmp_path, n_images=160)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_too_few_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="at least 150"):
        write_phantoms(tmp_path / "few", n_images=10)
    assert not (tmp_path / "few").exists()


def test_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", no_room)
    with pytest.raises(DataError, match="No space left on device"):
        write_phantoms(tmp_path / "full", n_images=160)
    assert list(tmp_path.iterdir()) == []


def test_marker_that_is_no_json_is_told(tmp_path: Path) -> None:
    (tmp_path / MARKER).write_text("{")
    with pytest.raises(DataError, match="not a marker"):
        phantom_settings(tmp_path)
