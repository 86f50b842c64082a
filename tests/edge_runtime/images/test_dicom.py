"""DICOM: files of pydicom's own, and written ones whose right answer is known."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.errors import ErrorCode, ImageError
from edge_runtime.images.grey import read_grey
from edge_runtime.images.phantom import draw_phantom
from edge_runtime.images.preprocess import InputSpec, prepare, prepare_pixels
from edge_runtime.images.readers import dicom

pydicom = pytest.importorskip("pydicom")
from pydicom.data import get_testdata_file
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid

EIGHT = draw_phantom(1, True, 300, 260)
TWELVE = EIGHT.astype(int) * 16
SPEC = InputSpec(224, 224)

# pydicom's files carry deliberate oddities that it warns of.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def write(pixels: np.ndarray, bits: int = 12, **elements: object) -> bytes:
    """A DX image of these stored values."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SOPClassUID, ds.SOPInstanceUID = (
        meta.MediaStorageSOPClassUID,
        meta.MediaStorageSOPInstanceUID,
    )
    ds.Rows, ds.Columns = pixels.shape
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, bits, bits - 1
    ds.PixelRepresentation = 0
    ds.Modality, ds.ViewPosition, ds.PatientAge = "DX", "AP", "030M"
    for name, value in elements.items():
        setattr(ds, name, value)
    ds.PixelData = pixels.astype(np.int16 if ds.PixelRepresentation else np.uint16).tobytes()
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def grey(content: bytes) -> np.ndarray:
    return np.asarray(read_grey(content, (224, 224))[0])


def test_without_a_window_the_images_own_range_is_shown() -> None:
    expected = np.round((EIGHT - EIGHT.min()) / np.ptp(EIGHT) * 255)
    np.testing.assert_allclose(grey(write(TWELVE)), expected, atol=1)


def test_a_linear_window_is_applied_as_the_standard_says() -> None:
    # PS3.3 C.11.2.1.2: below c - 0.5 - (w - 1) / 2 black, above c - 0.5 + (w - 1) / 2 white.
    values = np.array([[0, 100, 2047, 2048, 4000, 4095]] * 4, dtype=np.uint16)
    shown = grey(write(values, WindowCenter=2048, WindowWidth=4096))
    np.testing.assert_array_equal(shown[0], [0, 6, 127, 128, 249, 255])


def test_window_functions() -> None:
    values = np.array([[0, 1000, 2000, 3000, 4000]] * 4, dtype=np.uint16)
    exact = grey(write(values, WindowCenter=2000, WindowWidth=2000, VOILUTFunction="LINEAR_EXACT"))
    np.testing.assert_array_equal(exact[0], [0, 0, 128, 255, 255])
    sigmoid = grey(write(values, WindowCenter=2000, WindowWidth=1000, VOILUTFunction="SIGMOID"))
    expected = 255 / (1 + np.exp(-4 * (values[0] - 2000.0) / 1000))
    np.testing.assert_allclose(sigmoid[0], expected, atol=1)
    with pytest.raises(ImageError, match="not defined"):
        grey(write(values, WindowCenter=1, WindowWidth=0))


def test_of_several_windows_the_first_counts() -> None:
    one = write(TWELVE, WindowCenter=2048, WindowWidth=4096)
    two = write(TWELVE, WindowCenter=[2048, 300], WindowWidth=[4096, 50])
    np.testing.assert_array_equal(grey(one), grey(two))


def test_rescale_comes_before_the_window() -> None:
    plain = write(TWELVE, WindowCenter=2048, WindowWidth=4096)
    rescaled = write(
        TWELVE, WindowCenter=4096 - 1000, WindowWidth=8192, RescaleSlope=2,
        RescaleIntercept=-1000,
    )  # fmt: skip
    np.testing.assert_allclose(grey(plain).astype(int), grey(rescaled), atol=1)


def test_signed_values() -> None:
    signed = write(TWELVE - 2048, bits=16, PixelRepresentation=1)
    np.testing.assert_array_equal(grey(signed), grey(write(TWELVE)))


