import os
import re
import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pneumosearch.data.manifest import ImageFile, read_manifest
from pneumosearch.data.phantoms import MARKER
from pneumosearch.data.scan import COPY, HIDDEN, OUTSIDE
from pneumosearch.data.splits import holdout_split, kept_holdout_split
from pneumosearch.errors import DataError
from pneumosearch.published import PUBLISHED_COUNTS


@pytest.mark.parametrize(
    ("name", "patient"),
    [
        ("person12_bacteria_46.jpeg", "person12"),
        ("person447_virus_921_1.jpeg", "person447"),
        ("IM-0115-0001.jpeg", "IM-0115"),
        ("IM-0011-0001-0002.jpeg", "IM-0011"),
        ("NORMAL2-IM-0381-0001.jpeg", "IM-0381"),
        ("scan.png", "train/NORMAL/scan.png"),
    ],
)
def test_patient_is_read_from_the_name(name: str, patient: str) -> None:
    assert ImageFile(f"train/NORMAL/{name}", "train", 0).patient == patient


@given(st.integers(1, 99999), st.sampled_from(["bacteria", "virus"]), st.integers(1, 99999))
def test_images_of_one_person_share_their_patient(person: int, kind: str, image: int) -> None:
    file = ImageFile(f"train/PNEUMONIA/person{person}_{kind}_{image}.jpeg", "train", 1)
    assert file.patient == f"person{person}"
    assert re.fullmatch(r"person\d+", file.patient)


def test_real_images_have_the_published_counts(real_images: Path) -> None:
    manifest = read_manifest(real_images)
    assert manifest.kind == "images"
    assert manifest.counts() == PUBLISHED_COUNTS
    assert len(manifest.part("development").images) == 5232
    assert {image.split for image in manifest.part("test").images} == {"test"}


