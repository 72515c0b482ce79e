import os
from pathlib import Path

import pytest

from pneumosearch.data.scan import HIDDEN, OTHER_FORMAT, REPEATED_FOLDER, UNLISTED, Tally, find_images


def _write(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"content")


def test_every_readable_format_in_every_sub_folder_is_found(tmp_path: Path) -> None:
    names = [
        "a.JPEG",
        "b.jpg",
        "c.png",
        "d.bmp",
        "e.tif",
        "f.TIFF",
        "g.webp",
        "h.dcm",
        "VIRUS/i.png",
        "VIRUS/deep/j.png",
    ]
    _write(tmp_path, *names)
    assert find_images(tmp_path, Tally()) == sorted(names)


def test_what_is_passed_over_is_counted_by_reason(tmp_path: Path) -> None:
    _write(tmp_path, "a.png", "._a.png", "__MACOSX/._a.png", "Thumbs.db", "notes/read.txt", "notes/b.png")
    tally = Tally()
    assert find_images(tmp_path, tally, "train/NORMAL/") == ["a.png", "notes/b.png"]
    assert {(each.reason, each.n) for each in tally.summary()} == {(HIDDEN, 2), (OTHER_FORMAT, 2)}
    assert all(each.example.startswith("train/NORMAL/") for each in tally.summary())


def test_links_are_followed_once(tmp_path: Path) -> None:
    _write(tmp_path, "images/a.png", "elsewhere/b.png")
    (tmp_path / "images" / "more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "images" / "loop").symlink_to(tmp_path / "images")
    tally = Tally()
    assert find_images(tmp_path / "images", tally) == ["a.png", "more/b.png"]
    assert [(each.reason, each.example) for each in tally.summary()] == [(REPEATED_FOLDER, "loop")]


def test_dangling_link_is_an_image_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    assert find_images(tmp_path, Tally()) == ["gone.png"]


def test_file_without_ending_is_an_image_where_it_begins_as_dicom(tmp_path: Path) -> None:
    (tmp_path / "IM0001").write_bytes(bytes(128) + b"DICM")
    _write(tmp_path, "README")
    os.mkfifo(tmp_path / "pipe")  # which would never end
    assert find_images(tmp_path, Tally()) == ["IM0001"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may list every folder")
def test_folder_that_cannot_be_listed_is_counted(tmp_path: Path) -> None:
    _write(tmp_path, "a.png", "closed/b.png")
    (tmp_path / "closed").chmod(0)
    tally = Tally()
    assert find_images(tmp_path, tally) == ["a.png"]
    assert [each.reason for each in tally.summary()] == [UNLISTED]
    (tmp_path / "closed").chmod(0o700)
