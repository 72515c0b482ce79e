import re
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pneumosearch.data.manifest import ImageFile, read_manifest
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
    (copy / "val").rename(copy / "validation")
    with pytest.raises(DataError, match=r"val/NORMAL: no such folder .*holds test, train, validation"):
        read_manifest(copy)
    (copy / "validation").rename(copy / "val")
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
