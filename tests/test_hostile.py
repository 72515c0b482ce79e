"""Hostile inputs: the first few of each kind, and those that once did harm. `scripts/fuzz` explores further."""

import ast
import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image
from pydantic import ValidationError

from fuzz import TARGETS, feed, feed_many, guided
from pneumosearch.config import first_problem
from pneumosearch.data.decoding import decode
from pneumosearch.data.manifest import read_manifest
from pneumosearch.errors import ConfigError, DataError, StoreError, as_message
from pneumosearch.inference.predict import file_classifier
from pneumosearch.records.epoch import EpochMetrics
from pneumosearch.report.summary import spreadsheet_safe
from pneumosearch.storage import opening
from pneumosearch.storage.store import Store
from pneumosearch.studyfile import read_study_file
from tests.conftest import ROOT
from tests.support import hostile
from tests.support.fakes import a_description
from tests.support.terminal import Terminal


@pytest.mark.parametrize(
    ("target", "n"), [("study-file", 40), ("image", 40), ("folder", 2), ("trial", 5), ("command", 8)]
)
def test_first_inputs_of_each_kind_do_no_harm(target: str, n: int) -> None:
    assert [found for number in range(n) if (found := feed(target, number))] == []


# What `scripts/fuzz` or chance once found, by number.
@pytest.mark.parametrize(("target", "number"), [pytest.param("image", 129, id="jpeg-with-a-corrupt-exif-block")])
def test_input_that_once_did_harm_does_no_more(target: str, number: int) -> None:
    assert feed(target, number) is None


def test_harm_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TARGETS, "image", lambda draw, folder: dict[str, str]()["nothing"])
    found = feed("image", 3)
    assert found is not None
    assert (found.number, found.what, "KeyError" in found.detail) == (3, "traceback", True)
    monkeypatch.setitem(TARGETS, "image", lambda draw, folder: __import__("time").sleep(9))
    slow = feed("image", 4, seconds=0.1)
    assert slow is not None
    assert slow.what == "hang"


def _ends_the_process(draw: object, folder: Path) -> None:
    os.abort()


@pytest.mark.slow
def test_crash_of_the_interpreter_is_noticed_and_the_rest_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    *found, peak = feed_many("study-file", range(3))
    assert found == []
    assert isinstance(peak, int)
    assert peak > 0


def test_pipe_device_and_loop_are_told_instead_of_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "device.png").symlink_to("/dev/zero")
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    for name in ("pipe.png", "device.png", "loop.png"):
        with pytest.raises(DataError, match=name):
            decode(tmp_path / name)


@pytest.mark.parametrize("size", [(60_000, 60_000), (9_400, 9_600), (2**31 - 1, 1)])
def test_image_whose_header_promises_too_much_is_refused(tmp_path: Path, size: tuple[int, int]) -> None:
    class Draw:
        def choice(self, sizes: object) -> tuple[int, int]:
            return size

    (tmp_path / "bomb.png").write_bytes(hostile.huge(Draw()))  # type: ignore[arg-type]
    with pytest.raises(DataError, match="bomb.png: (cannot be decoded|not a JPEG)"):
        decode(tmp_path / "bomb.png")


def test_odd_images_have_defined_pixels(tmp_path: Path) -> None:
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(grey).save(tmp_path / "turned.png", exif=exif)
    assert np.array_equal(decode(tmp_path / "turned.png"), grey)  # as stored
    Image.fromarray(grey.astype(np.uint16) * 1024).save(tmp_path / "deep.png")
    assert np.array_equal(decode(tmp_path / "deep.png"), grey * 4)  # the upper byte
    Image.fromarray(grey).save(tmp_path / "moving.png", save_all=True, append_images=[Image.fromarray(grey + 9)])
    assert np.array_equal(decode(tmp_path / "moving.png"), grey)  # the first picture
    Image.fromarray(np.stack([255 - grey] * 3 + [0 * grey], -1), "CMYK").save(tmp_path / "ink.jpeg", quality=100)
    assert np.abs(decode(tmp_path / "ink.jpeg").astype(int) - grey).max() < 9
    Image.fromarray(grey).save(tmp_path / "gif.png", format="GIF")
    with pytest.raises(DataError, match="gif.png: not a JPEG, PNG, BMP, TIFF, WebP or DICOM image"):
        decode(tmp_path / "gif.png")


def test_study_file_of_endless_depth_is_told(tmp_path: Path) -> None:
    (tmp_path / "deep.toml").write_text("fixed = " + "[" * 5000)
    with pytest.raises(ConfigError, match="deep.toml: cannot be read"):
        read_study_file(tmp_path / "deep.toml")


def test_study_of_another_version_is_told_in_one_line(store: Store) -> None:
    study = store.open_study("old", "search", "accuracy", {}, a_description())
    study.set_user_attr("data", {"folder": 3})
    with pytest.raises(StoreError, match="^study 'old': written by another version of pneumosearch .[^\n]*$"):
        store.record("old")
    study.set_user_attr("data", a_description().model_dump(mode="json"))
    study.set_user_attr("spec", {"rungs": [float("nan")]})
    with pytest.raises(StoreError, match="^study 'old': written by another version .*not JSON compliant[^\n]*$"):
        store.record("old")
    study.set_user_attr("spec", {})
    trial = study.ask()
    trial.set_user_attr(
        "history", [{"epoch": 1, "train_accuracy": 0.5, "train_loss": 1, "learning_rate": 0.1, "seconds": 1}]
    )
    with pytest.raises(StoreError, match="^trial 0: written by another version .*neither validation nor test[^\n]*$"):
        store.record("old")


