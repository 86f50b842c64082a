"""DICOM to 8-bit greyscale, through pydicom (extra `dicom`).

    stored values -> modality LUT or rescale -> VOI LUT or window -> 0..255, MONOCHROME1 inverted

Source: DICOM PS3.3 C.7.6.3 (image pixel), C.11.1 (modality LUT), C.11.2 (VOI LUT).
"""

from __future__ import annotations

import contextlib
import datetime
import io
import math
import re
import zlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from edge_runtime.basics.install import install_extra
from edge_runtime.errors import ErrorCode, ImageError
from edge_runtime.images.memory import ROOM
from edge_runtime.images.readers.codestreams import (
    check_frame,
    jpeg2000_form,
    several_scans,
    unpack_rle,
)
from edge_runtime.images.readers.facts import ImageFacts

if TYPE_CHECKING:
    from numpy.typing import NDArray

EXTRA = "dicom"
_EXTRA_LOSSLESS = "dicom-jpeg-lossless"

# gdcm ends the whole process on some damaged files (an uncaught C++ exception); see the fuzz test.
_UNSAFE_PLUGINS = frozenset({"gdcm"})

_PIXEL_DATA = b"\xe0\x7f\x10\x00"  # (7FE0,0010), little endian
_MOST_INFLATED = 115_000_000  # with the pixels that are shown, all that `ROOM` has
_INFLATED_AT_ONCE = 1_000_000
_DEFLATED_AT_ONCE = 65_536
_DECODED_WHOLE = 12_000_000  # pixels of JPEG 2000
# Bytes by pixel while it is decoded, by transfer syntax: RLE, JPEG-LS, baseline and extended JPEG.
_DECODED_BYTES = {
    "1.2.840.10008.1.2.5": 4,
    "1.2.840.10008.1.2.4.80": 5,
    "1.2.840.10008.1.2.4.81": 5,
    "1.2.840.10008.1.2.4.50": 5,
    "1.2.840.10008.1.2.4.51": 5,
}
_DECODED_BYTES_ELSE = 10  # JPEG 2000
_STRIP_PIXELS = 1_000_000
_LONGEST_TEXT = 1000


def is_available() -> bool:
    import importlib.util

    return importlib.util.find_spec("pydicom") is not None


def read(data: bytes, min_size: tuple[int, int], max_pixels: int) -> tuple[Image.Image, ImageFacts]:
    """Decode one single-frame greyscale DICOM image to mode "L", with its facts.

    Args:
        data: The whole file.
        min_size: (height, width) that a large JPEG 2000 film is at least decoded to.
        max_pixels: What the header may promise.

    Raises:
        ImageError: pydicom or a decoder is missing, the object holds no single greyscale image,
            it is damaged, or decoding would take too much memory.
    """
    if not is_available():
        raise ImageError(
            ErrorCode.UNSUPPORTED_FORMAT, f"reading DICOM needs: {install_extra(EXTRA)}"
        )
    # pydicom converts an element when it is first looked at, and a damaged one makes it raise
    # nearly anything, at any access.
    try:
        dataset, stored = _open(data)
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
        syntax = dataset.file_meta.TransferSyntaxUID
        if stored is None or not syntax.is_compressed:
            with ROOM.hold(_needed_native(data, dataset, stored), "send it smaller"):
                values = _display_values(_native(dataset, stored), dataset, inverted)
        else:
            # A frame is a copy, of all that there is where nothing says where it ends.
            with ROOM.hold(len(data) + stored.nbytes, "send it uncompressed"):
                frame = _first_frame(data, len(data) - stored.nbytes)
            reduction = _reduction(frame, dataset, min_size)
            needed = _needed_compressed(data, frame, dataset, reduction)
            with ROOM.hold(needed, "send it uncompressed"):
                pixels = _decoded(data, frame, dataset, reduction)
                values = _display_values(pixels, dataset, inverted)
    except ImageError:
        raise
    except Exception as error:
        raise _undecodable(dataset, error) from error
    return Image.fromarray(values), facts


def read_named(data: bytes, keywords: Sequence[str]) -> dict[str, str]:
    """Attributes that somebody asked for by name, as text; those that are not there are left out.

    Args:
        data: A file that `read` has read.
        keywords: Of attributes, "InstitutionName" say. They may identify a patient.
    """
    found: dict[str, str] = {}
    try:
        dataset, _ = _open(data)
    except Exception:  # as above; who asked gets nothing
        return found
    for keyword in keywords:
        try:
            value = dataset.get(keyword)
        except Exception:
            continue
        if value is not None and (text := str(value).strip()):
            found[keyword] = text[:_LONGEST_TEXT]
    return found


