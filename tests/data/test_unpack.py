"""Unpacking: archives of both published layouts, and hostile ones."""

import contextlib
import io
import re
import stat
import tarfile
import tempfile
import warnings
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pneumosearch.data.fetch.fetch import fetch
from pneumosearch.data.fetch.unpack import unpack
from pneumosearch.errors import DataError
from tests.support.archives import KAGGLE, MENDELEY, content, ignore, images, zipped


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "here" / "chest_xray"


def test_kaggles_archive_is_unpacked_once_with_its_val_folder(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "archive.zip").write_bytes(zipped(KAGGLE))
    fetched = fetch(folder, progress=ignore, url=str(tmp_path / "archive.zip"))
    assert fetched.manifest.counts() == {"train": (1, 1), "val": (1, 1), "test": (1, 1)}
    assert {passed.reason: passed.n for passed in fetched.passed_over} == {
        "hidden files and folders": 1,
        "second copies of the data set": 4,
    }
    assert (tmp_path / "archive.zip").exists()
    assert "archive.zip, not verified" in fetched.origin


def test_data_set_deep_in_a_tar_with_other_images_is_found(folder: Path, tmp_path: Path) -> None:
    names = ["ZhangLabData/CellData/" + name for name in MENDELEY[2:8]]
    with tarfile.open(tmp_path / "lab.tar.gz", "w:gz") as archive:
        for name in [*names, "ZhangLabData/CellData/OCT/train/CNV/CNV-1-1.jpeg", "ZhangLabData/train/NORMAL/link.jpeg"]:
            member = tarfile.TarInfo(name)
            if name.endswith("link.jpeg"):
                member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
                archive.addfile(member)
            else:
                member.size = len(content(name))
                archive.addfile(member, io.BytesIO(content(name)))
    fetched = fetch(folder, progress=ignore, url=str(tmp_path / "lab.tar.gz"))
    assert len(images(folder)) == 6
    assert {passed.reason for passed in fetched.passed_over} == {
        "entries outside of the class folders",
        "links and other entries that are no files",
    }


@pytest.mark.parametrize(
    "name",
    [
        "chest_xray/train/NORMAL/../../../../../out.jpeg",
        "../chest_xray/train/NORMAL/out.jpeg",
        "/chest_xray/train/NORMAL/out.jpeg",
        "C:/chest_xray/train/NORMAL/out.jpeg",
        "chest_xray\\train\\NORMAL\\..\\..\\..\\..\\out.jpeg",
        "//server/share/train/NORMAL/out.jpeg",
    ],
)
def test_what_escapes_the_folder_is_not_unpacked(folder: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "evil.zip").write_bytes(zipped([*MENDELEY[2:8], name]))
    fetched = fetch(folder, progress=ignore, url=str(tmp_path / "evil.zip"))
    assert [passed.reason for passed in fetched.passed_over] == ["names that lead out of the folder"]
    assert not list(tmp_path.rglob("out.jpeg"))
    assert len(images(folder)) == 6


STEPS = st.sampled_from(
    ["..", ".", "", "chest_xray", "train", "test", "NORMAL", "PNEUMONIA", "C:", "~", "x.jpeg", "\\", "..\\..", "\x00"]
)


@settings(max_examples=30)
@given(names=st.lists(st.lists(STEPS, min_size=1, max_size=7).map("/".join), max_size=6))
def test_whatever_the_names_nothing_is_written_but_images_in_class_folders(names: list[str]) -> None:
    with tempfile.TemporaryDirectory() as above:
        place, archive = Path(above) / "a" / "b" / "images", Path(above) / "archive.zip"
        with zipfile.ZipFile(archive, "w") as file, warnings.catch_warnings(action="ignore"):  # of names that repeat
            for name in [*MENDELEY[2:8], *names]:
                file.writestr(zipfile.ZipInfo(name), b"image")
        with contextlib.suppress(DataError):  # such as of a name that is a file and a folder
            unpack(archive, place, ignore)
        image = re.compile(r"a/b/images/(train|val|test)/(NORMAL|PNEUMONIA)/.+")
        found = {path.relative_to(above).as_posix() for path in Path(above).rglob("*") if path.is_file()}
        assert all(map(image.fullmatch, found - {"archive.zip"})), found


def test_a_link_in_a_zip_is_not_unpacked(folder: Path, tmp_path: Path) -> None:
    out = io.BytesIO(zipped(MENDELEY[2:8]))
    with zipfile.ZipFile(out, "a") as archive:
        link = zipfile.ZipInfo("chest_xray/train/NORMAL/link.jpeg")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    (tmp_path / "evil.zip").write_bytes(out.getvalue())
    fetched = fetch(folder, progress=ignore, url=str(tmp_path / "evil.zip"))
    assert [passed.reason for passed in fetched.passed_over] == ["links and other entries that are no files"]
    assert len(images(folder)) == 6
