"""Fetching from a server on the loopback address: cut off, damaged, refused, by hand."""

import hashlib
import json
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pneumosearch.data.fetch import sources
from pneumosearch.data.fetch.fetch import Fetched, fetch
from pneumosearch.data.fetch.sources import Archive
from pneumosearch.errors import ConfigError, DataError
from pneumosearch.published import PUBLISHED_COUNTS
from tests.support.archives import KAGGLE, MENDELEY, content, ignore, images, remains, zipped
from tests.support.terminal import Terminal
from tests.support.web import Site, serving

PIECE = 1 << 16  # in which downloads are written


FILE = "/files/ChestXRay2017.zip"


LIST = "/datasets/rscbjbr9sj/files"


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A server that serves Mendeley's archive and Mendeley's list of files."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    archive = zipped(MENDELEY)
    with serving(Site(files={FILE: archive})) as site:
        details = {"download_url": site.url(FILE), "sha256_hash": hashlib.sha256(archive).hexdigest()}
        listed = [{"filename": "OCT2017.tar.gz"}, {"filename": "ChestXRay2017.zip", "content_details": details}]
        site.files[LIST] = json.dumps(listed).encode()
        monkeypatch.setattr(sources, "MENDELEY_API", site.url(f"{LIST}?folder_id=root&version=2"))
        monkeypatch.setattr(sources, "MENDELEY_ARCHIVE", Archive(site.url("/gone"), "0" * 64))
        yield site


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "here" / "chest_xray"


def test_mendeley_is_laid_out_as_it_parts_the_images_with_licence_and_citation(site: Site, folder: Path) -> None:
    steps: list[tuple[str, int, int | None]] = []
    fetched = fetch(folder, progress=lambda *step: steps.append(step))
    assert fetched.manifest.counts() == {"train": (2, 2), "val": (0, 0), "test": (1, 1)}
    assert images(folder) == sorted(
        name.removeprefix("chest_xray/") for name in MENDELEY if name[0] == "c" and "_Store" not in name
    )
    assert (folder / "train/NORMAL/IM-0115-0001.jpeg").read_bytes() == content("IM-0115-0001.jpeg")
    note = (folder / "SOURCE.txt").read_text()
    assert site.url(FILE) in note
    assert hashlib.sha256(site.files[FILE]).hexdigest() in note
    assert "CC BY 4.0" in note
    assert "doi:10.17632/rscbjbr9sj.2" in note
    assert not fetched.manifest.passed_over  # the note is no stranger in the folder
    assert remains(folder) == []
    size = len(site.files[FILE])
    assert ("download", size, size) in steps
    assert steps[-1] == ("unpack", 6, 6)


def test_a_download_that_breaks_off_asks_for_the_rest_only(site: Site, folder: Path) -> None:
    site.breaks_at = [10**9, 2 * PIECE, 4 * PIECE]  # the list of files comes first
    fetch(folder, progress=ignore)
    assert site.asked == ["", "", f"bytes={2 * PIECE}-", f"bytes={4 * PIECE}-"]
    assert len(images(folder)) == 6


def test_an_interrupted_download_is_resumed_by_the_next_call(site: Site, folder: Path) -> None:
    site.breaks_at = [3 * PIECE] * 3
    with pytest.raises(DataError, match=r"broke off after 0.2 MB .*; the same command resumes it$"):
        fetch(folder, progress=ignore, url=site.url(FILE))
    assert not folder.exists()
    assert remains(folder) == [".chest_xray.fetch"]
    site.asked.clear()
    site.breaks_at.clear()
    fetched = fetch(folder, progress=ignore, url=site.url(FILE), sha256=hashlib.sha256(site.files[FILE]).hexdigest())
    assert site.asked == [f"bytes={3 * PIECE}-"]
    assert "verified: sha256" in fetched.origin
    assert remains(folder) == []


@pytest.mark.parametrize("change", ["another file", "no ranges"])
def test_a_download_that_cannot_be_resumed_begins_again(site: Site, folder: Path, change: str) -> None:
    site.tags[FILE], site.breaks_at = '"one"', [3 * PIECE] * 2
    with pytest.raises(DataError, match="the same command resumes it"):
        fetch(folder, progress=ignore, url=site.url(FILE))
    site.breaks_at.clear()
    if change == "another file":
        site.tags[FILE], site.files[FILE] = '"two"', zipped([*MENDELEY, "chest_xray/train/NORMAL/IM-0116-0001.jpeg"])
    else:
        site.knows_ranges = False
    fetch(folder, progress=ignore, url=site.url(FILE))
    assert len(images(folder)) == (7 if change == "another file" else 6)