def _open(data: bytes) -> tuple[Any, memoryview | None]:
    """The dataset, and its pixels where they lie uncompressed in memory.

    Of uncompressed pixels, which are most of a file, pydicom makes no copy here.

    Raises:
        ImageError: A deflated dataset is larger than any film.
    """
    import pydicom
    from pydicom.filereader import _read_file_meta_info
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    # By pydicom's own reading of the meta data, however long: it would inflate what it finds there.
    head = io.BytesIO(data)
    head.seek(132)
    meta = _read_file_meta_info(head)
    if meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
        data = _inflated(data, meta, head.tell())
    # A view of the bytes and not of the stream, which would copy them.
    source, whole = io.BytesIO(data), memoryview(data)
    dataset = pydicom.dcmread(source, stop_before_pixels=True)
    syntax = dataset.file_meta.TransferSyntaxUID
    at = source.tell()
    explicit = not syntax.is_implicit_VR
    element = bytes(whole[at : at + (12 if explicit else 8)])
    if not syntax.is_little_endian or element[:4] != _PIXEL_DATA:
        source.seek(0)
        with ROOM.hold(2 * len(data), "send it in little endian"):  # pydicom copies the pixels
            return pydicom.dcmread(source), None
    # For those who ask whether there is any.
    dataset.PixelData = b""
    begin = at + len(element)
    length = int.from_bytes(element[-4:], "little")
    # Encapsulated pixels have no length of their own: they end where the last fragment does.
    return dataset, whole[begin:] if syntax.is_compressed else whole[begin : begin + length]


def _inflated(data: bytes, meta: Any, begin: int) -> bytes:
    """A file of the transfer syntax Deflated Explicit VR Little Endian, with its dataset inflated.

    Args:
        data: The file.
        meta: Its meta data, which are changed.
        begin: Where the dataset behind them begins.

    Source: DICOM PS3.5 A.5.
    """
    # First how much it would be, and only then the whole of it.
    size = 0
    for part in _inflating(data, begin):
        size += len(part)
        if size > _MOST_INFLATED:
            raise ImageError(
                ErrorCode.IMAGE_TOO_LARGE,
                f"the deflated DICOM dataset is larger than {_MOST_INFLATED // 1_000_000} MB",
            )
    # The dataset is what the syntax without deflation holds: said so, nobody inflates it again.
    import pydicom
    from pydicom.filebase import DicomBytesIO
    from pydicom.uid import ExplicitVRLittleEndian

    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    head = DicomBytesIO()
    head.write(data[:128] + b"DICM")
    pydicom.filewriter.write_file_meta_info(head, meta)
    whole = io.BytesIO()
    whole.seek(head.tell() + size - 1)
    whole.write(b"\0")  # as large as it will be, so that it is not moved while it grows
    whole.seek(0)
    whole.write(head.getvalue())
    for part in _inflating(data, begin):
        whole.write(part)
    return whole.getvalue()


def _inflating(data: bytes, begin: int) -> Iterator[bytes]:
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    for at in range(begin, len(data), _DEFLATED_AT_ONCE):
        # Little at a time, for what is left over of it is copied at each step.
        rest: bytes = data[at : at + _DEFLATED_AT_ONCE]
        while rest:
            yield inflate.decompress(rest, _INFLATED_AT_ONCE)
            rest = inflate.unconsumed_tail
    yield inflate.flush()


def _needed_native(data: bytes, dataset: Any, stored: memoryview | None) -> int:
    """Bytes that file and pixels take, an estimate from above."""
    pixels: int = int(dataset.Rows) * int(dataset.Columns)
    if stored is None:
        return 2 * len(data) + 3 * pixels
    inflated = stored.nbytes if stored.obj is not data else 0
    return len(data) + inflated + pixels


def _needed_compressed(data: bytes, frame: bytes, dataset: Any, reduction: int) -> int:
    """As `_needed_native`; what other people's decoders take was measured."""
    pixels: int = int(dataset.Rows) * int(dataset.Columns) // 4**reduction
    syntax = dataset.file_meta.TransferSyntaxUID
    per_pixel = _DECODED_BYTES.get(str(syntax), _DECODED_BYTES_ELSE)
    if not reduction and not _is_rle(dataset):
        per_pixel += 2 * several_scans(frame)
        return len(data) + 3 * len(frame) + per_pixel * pixels
    return len(data) + len(frame) + per_pixel * pixels


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