def test_missing_folder_split_and_images_are_named(phantoms: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none: no such folder"):
        read_manifest(tmp_path / "none")
    copy = tmp_path / "copy"
    shutil.copytree(phantoms, copy)
    (copy / "train").rename(copy / "training")
    with pytest.raises(DataError, match=r"train/NORMAL: no such folder .*holds test, training, val"):
        read_manifest(copy)
    (copy / "training").rename(copy / "train")
    shutil.rmtree(copy / "test" / "NORMAL")
    (copy / "test" / "NORMAL").mkdir()
    with pytest.raises(DataError, match="test/NORMAL: no image"):
        read_manifest(copy)


def test_fingerprint_follows_content_and_names(phantoms: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(phantoms, copy)
    fingerprint = read_manifest(phantoms).part("development").fingerprint
    assert read_manifest(copy).part("development").fingerprint == fingerprint
    victim = next((copy / "train" / "NORMAL").iterdir())
    victim.write_bytes(victim.read_bytes() + b"\0")
    changed = read_manifest(copy).part("development").fingerprint
    assert changed != fingerprint
    victim.rename(victim.with_name("IM-9999-0001.jpeg"))
    assert read_manifest(copy).part("development").fingerprint not in (fingerprint, changed)
    assert read_manifest(copy).part("test").fingerprint == read_manifest(phantoms).part("test").fingerprint


@pytest.fixture
def copy(phantoms: Path, tmp_path: Path) -> Path:
    shutil.copytree(phantoms, tmp_path / "copy")
    return tmp_path / "copy"


@pytest.mark.parametrize("how", ["missing", "empty", "empty classes"])
def test_val_may_be_missing_or_empty_and_is_told_once(copy: Path, how: str) -> None:
    shutil.rmtree(copy / "val")
    if how != "missing":
        (copy / "val").mkdir()
    if how == "empty classes":
        (copy / "val" / "NORMAL").mkdir()
    manifest = read_manifest(copy)
    assert manifest.counts()["val"] == (0, 0)
    assert sum("val" in line for line in manifest.remarks()) == 1
    assert len(manifest.part("development").images) == sum(manifest.counts()["train"])


def test_whole_folder_has_nothing_to_remark(phantoms: Path) -> None:
    manifest = read_manifest(phantoms)
    assert manifest.remarks() == []
    assert (manifest.passed_over, manifest.unopenable(), manifest.patient_rule) == ((), {}, None)


def _renamed(folder: Path, name: Callable[[int, str], str]) -> None:
    """Rename every image to what `name` makes of its number and class."""
    for number, path in enumerate(sorted(folder.rglob("*.jpeg"))):
        path.rename(path.with_name(name(number, path.parent.name)))


def test_patients_of_mendeley_stay_on_one_side_of_the_split(copy: Path) -> None:
    kinds = {"NORMAL": "NORMAL", "PNEUMONIA": "VIRUS"}
    _renamed(copy, lambda number, kind: f"{kinds[kind]}-{1000 + number // 3}-{number % 3:04d}.jpeg")
    manifest = read_manifest(copy)
    part = manifest.part("development")
    split = holdout_split(part, seed=1)
    train, validation = ({part.images[i].patient for i in side} for side in (split.train, split.validation))
    assert not train & validation
    assert (manifest.patient_rule, manifest.remarks()) == ("mendeley", [])


def test_rule_of_the_user_groups_patients(copy: Path) -> None:
    _renamed(copy, lambda number, kind: f"scan{number // 4}_{number}.jpeg")
    manifest = read_manifest(copy, r"/(scan\d+)_")
    assert len({image.patient for image in manifest.images}) == 40
    assert manifest.patient_rule == r"/(scan\d+)_"
    assert manifest.remarks() == []
    assert read_manifest(copy, "(.*)").patient_rule is None  # as where no rule knows the names


def test_unknown_patients_are_a_warning(copy: Path) -> None:
    _renamed(copy, lambda number, kind: f"scan{number}.jpeg")
    (line,) = read_manifest(copy).remarks()
    assert line.startswith("warning: no known rule")
    assert "--patient-pattern" in line
    (line,) = read_manifest(copy, r"(nobody\d+)").remarks()
    assert line.startswith("warning: --patient-pattern finds a patient")


def test_kept_split_follows_the_rule_for_patients(copy: Path, tmp_path: Path) -> None:
    _renamed(copy, lambda number, kind: f"scan{number // 4}_{number}.jpeg")
    for pattern in (None, r"/(scan\d+)_"):
        kept_holdout_split(read_manifest(copy, pattern).part("development"), seed=1, folder=tmp_path)
    assert len(list(tmp_path.glob("*.npy"))) == 2


def test_archive_of_kaggle_is_read_once(copy: Path, tmp_path: Path) -> None:
    root = tmp_path / "archive" / "chest_xray"
    root.parent.mkdir()
    shutil.copytree(copy, root / "chest_xray")
    shutil.copytree(copy, root, dirs_exist_ok=True)
    (root / "__MACOSX").mkdir()
    (root / "train" / "NORMAL" / "._IM-0001-0001.jpeg").write_bytes(bytes(120))
    (root / "train" / ".DS_Store").write_bytes(b"")
    manifest = read_manifest(root)
    assert manifest.counts() == read_manifest(copy).counts()
    assert {(each.reason, each.n) for each in manifest.passed_over} == {(HIDDEN, 3), (COPY, 1)}
    assert len(manifest.remarks()) == 2
    nested = read_manifest(root.parent)
    assert nested.folder == root
    assert f"{root.parent}: the images are read from {root}" in nested.remarks()
    shutil.copytree(copy, tmp_path / "archive" / "other")
    with pytest.raises(DataError, match=r"holds several data sets .chest_xray, other"):
        read_manifest(root.parent)


def test_sub_folders_and_other_formats_are_read_and_the_rest_is_counted(copy: Path) -> None:
    folder = copy / "train" / "PNEUMONIA"
    first, second = sorted(folder.iterdir())[:2]
    first.rename(first.with_suffix(".bmp"))
    (folder / "VIRUS").mkdir()
    second.rename(folder / "VIRUS" / second.name)
    (copy / "train" / "OTHER").mkdir()
    (copy / "notes.txt").write_text("")
    manifest = read_manifest(copy)
    assert len(manifest.images) == 160
    assert f"train/PNEUMONIA/VIRUS/{second.name}" in {image.name for image in manifest.images}
    assert [(each.reason, each.n) for each in manifest.passed_over] == [(OUTSIDE, 2)]


def test_files_that_cannot_be_read_are_left_out_of_the_fingerprint(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = read_manifest(copy).part("development")
    (copy / "train" / "NORMAL" / "gone.jpeg").symlink_to(copy / "nowhere.jpeg")
    os.mkfifo(copy / "train" / "NORMAL" / "pipe.jpeg")
    manifest = read_manifest(copy)
    part = manifest.part("development")
    assert sorted(part.unreadable) == ["train/NORMAL/gone.jpeg", "train/NORMAL/pipe.jpeg"]
    assert sum(manifest.unopenable().values()) == 2
    with pytest.raises(DataError, match="gone.jpeg: cannot be read"):
        _ = part.fingerprint
    assert part.without(part.unreadable).fingerprint == wanted.fingerprint


def test_names_that_are_no_utf8_are_printable_and_open(copy: Path) -> None:
    folder = copy / "train" / "NORMAL"
    for raw in (b"person1_\xff.jpeg", b"person1_\xfe.jpeg"):
        shutil.copy(next(folder.glob("IM*")), folder / os.fsdecode(raw))
    part = read_manifest(copy).part("development")
    odd = [image for image in part.images if image.file]
    assert len({image.name for image in odd}) == 2
    assert {image.patient for image in odd} == {"person1"}
    for image in odd:
        image.name.encode("utf-8")
        assert part.path(image).is_file()


def own_folder(phantoms: Path, folder: Path, negative: str, positive: str) -> Path:
    """A copy of the phantoms as somebody else's images."""
    shutil.copytree(phantoms, folder)
    (folder / MARKER).unlink()
    for split in ("train", "val", "test"):
        (folder / split / "NORMAL").rename(folder / split / negative)
        (folder / split / "PNEUMONIA").rename(folder / split / positive)
    return folder


def test_own_classes_are_read_as_the_published_ones(phantoms: Path, tmp_path: Path) -> None:
    folder = own_folder(phantoms, tmp_path / "own", "HEALTHY", "TUBERCULOSIS")
    manifest = read_manifest(folder, classes=("HEALTHY", "TUBERCULOSIS"))
    assert manifest.counts() == read_manifest(phantoms).counts()
    assert (manifest.classes, manifest.shown_as) == (("HEALTHY", "TUBERCULOSIS"), "own images")
    assert manifest.passed_over == ()
    turned = read_manifest(folder, classes=("TUBERCULOSIS", "HEALTHY")).counts()
    assert {split: counts[::-1] for split, counts in turned.items()} == manifest.counts()


def test_class_folders_may_differ_in_case_and_form(phantoms: Path, tmp_path: Path) -> None:
    decomposed = unicodedata.normalize("NFD", "Säule")
    folder = own_folder(phantoms, tmp_path / "own", "Gesund", decomposed)
    (folder / "test" / "Gesund").rename(folder / "test" / "GESUND")
    manifest = read_manifest(folder, classes=("gesund", "Säule"))
    assert manifest.counts() == read_manifest(phantoms).counts()
    assert all((folder / image.path).is_file() for image in manifest.images)
    (folder / "val" / "GESUND").mkdir()
    with pytest.raises(DataError, match="val: several folders fit the class gesund: GESUND, Gesund; rename one"):
        read_manifest(folder, classes=("gesund", "Säule"))
    exact = read_manifest(folder, classes=("Gesund", "Säule"))
    assert [passed.example for passed in exact.passed_over] == ["val/GESUND"]


def test_unknown_class_folder_is_told_with_those_that_are_there(phantoms: Path, tmp_path: Path) -> None:
    folder = own_folder(phantoms, tmp_path / "own", "HEALTHY", "TB")
    with pytest.raises(
        DataError, match=r"train/SICK: no such folder .*train holds HEALTHY, TB\); .* HEALTHY and SICK$"
    ):
        read_manifest(folder, classes=("HEALTHY", "SICK"))
    with pytest.raises(DataError, match=r"train/NORMAL: .*holds HEALTHY, TB.*; or name two .* --classes"):
        read_manifest(folder)