def test_a_download_that_was_whole_before_the_process_died_is_not_asked_for_again(site: Site, folder: Path) -> None:
    site.breaks_at = [3 * PIECE] * 2
    with pytest.raises(DataError, match="resumes"):
        fetch(folder, progress=ignore, url=site.url(FILE))
    (part,) = folder.parent.glob(".chest_xray.fetch/*.part")
    part.write_bytes(site.files[FILE])
    fetch(folder, progress=ignore, url=site.url(FILE))
    assert site.asked[-1] == f"bytes={len(site.files[FILE])}-"
    assert len(images(folder)) == 6


def test_a_wrong_checksum_leaves_nothing_and_says_what_to_do(site: Site, folder: Path) -> None:
    listed = json.loads(site.files[LIST])
    listed[1]["content_details"]["sha256_hash"] = "a" * 64
    site.files[LIST] = json.dumps(listed).encode()
    with pytest.raises(DataError, match=r"not the file with sha256 aaaa.* it is deleted, .* anew; by hand: download"):
        fetch(folder, progress=ignore)
    assert not folder.exists()
    assert remains(folder) == []
    with pytest.raises(DataError, match="not the file with sha256 bbbb"):
        fetch(folder, progress=ignore, url=site.url(FILE), sha256="b" * 64)


@pytest.mark.parametrize("answer", [b"<html>", b"[]", b'{"files": 1}', None])
def test_without_mendeleys_list_the_reported_address_serves(
    site: Site, folder: Path, monkeypatch: pytest.MonkeyPatch, answer: bytes | None
) -> None:
    archive = Archive(site.url(FILE), hashlib.sha256(site.files[FILE]).hexdigest())
    monkeypatch.setattr(sources, "MENDELEY_ARCHIVE", archive)
    if answer is None:
        del site.files[LIST]
    else:
        site.files[LIST] = answer
    fetch(folder, progress=ignore)
    assert len(images(folder)) == 6


def test_without_a_network_one_line_says_what_to_do_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    for name in ("MENDELEY_API", "MENDELEY_ARCHIVE"):
        url = f"http://127.0.0.1:{port}/{name}"
        monkeypatch.setattr(sources, name, url if name == "MENDELEY_API" else Archive(url, None))
    _, err = Terminal(tmp_path).call("data", "fetch", "my images", code=1)
    assert err == (
        f"error: 127.0.0.1:{port} gives no file (Connection refused); by hand: download ChestXRay2017.zip from "
        "https://data.mendeley.com/datasets/rscbjbr9sj/2 with a browser, then: pneumosearch data fetch 'my images' "
        "--url ChestXRay2017.zip\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_the_command_says_what_came_and_is_no_work_twice(site: Site, tmp_path: Path) -> None:
    terminal = Terminal(tmp_path)
    out, err = terminal.call("data", "fetch")
    assert "downloaded" in err
    assert "unpacked 6 of 6 images" in err
    assert f"chest_xray: from Mendeley Data, {site.url(FILE)}, verified: sha256" in out
    assert (
        "train: 2 NORMAL, 2 PNEUMONIA\ntest: 1 NORMAL, 1 PNEUMONIA\n6 images, other numbers than the published" in out
    )
    assert "Licence of the published images: CC BY 4.0" in out
    assert out.endswith("next: pneumosearch data check --data chest_xray\n")
    site.asked.clear()
    out, _ = terminal.call("data", "fetch", "chest_xray")
    assert out.startswith("chest_xray: holds the images already; nothing was fetched")
    assert site.asked == []
    assert terminal.called_json("data", "fetch")["already"] is True
    assert terminal.called_json("data", "check", "--data", "chest_xray")["passed_over"] == []


def test_secrets_in_an_address_are_not_kept(site: Site, folder: Path) -> None:
    fetch(folder, progress=ignore, url=site.url(FILE).replace("//", "//me:secret@") + "?token=a1b2c3")
    note = (folder / "SOURCE.txt").read_text()
    assert site.url(FILE) in note
    assert "secret" not in note
    assert "a1b2c3" not in note


def test_numbers_of_the_published_images_are_known_in_either_parting() -> None:
    class Counted:
        def __init__(self, counts: dict[str, tuple[int, int]]) -> None:
            self.counts = lambda: counts

    def as_published(counts: dict[str, tuple[int, int]]) -> bool:
        manifest: Any = Counted(counts)
        return Fetched(manifest, "").as_published

    assert as_published(PUBLISHED_COUNTS)
    assert as_published({"train": (1349, 3883), "val": (0, 0), "test": (234, 390)})
    assert not as_published({"train": (1349, 3883), "val": (0, 0), "test": (235, 389)})


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (b"<!DOCTYPE html><p>Sign in", "neither a zip nor a tar archive; it is a web page"),
        (zipped(MENDELEY[:4]), "no data set in it; wanted train and test"),
        (zipped([f"{lab}/{n}" for lab in "ab" for n in MENDELEY[2:8]]), r"several data sets \(a/chest_xray, b/chest"),
        (zipped(MENDELEY).replace(content(MENDELEY[3])[100:200], bytes(100)), "a damaged archive"),
    ],
)
def test_what_is_no_archive_of_the_images_is_refused_and_asked_for_again(
    site: Site, folder: Path, file: bytes, message: str
) -> None:
    whole, site.files[FILE] = site.files[FILE], file
    with pytest.raises(DataError, match=message):
        fetch(folder, progress=ignore, url=site.url(FILE))
    assert remains(folder) == []
    site.files[FILE] = whole
    fetch(folder, progress=ignore, url=site.url(FILE))
    assert len(images(folder)) == 6