def test_numbers_of_a_stored_epoch_are_finite_and_keys_are_shown_without_line_ends() -> None:
    epoch = {"epoch": 1, "train_accuracy": 0.5, "train_loss": 1, "validation_accuracy": 0.5, "validation_loss": 1}
    epoch |= {"learning_rate": 0.1, "seconds": 1.0}
    EpochMetrics.model_validate(epoch)
    with pytest.raises(ValidationError, match="finite number"):
        EpochMetrics.model_validate({**epoch, "train_loss": float("nan")})
    with pytest.raises(ValidationError) as caught:
        EpochMetrics.model_validate({**epoch, "a\n\x1b[2Jb": 1})
    assert first_problem(caught.value).isprintable()


def test_message_holds_no_password_wherever_a_url_was_typed() -> None:
    assert as_message("mysql:/me:S3CR3T@db/x: no such file") == "mysql:/***@db/x: no such file"
    assert as_message("s3://KEY:S3CR3T@b/x\x1b[2J") == "s3://***@b/x\N{REPLACEMENT CHARACTER}[2J"
    for plain in ("postgresql://me:***@db/x: no answer", "http://host:80/a@b", "C:/a b:c@d", "at 12:30:01 a@b"):
        assert as_message(plain) == plain


def test_cells_of_a_spreadsheet_stay_text() -> None:
    assert [spreadsheet_safe(text) for text in ("=1+1", "@x", "-1", "+1", "\t=1", "plain", "")] == [
        "'=1+1", "'@x", "'-1", "'+1", "'\N{REPLACEMENT CHARACTER}=1", "plain", "",
    ]  # fmt: skip
    assert spreadsheet_safe("a\udcffb\x1b[2J") == "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}[2J"
    assert (spreadsheet_safe(-1.5), spreadsheet_safe(None)) == (-1.5, None)


def test_names_that_are_no_text_are_listed(phantoms: Path, tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        for kind in ("NORMAL", "PNEUMONIA"):
            (tmp_path / split / kind).mkdir(parents=True)
            image = next((phantoms / "train" / kind).glob("*.*"))
            (tmp_path / split / kind / os.fsdecode(b"person1_\xff_\x1b[2J.png")).write_bytes(image.read_bytes())
    command, page = ("data", "audit", "--data", str(tmp_path)), tmp_path / "audit.html"
    terminal = Terminal(tmp_path)
    said = terminal.run(*command, "--json")
    json.loads(said[0])
    assert "\x1b[2J" not in "".join((*said, *terminal.call(*command), *terminal.call(*command, "--html", str(page))))
    assert "\x1b" not in page.read_text(encoding="utf-8")
    assert len(read_manifest(tmp_path).images) == 6


@pytest.mark.parametrize("command", [["report"], ["study", "--data", "nowhere"], ["worker"], ["report", "--json"]])
def test_password_of_a_storage_is_never_shown(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "OPENING_PATIENCE", 0.0)
    where = ["--storage", "postgresql://me:S3CR3T@127.0.0.1:1/studies"]
    out, err = Terminal(tmp_path).call(*command, *where, code=1)
    assert "S3CR3T" not in out + err
    assert not any("S3CR3T" in path.read_text(errors="replace") for path in tmp_path.rglob("*") if path.is_file())


def test_keras_file_with_code_is_refused(tmp_path: Path) -> None:
    code = {"class_name": "__lambda__", "config": {"code": "4w==", "defaults": None, "closure": None}}
    layer = {"class_name": "Lambda", "config": {"name": "l", "function": code, "arguments": {}}}
    config: dict[str, object] = {"module": "keras", "class_name": "Sequential", "registered_name": None}
    config["config"] = {"name": "s", "layers": [{"module": "keras.layers", "registered_name": None, **layer}]}
    with zipfile.ZipFile(tmp_path / "bad.keras", "w") as archive:
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.15.1"}))
        archive.writestr("model.weights.h5", b"")
    with pytest.raises(ConfigError, match="bad.keras"):
        file_classifier(tmp_path / "bad.keras")


def test_nothing_is_ever_unpickled() -> None:
    for path in sorted((ROOT / "pneumosearch").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {name.split(".")[0] for name in names} & {"pickle", "cloudpickle", "joblib", "dill", "shelve"}, (
                path
            )
            if isinstance(node, ast.keyword) and node.arg in ("allow_pickle", "safe_mode"):
                wanted = node.arg == "safe_mode"
                assert isinstance(node.value, ast.Constant), path
                assert node.value.value is wanted, path


def test_guided_fuzzing_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fuzz.find_spec", lambda name: None)
    with pytest.raises(typer.BadParameter, match="needs the package atheris"):
        guided(1)


@pytest.mark.slow
def test_guided_fuzzing_feeds_both_targets() -> None:
    pytest.importorskip("atheris", reason="atheris is not installed")
    found = guided(2)
    assert all(each["cases"] > 10 and not each["harm"] for each in found.values())
    assert list(found) == ["study-file", "image"]
