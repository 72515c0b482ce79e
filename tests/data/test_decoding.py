import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from pneumosearch.data.decoding import decode, deep_bits

Grey = npt.NDArray[Any]


def _grey(most: int = 255, least: int = 0) -> Grey:
    return np.linspace(least, most, 40 * 60).round().reshape(40, 60)


def _close(found: Grey, wanted: Grey) -> bool:
    return bool(np.abs(found.astype(float) - wanted).max() <= 1)


def _deep_png(path: Path, levels: Grey, declared: int | None = None) -> Path:
    Image.fromarray(levels.astype(np.uint16)).save(path)
    if declared is not None:
        content = path.read_bytes()
        chunk = b"sBIT" + bytes([declared])
        added = struct.pack(">I", 1) + chunk + struct.pack(">I", zlib.crc32(chunk))
        path.write_bytes(content[:33] + added + content[33:])  # after the header
    return path


@pytest.mark.parametrize("ending", ["png", "bmp", "tif", "webp"])
def test_formats_without_loss_give_the_same_levels(tmp_path: Path, ending: str) -> None:
    Image.fromarray(_grey().astype(np.uint8)).save(tmp_path / f"image.{ending}", lossless=True)  # as WebP wants it
    assert np.array_equal(decode(tmp_path / f"image.{ending}"), _grey().astype(np.uint8))


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_bits_of_a_deep_image_are_judged_by_its_content(tmp_path: Path, bits: int) -> None:
    path = _deep_png(tmp_path / "deep.png", _grey(2**bits - 1))
    assert deep_bits(path) == bits
    assert _close(decode(path), _grey())


def test_bits_of_the_folder_count_where_they_are_more(tmp_path: Path) -> None:
    path = _deep_png(tmp_path / "dark.png", _grey(1000))
    assert decode(path, 12).max() == 1000 >> 4
    assert decode(path, 8).max() == 1000 >> 2


@pytest.mark.parametrize(("most", "declared", "wanted"), [(900, 12, 12), (4095, 12, 12), (65520, 12, 16)])
def test_declared_bits_of_a_png_count_unless_its_levels_are_scaled_up(
    tmp_path: Path, most: int, declared: int, wanted: int
) -> None:
    path = _deep_png(tmp_path / "deep.png", _grey(most), declared)
    assert deep_bits(path) == wanted
    assert _close(decode(path), _grey(most) / 2 ** (wanted - 8))


def test_declared_levels_of_a_tiff_count(tmp_path: Path) -> None:
    path = tmp_path / "deep.tif"
    Image.fromarray(_grey(900).astype(np.uint16)).save(path, tiffinfo={281: 4095})
    assert deep_bits(path) == 12
    assert _close(decode(path), _grey(900) / 16)


def test_deep_tiff_that_counts_from_white_is_turned(tmp_path: Path) -> None:
    path = tmp_path / "white.tif"
    Image.fromarray(_grey(4095).astype(np.uint16)).save(path, tiffinfo={262: 0})
    with Image.open(path) as image:
        if image.tag_v2[262] != 0:  # type: ignore[attr-defined]
            content = bytearray(path.read_bytes())
            at = content.index(struct.pack("<HHI", 262, 3, 1))
            content[at + 8] = 0
            path.write_bytes(content)
    assert _close(decode(path), 255 - _grey())


@pytest.mark.parametrize("most", [1.0, 4095.0])
def test_levels_of_a_tiff_may_be_fractions(tmp_path: Path, most: float) -> None:
    path = tmp_path / "float.tif"
    levels = (_grey() / 255 * most).astype(np.float32)
    levels[0, 0] = np.nan
    Image.fromarray(levels).save(path)
    assert _close(decode(path), _grey())


def test_deep_colour_image_is_as_bright_as_a_grey_one(tmp_path: Path) -> None:
    for bits in (12, 16):
        levels = _grey(2**bits - 1).astype(np.uint16)
        cv2.imwrite(str(tmp_path / "colour.png"), np.stack([levels] * 3, axis=-1))
        assert _close(decode(tmp_path / "colour.png"), _grey())


@pytest.mark.parametrize("ending", ["png", "jpeg"])
def test_ordinary_image_is_not_deep(tmp_path: Path, ending: str) -> None:
    Image.fromarray(_grey().astype(np.uint8)).save(tmp_path / f"image.{ending}")
    assert deep_bits(tmp_path / f"image.{ending}") is None
