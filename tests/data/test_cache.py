import io
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

from pneumosearch._utils.atomic import replacing
from pneumosearch.data import cache
from pneumosearch.data.cache import Pixels, load_pixels, shrink, standardize
from pneumosearch.data.decoding import decode
from pneumosearch.data.manifest import Manifest, read_manifest
from pneumosearch.data.protocols import DataSource
from pneumosearch.errors import DataError


@pytest.fixture
def manifest(phantoms: Path, tmp_path: Path) -> Manifest:
    shutil.copytree(phantoms, tmp_path / "images")
    return read_manifest(tmp_path / "images")


def _grey(shape: tuple[int, int] = (40, 60)) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    return np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)


def _kept(folder: Path) -> list[Path]:
    """What is in a cache folder, but for the empty files by which processes wait for each other."""
    return [path for path in folder.iterdir() if path.suffix != ".lock" or path.stat().st_size]


def test_pixels_are_the_images_shrunk_in_order(manifest: Manifest, tmp_path: Path) -> None:
    part = manifest.part("test")
    pixels = load_pixels(part, 48, "area", tmp_path / "cache")
    assert pixels.array.shape == (len(part.images), 48, 48)
    for i in (0, len(part.images) - 1):
        assert np.array_equal(pixels.array[i], shrink(decode(part.path(part.images[i])), 48, "area"))


def test_second_start_maps_the_file_without_decoding(
    manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = load_pixels(manifest.part("test"), 32, "area", tmp_path / "cache")
    monkeypatch.setattr(cache, "decode", None)
    again = load_pixels(manifest.part("test"), 32, "area", tmp_path / "cache")
    assert isinstance(again.array, np.memmap)
    assert not again.array.flags.writeable
    assert np.array_equal(again.array, first.array)


def test_warning_of_the_image_library_is_logged_once_with_the_name_of_the_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(_grey()).save(tmp_path / "torn.jpeg", exif=exif)
    content = (tmp_path / "torn.jpeg").read_bytes()
    (tmp_path / "torn.jpeg").write_bytes(
        content.replace(b"Exif\0\0MM\0*\0\0\0\x08\0\x01", b"Exif\0\0MM\0*\0\0\0\x08\0\x09")
    )
    for _ in range(2):
        assert decode(tmp_path / "torn.jpeg").shape == (40, 60)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert caplog.messages[0].startswith(f"{tmp_path / 'torn.jpeg'}: Corrupt EXIF data. Expecting to read")


def test_nearest_is_what_the_published_script_sees() -> None:
    for shape in ((224, 224), (1317, 1857), (200, 301)):
        image = _grey(shape)
        expected = np.asarray(Image.fromarray(image).resize((150, 150), Image.Resampling.NEAREST))
        assert np.array_equal(shrink(image, 150, "nearest"), expected)


def test_area_is_the_mean_of_the_covered_pixels() -> None:
    image = _grey((64, 96))
    expected = image.reshape(32, 2, 32, 3).mean(axis=(1, 3))
    assert np.abs(shrink(image, 32, "area") - expected).max() <= 1


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "CMYK", "1"])
def test_every_mode_decodes_to_one_grey_channel(tmp_path: Path, mode: str) -> None:
    path = tmp_path / f"image.{'jpg' if mode == 'CMYK' else 'png'}"
    Image.fromarray(_grey()).convert("RGB").convert(mode).save(path)
    pixels = decode(path)
    assert pixels.shape == (40, 60)
    assert pixels.dtype == np.uint8


def test_sixteen_bits_keep_their_high_byte(tmp_path: Path) -> None:
    deep = (_grey().astype(np.uint16) << 8) + 7
    cv2.imwrite(str(tmp_path / "deep.png"), deep)
    assert np.array_equal(decode(tmp_path / "deep.png"), _grey())


