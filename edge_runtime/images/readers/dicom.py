"""DICOM to 8-bit greyscale, through pydicom (extra `dicom`).

    stored values -> modality LUT or rescale -> VOI LUT or window -> 0..255, MONOCHROME1 inverted

Source: DICOM PS3.3 C.7.6.3 (image pixel), C.11.1 (modality LUT), C.11.2 (VOI LUT).
"""

from __future__ import annotations

import contextlib
import io
import math
import re
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from edge_runtime.errors import ErrorCode, ImageError
from edge_runtime.images.readers.facts import ImageFacts

if TYPE_CHECKING:
    from numpy.typing import NDArray

REQUIRES = "pip install 'cxr-edge[dicom]'"
REQUIRES_LOSSLESS = "pip install 'cxr-edge[dicom-jpeg-lossless]'"

# gdcm ends the whole process on some damaged files (an uncaught C++ exception); see the fuzz test.
_UNSAFE_PLUGINS = frozenset({"gdcm"})


def is_available() -> bool:
    import importlib.util

    return importlib.util.find_spec("pydicom") is not None


def read(data: bytes, max_pixels: int) -> tuple[Image.Image, ImageFacts]:
    """Decode one single-frame greyscale DICOM image to mode "L", with its facts.

    Raises:
        ImageError: pydicom or a decoder is missing, the object holds no single greyscale image,
            or it is damaged.
    """
    if not is_available():
        raise ImageError(ErrorCode.UNSUPPORTED_FORMAT, f"reading DICOM needs: {REQUIRES}")
    import pydicom

    # pydicom converts an element when it is first looked at, and a damaged one makes it raise
    # nearly anything, at any access.
    try:
        dataset = pydicom.dcmread(io.BytesIO(data))
        _check(dataset, max_pixels)
        facts = _facts(dataset)
        inverted = dataset.PhotometricInterpretation == "MONOCHROME1"
    except ImageError:
        raise
    except Exception as error:
        detail = str(error) or type(error).__name__
        raise ImageError(
            ErrorCode.CORRUPT_IMAGE, f"damaged or truncated DICOM: {detail}"
        ) from error
    try:
        values = _display_values(dataset)
    except ImageError:
        raise
    except Exception as error:
        raise _undecodable(dataset, error) from error
    if values.ndim != 2 or values.size == 0:
        raise ImageError(ErrorCode.CORRUPT_IMAGE, f"DICOM pixels have the shape {values.shape}")
    return Image.fromarray(255 - values if inverted else values), facts


