import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from pneumosearch.data.decoding import decode
from pneumosearch.data.dicom import NoDicomSupportError
from pneumosearch.errors import DataError

pydicom = pytest.importorskip("pydicom")

Levels = npt.NDArray[Any]
RAMP = np.linspace(0, 4095, 40 * 60).round().reshape(40, 60).astype(np.uint16)


def _write(path: Path, levels: Levels = RAMP, **attributes: Any) -> Path:
    """Write a file of 12 bits in 16, as detectors do."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset(str(path), {}, file_meta=meta, preamble=bytes(128))
    values = {"Rows": levels.shape[0], "Columns": levels.shape[1], "SamplesPerPixel": 1, "PixelRepresentation": 0}
    values |= {"BitsAllocated": 16, "BitsStored": 12, "HighBit": 11, "PhotometricInterpretation": "MONOCHROME2"}
    for key, value in {**values, **attributes}.items():
        setattr(data, key, value)
    data.PixelData = levels.tobytes()
    data.save_as(path, enforce_file_format=True)
    return path


def _differs(found: Levels, wanted: Levels) -> float:
    return float(np.abs(found.astype(float) - wanted.clip(0, 255)).max())


def test_stored_bits_are_the_range_without_a_window(tmp_path: Path) -> None:
    assert _differs(decode(_write(tmp_path / "x.dcm", RAMP // 4)), RAMP / 4 / 4095 * 255) < 1


def test_monochrome1_is_inverted(tmp_path: Path) -> None:
    path = _write(tmp_path / "x.dcm", PhotometricInterpretation="MONOCHROME1")
    assert _differs(decode(path), 255 - RAMP / 4095 * 255) < 1


def test_first_window_counts_after_the_rescaling(tmp_path: Path) -> None:
    path = _write(
        tmp_path / "x.dcm", RescaleSlope=2, RescaleIntercept=-100, WindowCenter=[2000, 1], WindowWidth=[1001, 2]
    )
    shown = (2 * RAMP.astype(float) - 100 - 1999.5) / 1000 + 0.5
    assert _differs(decode(path), 255 * shown) < 1


@pytest.mark.parametrize("function", ["LINEAR_EXACT", "SIGMOID"])
def test_other_functions_of_windows(tmp_path: Path, function: str) -> None:
    path = _write(tmp_path / "x.dcm", WindowCenter=2000, WindowWidth=1000, VOILUTFunction=function)
    place = (RAMP.astype(float) - 2000) / 1000
    shown = place + 0.5 if function == "LINEAR_EXACT" else 1 / (1 + np.exp(-4 * place))
    assert _differs(decode(path), 255 * shown) < 1


def test_voi_lut_goes_before_a_window(tmp_path: Path) -> None:
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence

    table = Dataset()
    table.LUTDescriptor = [4096, 0, 16]
    table["LUTDescriptor"].VR = "US"
    entries = (np.arange(4096, dtype=np.float64) ** 2 / 4095**2 * 65535).astype(np.uint16)
    table.LUTData = entries.tolist()
    table["LUTData"].VR = "US"
    path = _write(tmp_path / "x.dcm", VOILUTSequence=Sequence([table]), WindowCenter=1, WindowWidth=2)
    assert _differs(decode(path), 255 * (RAMP.astype(float) / 4095) ** 2) < 1


def test_signed_values_have_their_range(tmp_path: Path) -> None:
    levels = RAMP.astype(np.int16) - 2048
    assert _differs(decode(_write(tmp_path / "x.dcm", levels, PixelRepresentation=1)), RAMP / 4095 * 255) < 1


def test_first_frame_counts(tmp_path: Path) -> None:
    frames = np.stack([RAMP, 4095 - RAMP])
    path = _write(tmp_path / "y.dcm", frames, Rows=40, Columns=60, NumberOfFrames=2)
    assert _differs(decode(path), RAMP / 4095 * 255) < 1


def test_missing_package_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _write(tmp_path / "x.dcm")
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(
        NoDicomSupportError, match=r"^.*x.dcm: DICOM needs pydicom: pip install 'pneumosearch\[dicom\]'$"
    ):
        decode(path)


def test_files_that_are_cut_short_are_told_with_their_name(tmp_path: Path) -> None:
    content = _write(tmp_path / "x.dcm").read_bytes()
    for n in (132, 200, 600, len(content) - 100):
        (tmp_path / "cut.dcm").write_bytes(content[:n])
        with pytest.raises(DataError, match=r"cut.dcm: [^\n]*$"):
            decode(tmp_path / "cut.dcm")


def test_picture_too_large_is_refused_by_its_header(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="60000 x 60000 pixels are too many"):
        decode(_write(tmp_path / "bomb.dcm", Rows=60000, Columns=60000))