def test_orientation_tag_is_ignored_as_the_published_script_does(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(_grey()).save(tmp_path / "turned.jpg", exif=exif)
    assert decode(tmp_path / "turned.jpg").shape == (40, 60)


def _spoilt(kind: str, good: bytes) -> bytes:
    gif = io.BytesIO()
    Image.fromarray(_grey()).save(gif, "GIF")
    return {"truncated": good[: len(good) // 2], "empty": b"", "text": b"hello", "gif": gif.getvalue()}[kind]


@pytest.mark.parametrize("kind", ["truncated", "empty", "text", "gif"])
def test_unreadable_image_is_named_and_left_out_only_on_request(manifest: Manifest, tmp_path: Path, kind: str) -> None:
    victim = manifest.part("test").images[3]
    path = manifest.folder / victim.name
    path.write_bytes(_spoilt(kind, path.read_bytes()))
    for _ in range(2):  # the second time the list is read back
        with pytest.raises(DataError, match=f"{victim.name}: cannot be decoded.*--skip-unreadable"):
            load_pixels(manifest.part("test"), 32, "area", tmp_path / "cache")
    pixels = load_pixels(manifest.part("test"), 32, "area", tmp_path / "cache", skip_unreadable=True)
    assert pixels.skipped == (victim.name,)
    assert len(pixels.array) == len(pixels.part.images) == len(manifest.part("test").images) - 1


def test_damaged_cache_file_is_made_again(manifest: Manifest, tmp_path: Path) -> None:
    first = np.array(load_pixels(manifest.part("test"), 32, "area", tmp_path / "cache").array)
    file = next((tmp_path / "cache").glob("*.npy"))
    file.write_bytes(file.read_bytes()[:-1000])
    assert np.array_equal(load_pixels(manifest.part("test"), 32, "area", tmp_path / "cache").array, first)


def test_processes_that_start_at_once_decode_once(manifest: Manifest, tmp_path: Path) -> None:
    decoded: list[int] = []  # told by those that decode

    def load(number: int) -> Pixels:
        part = read_manifest(manifest.folder).part("test")
        return load_pixels(part, 32, "area", tmp_path / "cache", progress=lambda done, n: decoded.append(number))

    with ThreadPoolExecutor(4) as pool:  # each with a lock of its own, as processes have
        pixels = list(pool.map(load, range(4)))
    assert len(set(decoded)) == 1
    assert all(np.array_equal(other.array, pixels[0].array) for other in pixels)


def test_cache_is_written_where_the_file_system_has_no_locks(
    manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: FileLock) -> None:
        raise NotImplementedError("FileSystem does not appear to support flock")

    monkeypatch.setattr(FileLock, "acquire", refuse)
    assert len(load_pixels(manifest.part("test"), 32, "area", tmp_path / "cache").array) > 0


def test_full_disk_is_told_before_anything_is_written(
    manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(DataError, match="needed for the pixel cache.*make room"):
        load_pixels(manifest.part("test"), 32, "area", tmp_path / "cache")
    assert _kept(tmp_path / "cache") == []


def test_disk_that_fills_up_while_writing_leaves_nothing(
    manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np.lib.format, "write_array_header_1_0", full)
    with pytest.raises(DataError, match="cannot be written .No space left on device"):
        load_pixels(manifest.part("test"), 32, "area", tmp_path / "cache")
    assert _kept(tmp_path / "cache") == []


@pytest.mark.parametrize(
    ("written", "message"), [(False, "cannot be written .No such file"), (True, "removed while it was made")]
)
def test_cache_folder_that_another_removes_is_told_and_made_again(
    manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: bool, message: str
) -> None:
    part, folder = manifest.part("test"), tmp_path / "cache"

    @contextmanager
    def removed(path: Path) -> Iterator[Path]:
        """Remove the folder before the file is begun, or once it has its name."""
        if not written:
            shutil.rmtree(folder)
        with replacing(path) as temporary:
            yield temporary
        shutil.rmtree(folder)

    with monkeypatch.context() as patch:
        patch.setattr(cache, "replacing", removed)
        with pytest.raises(DataError, match=message):
            load_pixels(part, 32, "area", folder)
    assert len(load_pixels(part, 32, "area", folder).array) == len(part.images)


def test_user_cache_serves_where_results_cannot_be_written(
    manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("a file, where a folder is wanted")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    load_pixels(manifest.part("test"), 32, "area", tmp_path / "file" / "cache")
    assert len(list((tmp_path / "home" / "pneumosearch").glob("*.npy"))) == 1


def test_full_size_images_decode(real_images: Path) -> None:
    folder = real_images.parent / "chest_xray_fullres"
    if not folder.is_dir():
        pytest.skip("no full-size X-rays beside the real ones")
    paths = sorted(folder.rglob("*.jpeg"), key=os.path.getsize)[::12]
    assert all(min(decode(path).shape) > 300 for path in paths)


def test_equalised_pixels_have_a_file_of_their_own_and_more_contrast(phantoms: Path, tmp_path: Path) -> None:
    part = read_manifest(phantoms).part("test")
    plain = load_pixels(part, 64, "area", tmp_path).array
    equalised = load_pixels(part, 64, "area", tmp_path, equalization="clahe").array
    assert equalised.shape == plain.shape
    assert np.std(equalised, axis=(1, 2)).mean() > np.std(plain, axis=(1, 2)).mean()
    assert len(list(tmp_path.glob("*.npy"))) == 2


def test_standardised_pixels_have_one_mean_and_deviation_whatever_the_exposure(phantoms: Path, tmp_path: Path) -> None:
    part = read_manifest(phantoms).part("test")
    plain = load_pixels(part, 64, "area", tmp_path).array
    standard = load_pixels(part, 64, "area", tmp_path, equalization="standardize").array
    assert np.abs(standard.mean(axis=(1, 2)) - 127.5).max() < 2
    assert np.abs(standard.std(axis=(1, 2)) - 51).max() < 4
    dimmer = (plain[0] * 0.5 + 20).astype(np.uint8)
    assert np.abs(standardize(dimmer).astype(int) - standard[0]).max() <= 2
    assert set(standardize(np.full((8, 8), 9, np.uint8)).ravel().tolist()) == {128}


def _write_down(fingerprint: str) -> None:
    """Take the place of the store that records openings of the test folder."""


def _deepened(manifest: Manifest, bits: int) -> Manifest:
    """Return the same images in PNG files of 16 bits of which only some count, as detectors give them."""
    for image in manifest.images:
        path = manifest.folder / image.name
        with Image.open(path) as opened:
            levels = np.asarray(opened.convert("L"), dtype=np.uint16)
        path.unlink()
        Image.fromarray(levels << (bits - 8)).save(path.with_suffix(".png"))
    return read_manifest(manifest.folder)


@pytest.mark.parametrize("bits", [12, 16])
def test_deep_images_of_a_folder_are_as_bright_as_ordinary_ones(manifest: Manifest, tmp_path: Path, bits: int) -> None:
    plain = np.array(load_pixels(manifest.part("test"), 32, "area", tmp_path / "cache").array)
    deep = DataSource(_deepened(manifest, bits), tmp_path / "cache")
    assert deep.bits == bits
    pixels = deep.sealed_test(32, write_down=_write_down)
    assert np.abs(pixels.array.astype(int) - plain).max() <= 1
    named = [path.name for path in _kept(tmp_path / "cache") if "-12bit-" in path.name]
    assert bool(named) == (bits == 12)  # those of 16 bits have the name that they had before bits were judged


def test_test_images_count_with_the_bits_of_the_others(manifest: Manifest, tmp_path: Path) -> None:
    deep = _deepened(manifest, 12)
    for image in deep.part("test").images:
        path = deep.folder / image.name
        with Image.open(path) as opened:
            levels = np.asarray(opened, dtype=np.uint16)
        Image.fromarray(levels // 16).save(path)
    pixels = DataSource(deep, tmp_path / "cache").sealed_test(32, write_down=_write_down)
    assert pixels.array.max() <= 16


def test_unreadable_files_are_left_out_on_request(manifest: Manifest, tmp_path: Path) -> None:
    images = manifest.part("test").images
    for image in images[:2]:
        (manifest.folder / image.name).unlink()
    (manifest.folder / images[0].name).symlink_to(tmp_path / "nowhere.jpeg")
    os.mkfifo(manifest.folder / images[1].name)
    (manifest.folder / images[2].name).write_bytes(b"no image")
    source = DataSource(manifest, tmp_path / "cache")
    with pytest.raises(DataError, match=f"{images[0].name}: cannot be read .* and 1 more; .*--skip-unreadable"):
        source.sealed_test(32, write_down=_write_down)
    source = DataSource(manifest, tmp_path / "cache", skip_unreadable=True)
    assert sorted(source.sealed_test(32, write_down=_write_down).skipped) == sorted(image.name for image in images[:3])
    assert source.fingerprint("test") == manifest.part("test").without(i.name for i in images[:2]).fingerprint


def test_reason_is_told_of_the_first_image_that_cannot_be_decoded(manifest: Manifest, tmp_path: Path) -> None:
    victim = manifest.part("test").images[0]
    (manifest.folder / victim.name).write_bytes(b"no image")
    with pytest.raises(DataError, match=f"{victim.name}: cannot be decoded .not a JPEG, .*image.; mend or remove it"):
        load_pixels(manifest.part("test"), 32, "area", tmp_path / "cache")