def test_monochrome1_is_inverted() -> None:
    negative = write(4095 - TWELVE, PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_allclose(grey(negative).astype(int), grey(write(TWELVE)), atol=1)


def test_a_dicom_file_and_a_picture_of_the_same_pixels_give_the_same_tensor() -> None:
    full = EIGHT.copy()
    full[0, 0], full[0, 1] = 0, 255  # the range that an 8-bit picture has
    tensor = prepare(write(full, bits=8), SPEC)
    np.testing.assert_array_equal(tensor, prepare_pixels(full, SPEC))


def test_facts_feed_the_quality_gate() -> None:
    _, facts = read_grey(write(EIGHT), (224, 224))
    assert (facts.height, facts.width) == EIGHT.shape
    assert (facts.modality, facts.view, facts.age_years) == ("DX", "AP", 2.5)


@pytest.mark.parametrize(
    ("text", "years"),
    [("003Y", 3), ("018M", 1.5), ("026W", 0.498), ("010D", 0.027), ("3Y", 3), ("60Y", 60),
     ("", None), ("Y", None), ("0060Y", None),
     (None, None)],
)  # fmt: skip
def test_age(text: str | None, years: float | None) -> None:
    assert dicom.parse_age(text) == (years if years is None else pytest.approx(years, abs=1e-3))


@pytest.mark.parametrize(
    ("elements", "years"),
    [
        ({"PatientAge": "", "PatientBirthDate": "19660301", "StudyDate": "20260301"}, 60),
        ({"PatientAge": "", "PatientBirthDate": "1966.03.01", "ContentDate": "20260301"}, 60),
        ({"PatientAge": "030M", "PatientBirthDate": "19660301", "StudyDate": "20260301"}, 2.5),
        ({"PatientAge": "", "PatientBirthDate": "20270301", "StudyDate": "20260301"}, None),
        ({"PatientAge": "", "PatientBirthDate": "19661301", "StudyDate": "20260301"}, None),
        ({"PatientAge": "", "PatientBirthDate": "19660301"}, None),
    ],
)
def test_an_age_that_is_not_stated_follows_from_two_dates(
    elements: dict[str, str], years: float | None
) -> None:
    _, facts = read_grey(write(EIGHT, **elements), (224, 224))
    assert facts.age_years == (years if years is None else pytest.approx(years, abs=0.01))


@pytest.mark.parametrize(
    ("meaning", "view"),
    [
        ("postero-anterior", "PA"),
        ("Antero-posterior projection", "AP"),
        ("left lateral", "LEFT LATERAL"),
    ],
)
def test_a_view_may_be_stated_by_its_code(meaning: str, view: str) -> None:
    code = pydicom.Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "R-1", "SRT", meaning
    content = write(EIGHT, ViewPosition="", ViewCodeSequence=pydicom.Sequence([code]))
    assert read_grey(content, (224, 224))[1].view == view


@pytest.mark.parametrize(
    "name",
    ["CT_small.dcm", "MR_small.dcm", "MR_small_RLE.dcm", "MR_small_bigendian.dcm",
     "MR_small_implicit.dcm", "MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm"],
)  # fmt: skip
def test_pydicoms_files_in_several_transfer_syntaxes(name: str) -> None:
    path = get_testdata_file(name)
    if path is None:
        pytest.skip(f"pydicom here does not carry {name}")
    image, facts = read_grey(Path(path).read_bytes(), (224, 224))
    assert image.size == (facts.width, facts.height)
    assert facts.modality in ("CT", "MR")


def test_the_same_pixels_compressed_and_not_give_the_same_greys() -> None:
    names = ("MR_small.dcm", "MR_small_RLE.dcm", "MR_small_jp2klossless.dcm",
             "MR_small_jpeg_ls_lossless.dcm", "MR_small_bigendian.dcm")  # fmt: skip
    greys = [grey(Path(get_testdata_file(n)).read_bytes()) for n in names]
    for other in greys[1:]:
        np.testing.assert_array_equal(greys[0], other)


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        ("MR_truncated.dcm", ErrorCode.CORRUPT_IMAGE, "less than expected"),
        ("SC_rgb_rle_2frame.dcm", ErrorCode.UNSUPPORTED_PIXELS, "2 frames"),
        ("SC_rgb_rle.dcm", ErrorCode.UNSUPPORTED_PIXELS, "RGB"),
        ("rtplan.dcm", ErrorCode.UNSUPPORTED_PIXELS, "RT Plan"),
        ("ExplVR_BigEndNoMeta.dcm", ErrorCode.UNSUPPORTED_FORMAT, "not a recognised image"),
    ],
)
def test_what_cannot_be_screened_is_refused_by_name(name: str, code: ErrorCode, said: str) -> None:
    with pytest.raises(ImageError, match=said) as caught:
        grey(Path(get_testdata_file(name)).read_bytes())
    assert caught.value.code == code


@pytest.mark.parametrize("share", [0.02, 0.2, 0.5, 0.9])
def test_truncated_dicom_is_refused(share: float) -> None:
    content = write(EIGHT)
    with pytest.raises(ImageError):
        grey(content[: int(len(content) * share)])


def test_an_absurd_size_is_refused_before_decoding() -> None:
    content = write(EIGHT)
    huge = content.replace(
        b"\x28\x00\x10\x00US\x02\x00" + (300).to_bytes(2, "little"),
        b"\x28\x00\x10\x00US\x02\x00" + b"\xff\xff",
    ).replace(
        b"\x28\x00\x11\x00US\x02\x00" + (260).to_bytes(2, "little"),
        b"\x28\x00\x11\x00US\x02\x00" + b"\xff\xff",
    )
    with pytest.raises(ImageError) as caught:
        grey(huge)
    assert caught.value.code == ErrorCode.IMAGE_TOO_LARGE


def test_without_pydicom_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dicom, "is_available", lambda: False)
    with pytest.raises(ImageError, match=r"pip install .*\[dicom\]"):
        grey(write(EIGHT))
