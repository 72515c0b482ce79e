"""DICOM files as grey levels, by pydicom, which comes with the extra `dicom`."""

import io
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from pneumosearch.errors import DataError

Levels = npt.NDArray[np.float64]

_OFFSET, _MARK = 128, b"DICM"
_LUMA: Final = (0.299, 0.587, 0.114)  # shares of red, green and blue, as Pillow's


class NoDicomSupportError(DataError):
    """A DICOM file is met, and the extra `dicom` is not installed."""


def is_dicom(content: bytes) -> bool:
    """Tell whether a file is DICOM, by its first bytes."""
    return content[_OFFSET : _OFFSET + len(_MARK)] == _MARK


def grey_levels(content: bytes, most_pixels: int | None) -> npt.NDArray[np.uint8]:
    """Return the first picture of a DICOM file, (height, width), as a viewer would show it.

    Stored values are rescaled, then windowed: by the first VOI LUT, else by the first window, else over all the bits
    that the file says are stored. MONOCHROME1, where the lowest value is white, is inverted.

    Args:
        content: Of the file.
        most_pixels: Refuse a larger picture by its header.

    Raises:
        NoDicomSupportError: pydicom is not installed.
        ValueError: It has no picture that can be decoded.
    """
    pydicom = _pydicom()
    try:
        data = pydicom.dcmread(io.BytesIO(content))
        if most_pixels and int(data.Rows) * int(data.Columns) > most_pixels:
            raise ValueError(f"{data.Rows} x {data.Columns} pixels are too many")
        picture = pydicom.pixels.pixel_array(data, index=0)
        if picture.ndim == 3:
            return _grey_of_colour(picture)
        fractions = _windowed(pydicom, data, picture)
    except (AttributeError, KeyError, IndexError, TypeError, RuntimeError, NotImplementedError) as error:
        raise ValueError(str(error).splitlines()[0] if str(error) else type(error).__name__) from error
    except pydicom.errors.InvalidDicomError as error:
        raise ValueError(str(error)) from error
    grey = (255 * fractions).round().clip(0, 255).astype(np.uint8)
    return 255 - grey if data.PhotometricInterpretation == "MONOCHROME1" else grey


def _pydicom() -> Any:
    try:
        import pydicom
        import pydicom.pixels
    except ImportError as error:
        raise NoDicomSupportError("DICOM needs pydicom: pip install 'pneumosearch[dicom]'") from error
    return pydicom


def _grey_of_colour(picture: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    grey = (picture[..., :3].astype(np.float64) @ np.array(_LUMA)).round()
    return np.asarray(grey.clip(0, 255), dtype=np.uint8)


def _windowed(pydicom: Any, data: Any, picture: npt.NDArray[Any]) -> Levels:
    """Return the picture as fractions between the lowest and the highest grey level, some beyond."""
    values = np.asarray(pydicom.pixels.apply_modality_lut(picture, data), dtype=np.float64)
    if data.get("VOILUTSequence"):
        entries = data.VOILUTSequence[0]
        shown = pydicom.pixels.apply_voi(values.astype(np.int64), data, index=0)
        return np.asarray(shown / (2.0 ** int(entries.LUTDescriptor[2]) - 1), dtype=np.float64)
    if data.get("WindowWidth") is not None and data.get("WindowCenter") is not None:
        shape = str(data.get("VOILUTFunction") or "LINEAR").upper()
        return _window(values, _first(data.WindowCenter), _first(data.WindowWidth), shape)
    low, high = _stored_range(pydicom, data)
    return np.asarray((values - low) / (high - low), dtype=np.float64)


def _first(value: Any) -> float:
    return float(value[0] if hasattr(value, "__len__") and not isinstance(value, str) else value)


def _window(values: Levels, centre: float, width: float, shape: str) -> Levels:
    """Apply a window as DICOM PS3.3 C.11.2.1.2 and C.11.2.1.3 define it."""
    if shape == "SIGMOID":
        return np.asarray(1 / (1 + np.exp(np.clip(-4 * (values - centre) / width, -700, 700))), dtype=np.float64)
    if shape == "LINEAR_EXACT":
        return np.asarray((values - centre) / width + 0.5, dtype=np.float64)
    if width <= 1:
        return np.asarray(values > centre - 0.5, dtype=np.float64)
    return np.asarray((values - (centre - 0.5)) / (width - 1) + 0.5, dtype=np.float64)


def _stored_range(pydicom: Any, data: Any) -> tuple[float, float]:
    """Return the rescaled values of the lowest and the highest number that the stored bits can hold."""
    bits = int(data.BitsStored)
    signed = int(data.get("PixelRepresentation", 0)) == 1
    ends = np.array([[-(2 ** (bits - 1)), 2 ** (bits - 1) - 1]] if signed else [[0, 2**bits - 1]])
    if data.get("ModalityLUTSequence"):
        return 0.0, float(2 ** int(data.ModalityLUTSequence[0].LUTDescriptor[2]) - 1)
    low, high = np.sort(np.asarray(pydicom.pixels.apply_rescale(ends, data), dtype=np.float64)[0])
    return float(low), float(high)