def _display_values(pixels: NDArray[Any], dataset: Any, inverted: bool) -> NDArray[np.uint8]:
    """(rows, columns) stored values -> uint8.

    Rule: the first VOI LUT, else the first window, else the image's own smallest to largest value.

    Pixels of 8 and 16 bits, which is all that detectors give, stay in their own type: every value
    that there can be is shown once, and the pixels look that up, some rows at a time.
    """
    if pixels.ndim != 2 or pixels.size == 0:
        raise ImageError(ErrorCode.CORRUPT_IMAGE, f"DICOM pixels have the shape {pixels.shape}")
    if pixels.dtype.kind not in "iu" or pixels.itemsize > 2:
        shown = _shown(pixels, np.unique(pixels), dataset)
        return 255 - shown if inverted else shown
    own = pixels.dtype
    flat = np.dtype(f"u{own.itemsize}")
    index = pixels.view(flat.newbyteorder(own.byteorder))
    every = np.arange(256**own.itemsize, dtype=flat).view(own.newbyteorder("="))
    occurs = np.zeros(len(every), bool)
    for rows in _strips(index):
        occurs[rows] = True
    table = _shown(every, every[occurs], dataset)
    if inverted:
        table = 255 - table
    shown = np.empty(pixels.shape, np.uint8)
    for rows, target in zip(_strips(index), _strips(shown), strict=True):
        np.take(table, rows, out=target)
    return shown