def _check(dataset: Any, max_pixels: int) -> None:
    """Refuse by name what is no single greyscale image, before anything is decoded."""
    name = getattr(getattr(dataset, "SOPClassUID", None), "name", "unknown")
    if not any(key in dataset for key in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        raise ImageError(
            ErrorCode.UNSUPPORTED_PIXELS, f"the DICOM object holds no image (it is: {name})"
        )
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    frames = int(dataset.get("NumberOfFrames") or 1)
    photometric = str(dataset.PhotometricInterpretation)
    if frames > 1:
        raise ImageError(
            ErrorCode.UNSUPPORTED_PIXELS, f"the DICOM object has {frames} frames ({name}), not one"
        )
    if rows * columns > max_pixels:
        raise ImageError(
            ErrorCode.IMAGE_TOO_LARGE,
            f"{columns} x {rows} pixels is more than the limit of {max_pixels / 1e6:.0f} million",
        )
    if photometric not in ("MONOCHROME1", "MONOCHROME2") or "PixelData" not in dataset:
        raise ImageError(
            ErrorCode.UNSUPPORTED_PIXELS,
            f"DICOM pixels are {photometric} ({name}); only integer MONOCHROME1 and MONOCHROME2 "
            "are read",
        )


def _display_values(dataset: Any) -> NDArray[np.uint8]:
    """(rows, columns) uint8, before MONOCHROME1 is inverted.

    Rule: the first VOI LUT, else the first window, else the image's own smallest to largest value.
    """
    from pydicom.pixels import apply_modality_lut, apply_voi

    pixels = _stored_values(dataset)
    values = apply_modality_lut(pixels, dataset)
    if dataset.get("VOILUTSequence"):
        table = dataset.VOILUTSequence[0].LUTDescriptor
        looked_up = apply_voi(values.astype(pixels.dtype), dataset)
        return _scale(looked_up.astype(np.float64), 0, 2 ** int(table[2]) - 1)
    centre, width = _first(dataset.get("WindowCenter")), _first(dataset.get("WindowWidth"))
    floats = np.asarray(values, dtype=np.float64)
    if centre is not None and width is not None:
        function = str(dataset.get("VOILUTFunction") or "LINEAR").upper()
        return _window(floats, centre, width, function)
    return _scale(floats, float(floats.min()), float(floats.max()))


def _stored_values(dataset: Any) -> NDArray[Any]:
    """(rows, columns) as stored, by the first decoder that can.

    Raises:
        ImageError: No decoder for the transfer syntax is installed.
    """
    from pydicom.pixels import get_decoder

    syntax = dataset.file_meta.TransferSyntaxUID
    decoder = get_decoder(syntax)
    if decoder.is_native:
        return np.asarray(decoder.as_array(dataset, raw=True)[0])
    plugins = [name for name in decoder.available_plugins if name not in _UNSAFE_PLUGINS]
    if not plugins:
        raise ImageError(
            ErrorCode.UNSUPPORTED_FORMAT,
            f"no decoder is installed for DICOM transfer syntax {syntax.name}: {REQUIRES}, or for "
            f"JPEG Lossless {REQUIRES_LOSSLESS}",
        )
    *others, last = plugins
    for plugin in others:
        with contextlib.suppress(Exception):  # the next one may know this kind
            return np.asarray(decoder.as_array(dataset, decoding_plugin=plugin, raw=True)[0])
    return np.asarray(decoder.as_array(dataset, decoding_plugin=last, raw=True)[0])


def _window(
    values: NDArray[np.float64], centre: float, width: float, function: str
) -> NDArray[np.uint8]:
    """Source: PS3.3 C.11.2.1.2 (LINEAR) and C.11.2.1.3 (LINEAR_EXACT, SIGMOID)."""
    if function == "SIGMOID" and width > 0:
        level = 1 / (1 + np.exp(np.clip(-4 * (values - centre) / width, -500, 500)))
        return _scale(level, 0, 1)
    if function == "LINEAR_EXACT" and width > 0:
        return _scale(values, centre - width / 2, centre + width / 2)
    if function == "LINEAR" and width >= 1:
        return _scale(values, centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2)
    raise ImageError(
        ErrorCode.UNSUPPORTED_PIXELS,
        f"DICOM window of width {width} with function {function} is not defined",
    )


def _scale(values: NDArray[np.float64], low: float, high: float) -> NDArray[np.uint8]:
    """[low, high] to 0..255, clipped, rounded to nearest; all 0 where the range is empty."""
    if not high > low:
        return np.where(values > high, 255, 0).astype(np.uint8)
    return np.asarray(np.clip((values - low) / (high - low), 0, 1) * 255 + 0.5).astype(np.uint8)


def _facts(dataset: Any) -> ImageFacts:
    def text(key: str) -> str | None:
        value = dataset.get(key)
        return None if value is None else str(value).strip().upper()

    return ImageFacts(
        height=int(dataset.Rows),
        width=int(dataset.Columns),
        modality=text("Modality"),
        view=text("ViewPosition"),
        body_part=text("BodyPartExamined"),
        age_years=parse_age(text("PatientAge")),
    )


def parse_age(text: str | None) -> float | None:
    """DICOM's age string, 018M or 003Y, in years; None where it is absent or no age string."""
    match = re.fullmatch(r"(\d{3})([DWMY])", text or "")
    if match is None:
        return None
    return int(match[1]) / {"D": 365.25, "W": 52.18, "M": 12, "Y": 1}[match[2]]


def _first(value: Any) -> float | None:
    if value is None or value == "":
        return None
    single = value[0] if isinstance(value, (list, tuple)) or hasattr(value, "append") else value
    number = float(single)
    return number if math.isfinite(number) else None


def _undecodable(dataset: Any, error: Exception) -> ImageError:
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    name = getattr(syntax, "name", "transfer syntax not stated")
    detail = str(error) or type(error).__name__
    return ImageError(
        ErrorCode.CORRUPT_IMAGE,
        f"DICOM pixels ({name}) are damaged, or of a kind that no installed decoder "
        f"reads: {detail}",
    )
