import os
import shutil
from pathlib import Path

import pytest

from pneumosearch.data.manifest import read_manifest
from pneumosearch.data.names import path_of
from pneumosearch.data.protocols import DataSource
from pneumosearch.records.dataset import DataDescription


@pytest.fixture
def odd(phantoms: Path, tmp_path: Path) -> Path:
    """Phantoms in a folder whose name, and one of whose files' names, is no UTF-8."""
    folder = tmp_path / os.fsdecode(b"chest\xff")
    shutil.copytree(phantoms, folder)
    victim = next((folder / "test" / "NORMAL").iterdir())
    victim.rename(victim.with_name(os.fsdecode(b"IM-0001-\xfe\x1b.jpeg")))
    (folder / "train" / "NORMAL" / os.fsdecode(b"IM-0002-\xfe.jpeg")).write_bytes(b"no image")
    return folder


def test_names_that_are_no_utf8_survive_storing(odd: Path, tmp_path: Path) -> None:
    source = DataSource(read_manifest(odd), tmp_path / "cache", skip_unreadable=True)
    description = source.load("holdout", 32).description
    assert len(description.skipped) == 1
    again = DataDescription.model_validate_json(description.model_dump_json())
    assert again == description
    assert path_of(again.folder) == odd.resolve()
    for image in source.sealed_test(32, write_down=lambda fingerprint: None).part.images:
        image.name.encode("utf-8")
        assert image.name.isprintable()


def test_description_says_how_the_images_look_whatever_the_network_is_shown(phantoms: Path, tmp_path: Path) -> None:
    source = DataSource(read_manifest(phantoms), tmp_path / "cache")
    plain, equalized = (source.load("holdout", 64, how).description.appearance for how in ("none", "clahe"))
    assert plain is not None
    assert plain == equalized


def test_older_description_has_neither_rule_nor_bits_nor_appearance(phantoms: Path, tmp_path: Path) -> None:
    now = DataSource(read_manifest(phantoms), tmp_path / "cache").load("holdout", 32).description
    old = now.model_dump(exclude={"patient_rule", "bits", "appearance"})
    read = DataDescription.model_validate(old)
    assert (read.patient_rule, read.bits, read.appearance) == (None, None, None)
    assert (now.patient_rule, now.bits) == (None, None)
