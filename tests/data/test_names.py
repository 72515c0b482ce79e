import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pneumosearch.data.names import path_below, path_of, printable_name, storable_path

NAMES = st.binary(min_size=1, max_size=40).map(lambda raw: os.fsdecode(raw.replace(b"\0", b"_")))


@given(NAMES)
def test_name_is_utf8_without_control_characters(name: str) -> None:
    shown = printable_name(name)
    assert json.loads(json.dumps(shown.encode("utf-8").decode("utf-8"))) == shown
    assert not any(char in shown for char in "\n\r\x1b\x7f\x85\u2028")


@pytest.mark.parametrize("name", ["IM-0115-0001.jpeg", "train/NORMAL/Röntgen 1 (2).png", "a%FFb.png", "画像.jpeg", "x"])
def test_printable_name_stays(name: str) -> None:
    assert printable_name(name) == name


def test_names_that_differ_stay_different() -> None:
    raw = (b"a\xff.png", b"a\xfe.png", b"a%FF.png", b"a\xff", b"a\n.png")
    assert len({printable_name(os.fsdecode(name)) for name in raw}) == len(raw)
    assert printable_name(os.fsdecode(b"a\xff.png")).endswith(".png")


def test_file_is_found_again_by_its_printable_name(tmp_path: Path) -> None:
    raw = os.fsdecode(b"sub\xfe/a\xff.png")
    (tmp_path / raw).parent.mkdir()
    (tmp_path / raw).write_text("here")
    assert path_below(tmp_path, printable_name(raw)).read_text() == "here"
    assert path_below(tmp_path, "sub/none.png") == tmp_path / "sub" / "none.png"


@pytest.mark.parametrize("raw", [b"/data/chest_xray", b"/d\xc3\xa4ta/%41", b"/d\xff ta/%41"])
def test_folder_survives_storing(raw: bytes) -> None:
    folder = Path(os.fsdecode(raw))
    stored = storable_path(folder)
    stored.encode("utf-8")
    assert path_of(stored) == folder