def test_folders_and_arguments_that_cannot_serve(folder: Path, phantoms: Path, tmp_path: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "letter.txt").touch()
    with pytest.raises(DataError, match="exists and is not empty"):
        fetch(folder, progress=ignore, url="x.zip")
    with pytest.raises(DataError, match="is a file"):
        fetch(folder / "letter.txt", progress=ignore)
    with pytest.raises(DataError, match="holds phantoms"):
        fetch(phantoms, progress=ignore)
    with pytest.raises(DataError, match=r"--url x\.zip: no such file"):
        fetch(tmp_path / "new", progress=ignore, url="x.zip")
    with pytest.raises(ConfigError, match="wanted https://"):
        fetch(tmp_path / "new", progress=ignore, url="ftp://host/x.zip")
    with pytest.raises(ConfigError, match="64 hexadecimal digits"):
        fetch(tmp_path / "new", progress=ignore, url="x.zip", sha256="abc")
    (tmp_path / "x.zip").write_bytes(zipped(MENDELEY))
    with pytest.raises(DataError, match="its sha256 is"):
        fetch(tmp_path / "new", progress=ignore, url=str(tmp_path / "x.zip"), sha256="a" * 64)
    assert not (tmp_path / "new").exists()


def test_a_disk_without_room_keeps_the_download(site: Site, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil
    from collections import namedtuple

    usage = namedtuple("usage", "total used free")
    with monkeypatch.context() as patched:
        free = iter((10**9, 0))  # before the download, and after it
        patched.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9, next(free)))
        with pytest.raises(DataError, match=r"the disk has 0.0 GB free"):
            fetch(folder, progress=ignore, url=site.url(FILE))
    site.asked.clear()
    fetch(folder, progress=ignore, url=site.url(FILE))
    assert site.asked == []


def test_kagglehub_brings_kaggles_copy(
    site: Site, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kaggle_env = pytest.importorskip("kagglesdk.kaggle_env")
    for name in ("HOME", "KAGGLE_CONFIG_DIR", "KAGGLEHUB_CACHE"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.setattr(kaggle_env, "get_endpoint", lambda _: site.url(""))
    monkeypatch.setattr("kagglesdk.kaggle_http_client.get_endpoint", lambda _: site.url(""))
    site.files["/v1/datasets.DatasetApiService/DownloadDataset"] = zipped(KAGGLE)
    fetched = fetch(folder, progress=ignore, source="kaggle")
    assert fetched.manifest.counts() == {"train": (1, 1), "val": (1, 1), "test": (1, 1)}
    assert "Kaggle, https://www.kaggle.com/datasets/paultimothymooney/chest-xray-pneumonia" in fetched.origin
    site.files.clear()  # the next folder is filled from kagglehub's cache
    assert len(images(fetch(tmp_path / "second", progress=ignore, source="kaggle").manifest.folder)) == 6
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path / "empty"))
    with pytest.raises(DataError, match=r"Kaggle gives no images \(HTTP 404 .*by hand: download archive\.zip"):
        fetch(tmp_path / "third", progress=ignore, source="kaggle")


def test_without_kagglehub_its_extra_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    with pytest.raises(ConfigError, match=r"pip install 'pneumosearch\[kaggle\]'"):
        fetch(folder, progress=ignore, source="kaggle")
