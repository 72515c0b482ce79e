import shutil
from collections import Counter
from pathlib import Path

import pytest

from pneumosearch.data.labelled import read_labelled
from pneumosearch.data.manifest import read_manifest
from pneumosearch.errors import DataError
from pneumosearch.records.classes import PUBLISHED_CLASSES


def test_folder_of_splits_has_each_as_a_group(phantoms: Path) -> None:
    labelled = read_labelled(phantoms, PUBLISHED_CLASSES)
    manifest = read_manifest(phantoms)
    assert (labelled.kind, labelled.passed_over) == ("phantoms", ())
    assert {image.name for image in labelled.files.images} == {image.name for image in manifest.images}
    found = Counter((group, image.label) for group, image in zip(labelled.groups, labelled.files.images, strict=True))
    assert {split: (found[split, 0], found[split, 1]) for split in ("train", "val", "test")} == manifest.counts()


def test_class_folders_may_lie_at_the_top_or_deep_down(phantoms: Path, tmp_path: Path) -> None:
    for place in ("NORMAL", "a/b/c/NORMAL", "a/b/c/d/NORMAL"):
        shutil.copytree(phantoms / "val" / "NORMAL", tmp_path / place)
    shutil.copytree(phantoms / "test" / "PNEUMONIA", tmp_path / "site" / "PNEUMONIA" / "inner")
    (tmp_path / "site" / "notes.txt").write_text("x")
    (tmp_path / "empty").mkdir()
    (tmp_path / "again").symlink_to(tmp_path / "site")
    labelled = read_labelled(tmp_path, PUBLISHED_CLASSES)
    assert set(labelled.groups) == {".", "again"}  # a/b/c has the same files as the top, again comes before site
    reasons = {passed.reason: passed.n for passed in labelled.passed_over}
    n_normal = len(list((phantoms / "val" / "NORMAL").iterdir()))
    assert reasons == {
        "copies inside of a second copy of the folder": n_normal,
        "entries outside of the class folders": 4,  # a/b/c/d, notes.txt, empty, site
    }


@pytest.mark.parametrize(
    ("made", "message"),
    [
        ((), "no image of the class NORMAL .* holds no folder"),
        (("site/NORMAL",), "no image of the class PNEUMONIA .*holds site.*with --classes"),
    ],
)
def test_folder_without_a_class_is_told(phantoms: Path, tmp_path: Path, made: tuple[str, ...], message: str) -> None:
    for place in made:
        shutil.copytree(phantoms / "val" / "NORMAL", tmp_path / place)
    with pytest.raises(DataError, match=message):
        read_labelled(tmp_path, PUBLISHED_CLASSES)
    with pytest.raises(DataError, match="nowhere: no such folder"):
        read_labelled(tmp_path / "nowhere", PUBLISHED_CLASSES)
