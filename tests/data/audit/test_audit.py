import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from pneumosearch.data.audit.audit import Audit, audit
from pneumosearch.data.audit.duplicates import THRESHOLD, identical_groups, near_pairs, nearest_others, perceptual_hash
from pneumosearch.data.audit.features import measure
from pneumosearch.data.manifest import read_manifest
from pneumosearch.data.phantom_drawing import draw_phantom

Film = np.ndarray[tuple[int, int], np.dtype[np.uint8]]


def films(n: int) -> list[Film]:
    rng = np.random.default_rng(0)
    return [draw_phantom(rng, 0.5 * (k % 2)) for k in range(n)]


@pytest.fixture(scope="module")
def damaged(phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Phantoms with one fault of every kind; see the tests for which."""
    folder = tmp_path_factory.mktemp("damaged") / "folder"
    shutil.copytree(phantoms, folder)
    normal = sorted((folder / "train" / "NORMAL").iterdir())
    ill = sorted((folder / "train" / "PNEUMONIA").iterdir())
    normal[0].write_bytes(normal[0].read_bytes()[:2000])
    shutil.copy(normal[1], folder / "test" / "PNEUMONIA" / "person9001_virus_1.jpeg")
    film = cv2.imread(str(ill[0]), cv2.IMREAD_GRAYSCALE)
    assert film is not None
    darker = cv2.convertScaleAbs(film, alpha=0.9)
    cv2.imwrite(str(folder / "test" / "PNEUMONIA" / "person9002_virus_1.jpeg"), darker)
    cv2.imwrite(str(folder / "val" / "NORMAL" / "IM-9003-0001.png"), film[:40])
    cv2.imwrite(str(folder / "val" / "NORMAL" / "IM-9004-0001.png"), cv2.applyColorMap(film, cv2.COLORMAP_JET))
    shutil.copy(ill[5], folder / "val" / "NORMAL" / ill[5].name.replace(".jpeg", "_again.jpeg"))
    return folder


@pytest.fixture(scope="module")
def found(damaged: Path) -> Audit:
    return audit(read_manifest(damaged))


def test_audit_names_a_truncated_file_and_goes_on(found: Audit, damaged: Path) -> None:
    [broken] = found.unreadable
    assert broken.name == "train/NORMAL/" + sorted(p.name for p in (damaged / "train" / "NORMAL").iterdir())[0]
    assert "truncated" in broken.reason
    assert found.n_images == 165


def test_audit_names_an_odd_and_a_coloured_image(found: Audit) -> None:
    assert ("val/NORMAL/IM-9003-0001.png", "aspect ratio") in [(image.name, image.odd) for image in found.odd]
    assert [image.name for image in found.coloured] == ["val/NORMAL/IM-9004-0001.png"]


def test_identical_files_in_two_splits_and_classes_are_told(found: Audit) -> None:
    [leak, relabelled] = sorted(found.identical, key=lambda group: "NORMAL" not in group.names[0])
    assert leak.names[1] == "test/PNEUMONIA/person9001_virus_1.jpeg"
    assert (leak.several_splits, leak.several_patients, leak.several_classes) == (True, True, True)
    assert (relabelled.several_splits, relabelled.several_patients, relabelled.several_classes) == (True, False, True)


def test_a_darkened_copy_in_the_test_folder_is_a_near_duplicate(found: Audit, damaged: Path) -> None:
    across = [pair for pair in found.near.pairs if not pair.one_split]
    original = "train/PNEUMONIA/" + min(path.name for path in (damaged / "train" / "PNEUMONIA").iterdir())
    assert (original, "test/PNEUMONIA/person9002_virus_1.jpeg") in [(pair.first, pair.second) for pair in across]
    assert all(pair.distance <= THRESHOLD for pair in found.near.pairs)
    assert all(pair.distance > THRESHOLD and not pair.one_patient for pair in found.near.beyond)


def test_a_patient_in_two_splits_is_told(found: Audit, phantoms: Path) -> None:
    [overlap] = found.overlaps
    assert overlap.splits == ("train", "val")
    assert len(overlap.patients) == 1
    assert audit(read_manifest(phantoms)).overlaps == []


def test_pair_that_straddles_the_validation_split_is_counted(phantoms: Path, tmp_path: Path) -> None:
    from pneumosearch.data.protocols import SPLIT_SEED
    from pneumosearch.data.splits import holdout_split

    folder = tmp_path / "folder"
    shutil.copytree(phantoms, folder)
    part = read_manifest(folder).part("development")
    split = holdout_split(part, seed=SPLIT_SEED)
    first, second = (part.path(part.images[side[0]]) for side in (split.train, split.validation))
    film = cv2.imread(str(first), cv2.IMREAD_GRAYSCALE)
    assert film is not None
    cv2.imwrite(str(second), cv2.convertScaleAbs(film, alpha=0.95))
    near = audit(read_manifest(folder)).near
    straddling = [(pair.first, pair.second) for pair in near.pairs if pair.straddles]
    names = tuple(sorted(path.relative_to(folder).as_posix() for path in (first, second)))
    assert names in [tuple(sorted(pair)) for pair in straddling]
    assert near.straddling == len(straddling)
    assert near.other_patients_in_development >= len(straddling)


def test_shift_of_the_test_folder_is_seen(phantoms: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    shutil.copytree(phantoms, folder)
    for path in (folder / "test" / "PNEUMONIA").iterdir():
        film = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        assert film is not None
        cv2.imwrite(str(path), cv2.convertScaleAbs(film, alpha=0.5))
    classes, normal, ill = audit(read_manifest(folder)).comparisons
    assert (ill.first, ill.second) == ("train PNEUMONIA", "test PNEUMONIA")
    assert ill.model is not None
    assert ill.model.auc_low > 0.95
    brightness = {feature.feature: feature for feature in ill.features}["brightness"]
    assert brightness.standardised < -2
    assert brightness.auc_high < 0.1
    assert normal.model is not None
    assert normal.model.auc_low < 0.75
    assert (classes.first, classes.second) == ("train NORMAL", "train PNEUMONIA")


def test_balance_is_tested_across_splits(found: Audit, damaged: Path) -> None:
    counts = read_manifest(damaged).counts()
    assert {split.split: (split.normal, split.pneumonia) for split in found.balance.splits} == counts
    assert all(split.share_low < split.share < split.share_high for split in found.balance.splits)
    assert (found.balance.freedom, 0 < found.balance.p <= 1) == (2, True)


@pytest.mark.parametrize(
    "change",
    [
        lambda film: cv2.imdecode(cv2.imencode(".jpg", film, [cv2.IMWRITE_JPEG_QUALITY, 40])[1], cv2.IMREAD_GRAYSCALE),
        lambda film: cv2.resize(film, (180, 150), interpolation=cv2.INTER_AREA),
        lambda film: cv2.convertScaleAbs(film, alpha=0.8, beta=20),
        lambda film: cv2.GaussianBlur(film, (0, 0), 1.5),
    ],
)
def test_copies_are_near_and_other_films_are_not(change: Callable[[Film], Film]) -> None:
    originals = films(6)
    hashes = np.array([perceptual_hash(film) for film in [*originals, *map(change, originals)]])
    pairs = {(pair.first, pair.second) for pair in near_pairs(hashes)}
    assert {(i, i + 6) for i in range(6)} <= pairs
    nearest = nearest_others(hashes, [str(i % 6) for i in range(12)], 3)
    assert len(nearest) == 3
    assert all(pair.distance > THRESHOLD and pair.first % 6 != pair.second % 6 for pair in nearest)


def test_pairs_are_found_across_blocks_and_none_twice() -> None:
    hashes = np.random.default_rng(0).random((2500, 255)) < 0.5
    hashes[2400], hashes[1500] = hashes[3], hashes[1400]
    assert [(p.first, p.second, p.distance) for p in near_pairs(hashes)] == [(3, 2400, 0), (1400, 1500, 0)]


def test_identical_groups_hold_every_copy() -> None:
    assert identical_groups(["a", "b", "a", "c", "b", "a"]) == [[0, 2, 5], [1, 4]]


def test_features_say_what_they_are_named_for() -> None:
    grey = np.full((100, 200), 100, dtype=np.uint8)
    plain = measure(grey, 5000)
    assert (plain.brightness, plain.contrast, plain.gradient, plain.entropy, plain.asymmetry) == (100, 0, 0, 0, 0)
    assert (plain.bytes_per_pixel, plain.megapixels, plain.aspect_ratio) == (0.25, 0.02, 2)
    framed = np.pad(grey[:84, :184], 8)
    assert measure(framed, 1).border < 40 < measure(framed, 1).brightness
    assert measure(framed, 1).black == pytest.approx(100 * (1 - 84 * 184 / 20000), abs=2)
    ramp = np.tile(np.arange(224, dtype=np.uint8), (224, 1))
    assert measure(ramp, 1).gradient == pytest.approx(1, abs=0.02)
    assert measure(ramp, 1).asymmetry == pytest.approx(112, abs=1)


def test_folder_without_val_with_odd_files_and_images_is_audited(phantoms: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    shutil.copytree(phantoms, folder)
    shutil.rmtree(folder / "val")
    (folder / "train" / "NORMAL" / "notes.txt").write_text("")
    film = cv2.imread(str(next((folder / "test" / "NORMAL").iterdir())), cv2.IMREAD_GRAYSCALE)
    assert film is not None
    cv2.imwrite(str(folder / "test" / "NORMAL" / "IM-9005-0001.png"), 255 - film)
    cv2.imwrite(str(folder / "test" / "NORMAL" / "scan.bmp"), film)
    found = audit(read_manifest(folder))
    assert [split.split for split in found.balance.splits] == ["train", "test"]
    assert [(each.n, each.example) for each in found.passed_over] == [(1, "train/NORMAL/notes.txt")]
    assert found.unknown_patients == 1
    [negative] = [image for image in found.unlike if image.name.endswith("IM-9005-0001.png")]
    assert any("negative" in remark for remark in negative.remarks)
    assert Audit.model_validate_json(found.model_dump_json()) == found