def _strips(pixels: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Some rows at a time."""
    step = max(1, _STRIP_PIXELS // max(1, pixels.shape[1]))
    for top in range(0, len(pixels), step):
        yield pixels[top : top + step]


def _shown(values: NDArray[Any], occurring: NDArray[Any], dataset: Any) -> NDArray[np.uint8]:
    """What stored values look like, of the same shape.

    Args:
        values: Stored values.
        occurring: Those that the film has, for the range where no window is given.
        dataset: The rules.
    """
    from pydicom.pixels import apply_modality_lut, apply_voi

    modality = apply_modality_lut(values, dataset)
    if dataset.get("VOILUTSequence"):
        table = dataset.VOILUTSequence[0].LUTDescriptor
        looked_up = apply_voi(modality.astype(values.dtype), dataset)
        return _scale(looked_up.astype(np.float64), 0, 2 ** int(table[2]) - 1)
    centre, width = _first(dataset.get("WindowCenter")), _first(dataset.get("WindowWidth"))
    floats = np.asarray(modality, dtype=np.float64)
    if centre is not None and width is not None:
        function = str(dataset.get("VOILUTFunction") or "LINEAR").upper()
        return _window(floats, centre, width, function)
    present = np.asarray(apply_modality_lut(occurring, dataset), dtype=np.float64)
    return _scale(floats, float(present.min()), float(present.max()))


def _native(dataset: Any, stored: memoryview | None) -> NDArray[Any]:
    """(rows, columns) of uncompressed pixels: exactly the frame that is promised.

    Raises:
        ImageError: There are fewer bytes, or pixels of another kind than 8 or 16 bits.
    """
    bits, signed = int(dataset.BitsAllocated), int(dataset.get("PixelRepresentation") or 0)
    if bits not in (8, 16) or int(dataset.get("SamplesPerPixel") or 1) != 1:
        raise ImageError(
            ErrorCode.UNSUPPORTED_PIXELS,
            f"DICOM pixels of {bits} bits; single greyscale images of 8 or 16 bits are read",
        )
    if stored is None:  # big-endian, or behind something that pydicom alone understands
        from pydicom.pixels import get_decoder

        decoder = get_decoder(dataset.file_meta.TransferSyntaxUID)
        return np.asarray(decoder.as_array(dataset, view_only=True, index=0, raw=True)[0])
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    needed = rows * columns * bits // 8
    if len(stored) < needed:
        raise ImageError(
            ErrorCode.CORRUPT_IMAGE,
            f"truncated DICOM: the pixels are {len(stored)} bytes, less than expected ({needed})",
        )
    kind = np.dtype(f"<{'i' if signed else 'u'}{bits // 8}")
    return np.frombuffer(stored[:needed], kind).reshape(rows, columns)


def _first_frame(data: bytes, begin: int) -> bytes:
    """The first frame of encapsulated pixels, whose value begins at `begin`."""
    from pydicom.encaps import generate_frames

    source = io.BytesIO(data)
    source.seek(begin)
    return bytes(next(generate_frames(source, number_of_frames=1)))


def _is_rle(dataset: Any) -> bool:
    from pydicom.uid import RLELossless

    return bool(dataset.file_meta.TransferSyntaxUID == RLELossless)


def _reduction(frame: bytes, dataset: Any, min_size: tuple[int, int]) -> int:
    """How often JPEG 2000 of a large film is halved while it is decoded, as JPEG is.

    Its decoders hold every pixel three times in four bytes; a level of wavelets less is a quarter
    of that. Smaller films are decoded whole.
    """
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    form = jpeg2000_form(frame)
    if form is None or int(dataset.get("PixelRepresentation") or 0) or form.signed:
        return 0
    halvings = 0
    while rows * columns >> 2 * halvings > _DECODED_WHOLE and halvings < form.levels:
        halvings += 1
    while halvings and (rows >> halvings < min_size[0] or columns >> halvings < min_size[1]):
        halvings -= 1
    return halvings if form.precision <= 16 else 0


def _decoded(data: bytes, frame: bytes, dataset: Any, reduction: int) -> NDArray[Any]:
    """(rows, columns) of a compressed frame, by the first decoder that can.

    Raises:
        ImageError: No decoder for the transfer syntax is installed, or the compressed frame
            promises another size than the header.
    """
    import pydicom
    from pydicom.pixels import get_decoder

    rows, columns = int(dataset.Rows), int(dataset.Columns)
    if _is_rle(dataset):
        sign = "i" if int(dataset.get("PixelRepresentation") or 0) else "u"
        kind = np.dtype(f"{sign}{max(1, int(dataset.BitsAllocated) // 8)}")
        return unpack_rle(frame, rows, columns, kind)
    syntax = dataset.file_meta.TransferSyntaxUID
    decoder = get_decoder(syntax)
    plugins = [name for name in decoder.available_plugins if name not in _UNSAFE_PLUGINS]
    if not plugins:
        raise ImageError(
            ErrorCode.UNSUPPORTED_FORMAT,
            f"no decoder is installed for DICOM transfer syntax {syntax.name}: "
            f"{install_extra(EXTRA)}, or for JPEG Lossless {install_extra(_EXTRA_LOSSLESS)}",
        )
    check_frame(frame, rows, columns)
    if reduction:
        return _reduced(frame, reduction)
    dataset = pydicom.dcmread(io.BytesIO(data))
    options = {"index": 0, "raw": True}
    *others, last = plugins
    for plugin in others:
        with contextlib.suppress(Exception):  # the next one may know this kind
            return np.asarray(decoder.as_array(dataset, decoding_plugin=plugin, **options)[0])
    return np.asarray(decoder.as_array(dataset, decoding_plugin=last, **options)[0])


def _reduced(frame: bytes, reduction: int) -> NDArray[Any]:
    """(rows, columns) of a JPEG 2000 codestream, each halved `reduction` times."""
    form = jpeg2000_form(frame)
    image: Any = Image.open(io.BytesIO(frame), formats=("JPEG2000",))
    image.reduce = reduction
    pixels = np.asarray(image)
    # Pillow shifts values up until they fill 8 or 16 bits.
    return pixels >> (8 * pixels.itemsize - form.precision) if form else pixels


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

    named = [text("Manufacturer"), text("ManufacturerModelName")]
    day = parse_date(dataset.get("StudyDate"))
    return ImageFacts(
        height=int(dataset.Rows),
        width=int(dataset.Columns),
        modality=text("Modality"),
        view=_view(dataset, text("ViewPosition")),
        body_part=text("BodyPartExamined"),
        age_years=_age(dataset, text("PatientAge")),
        machine=" ".join(filter(None, named)) or None,
        date=day.toordinal() if day else None,
    )


def _view(dataset: Any, position: str | None) -> str | None:
    """View Position; where it says nothing, what the coded view is called.

    Source: PS3.3 C.8.11.5.1 and its View Code Sequence.
    """
    if position:
        return position
    codes = dataset.get("ViewCodeSequence") or ()
    called = " ".join(str(code.get("CodeMeaning") or "") for code in codes).strip().upper()
    frontal = {"POSTERO-ANTERIOR": "PA", "ANTERO-POSTERIOR": "AP", "POSTEROANTERIOR": "PA",
               "ANTEROPOSTERIOR": "AP"}  # fmt: skip
    return next((short for name, short in frontal.items() if called.startswith(name)), called) or (
        position
    )


def _age(dataset: Any, stated: str | None) -> float | None:
    """The stated age in years, or that between birth and study."""
    age = parse_age(stated)
    if age is not None:
        return age
    dates = [
        next((d for key in keys if (d := parse_date(dataset.get(key))) is not None), None)
        for keys in (("PatientBirthDate",), ("StudyDate", "AcquisitionDate", "ContentDate"))
    ]
    if dates[0] is None or dates[1] is None or dates[1] < dates[0]:
        return None
    return (dates[1] - dates[0]).days / 365.25


def parse_date(value: object) -> datetime.date | None:
    """DICOM's date string, YYYYMMDD; None where it is absent or no date."""
    match = re.fullmatch(r"(\d{4})\.?(\d{2})\.?(\d{2})", str(value or "").strip())
    if match is None:
        return None
    try:
        return datetime.date(*(int(part) for part in match.groups()))
    except ValueError:
        return None


def parse_age(text: str | None) -> float | None:
    """DICOM's age string, 018M or 003Y, in years; None where it is absent or no age string.

    Fewer digits than the three that are asked for are met with, and mean the same.
    """
    match = re.fullmatch(r"(\d{1,3})([DWMY])", text or "")
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
