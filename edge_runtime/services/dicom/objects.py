"""What a PACS understands of a result: a Secondary Capture of the heatmap and a structured report.

Source: DICOM PS3.3 A.8.1 (Secondary Capture Image), A.35.2 (Enhanced SR), C.17 (SR modules);
PS3.16 for the codes.
"""

from __future__ import annotations

import copy
import datetime
from typing import TYPE_CHECKING

import numpy as np
from pydicom.charset import convert_encodings
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from edge_runtime import __version__

if TYPE_CHECKING:
    from edge_runtime.records.record import Examination, Record

_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_ENHANCED_SR = "1.2.840.10008.5.1.4.1.1.88.22"
_NOTICE = "Screening support, not a diagnosis."
# Patient and study, so that the PACS files the result with the image. Type 2 ones may be empty.
_COPIED = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyDate",
    "StudyTime", "ReferringPhysicianName", "StudyID", "AccessionNumber",
)  # fmt: skip


def make_secondary_capture(source: Dataset, examination: Examination) -> FileDataset:
    """The heatmap over the radiograph as an RGB image of the same study."""
    from edge_runtime.records.heatmap import overlay_of

    pixels = np.asarray(overlay_of(examination))
    dataset = _begin(source, examination, _SECONDARY_CAPTURE, "OT", "Evidence map")
    dataset.ConversionType = "WSD"
    dataset.PatientOrientation = dataset.Laterality = ""
    dataset.ImageType = ["DERIVED", "SECONDARY"]
    dataset.DerivationDescription = f"cxr-edge evidence map over the prepared radiograph. {_NOTICE}"
    dataset.SourceImageSequence = Sequence([_reference(source)])
    # What is burned into the radiograph is in the picture of it.
    dataset.BurnedInAnnotation = str(source.get("BurnedInAnnotation") or "YES")
    dataset.SamplesPerPixel = 3
    dataset.PhotometricInterpretation = "RGB"
    dataset.PlanarConfiguration = 0
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit = 7
    dataset.PixelRepresentation = 0
    dataset.LossyImageCompression = "01" if _lossy(source) else "00"
    if _lossy(source):
        dataset.LossyImageCompressionRatio = source.get("LossyImageCompressionRatio", "1")
        method = source.get("LossyImageCompressionMethod")
        if method:
            dataset.LossyImageCompressionMethod = method
    content = pixels.tobytes()
    dataset.PixelData = content + b"\0" * (len(content) % 2)
    dataset["PixelData"].VR = "OB"
    return dataset


def make_report(source: Dataset, examination: Examination) -> FileDataset:
    """The record as an Enhanced SR that refers to the image."""
    record = examination.record
    screened = "Pneumonia screening" if record.findings is None else "Chest film screening"
    dataset = _begin(source, examination, _ENHANCED_SR, "SR", screened)
    dataset.ReferencedPerformedProcedureStepSequence = Sequence([])
    dataset.PerformedProcedureCodeSequence = Sequence([])
    dataset.ValueType = "CONTAINER"
    dataset.ConceptNameCodeSequence = _code("126000", "DCM", "Imaging Measurement Report")
    dataset.ContinuityOfContent = "SEPARATE"
    dataset.CompletionFlag = "COMPLETE"
    dataset.VerificationFlag = "UNVERIFIED"
    dataset.PreliminaryFlag = "PRELIMINARY"
    evidence = Dataset()
    series = Dataset()
    series.ReferencedSOPSequence = Sequence([_reference(source)])
    series.SeriesInstanceUID = source.SeriesInstanceUID
    evidence.ReferencedSeriesSequence = Sequence([series])
    evidence.StudyInstanceUID = source.StudyInstanceUID
    dataset.CurrentRequestedProcedureEvidenceSequence = Sequence([evidence])
    image = _item("CONTAINS", "IMAGE", ("260753009", "SCT", "Source"))
    image.ReferencedSOPSequence = Sequence([_reference(source)])
    items = [image]
    if record.probability is not None:
        disease = "pneumonia" if record.findings is None else "any finding"
        items.append(
            _number(("99001", "99CXREDGE", f"Probability of {disease}"), record.probability)
        )
        items.append(
            _number(
                ("99002", "99CXREDGE", f"Operating point {_point_of(record)}"),
                record.threshold,
            )
        )
    for i, (name, one) in enumerate((record.findings or {}).items()):
        # A meaning has 64 characters at most, and a code one meaning.
        probability = (f"99{100 + 2 * i}", "99CXREDGE", f"Probability of {name[:45]}")
        decision = (f"99{101 + 2 * i}", "99CXREDGE", f"Decision on {name[:45]}")
        items.append(_number(probability, one.probability))
        items.append(_text(decision, f"{one.decision} (threshold {one.threshold:.4f})"))
    said = record.decision or record.status
    items.append(_text(("121071", "DCM", "Finding"), f"{said}. {_NOTICE}"))
    if record.quality.flags:
        flags = ", ".join(record.quality.flags)
        items.append(_text(("99003", "99CXREDGE", "Quality flags"), flags))
    model = record.model
    items.append(
        _text(("111001", "DCM", "Algorithm Name"), f"cxr-edge {__version__}, {model.name}")
    )
    items.append(
        _text(("111003", "DCM", "Algorithm Version"), f"{model.version}, bundle {model.sha256}")
    )
    dataset.ContentSequence = Sequence(items)
    return dataset


def _point_of(record: Record) -> str:
    whose = f", {record.population}" if record.population else ""
    return record.operating_point + whose


def _begin(
    source: Dataset, examination: Examination, sop_class: str, modality: str, description: str
) -> FileDataset:
    """Patient, study, series, equipment and SOP common modules."""
    record = examination.record
    # The same answer to the same image has the same UIDs, however often it is given.
    told = [str(source.SOPInstanceUID), str(record.sha256), record.model.sha256]
    told += [record.model.engine, record.operating_point, f"{record.threshold!r}", sop_class]
    uid = generate_uid(entropy_srcs=[*told, "instance"])
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = sop_class
    meta.MediaStorageSOPInstanceUID = uid
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", Dataset(), file_meta=meta, preamble=b"\0" * 128)
    for keyword in _COPIED:
        if keyword in source:
            dataset[keyword] = _as_it_came(source, keyword)
        else:
            setattr(dataset, keyword, "")
    if "SpecificCharacterSet" in source:
        dataset.SpecificCharacterSet = source.SpecificCharacterSet
    # Or names would be decoded and encoded again, which damages those that were written carelessly.
    characters = convert_encodings(dataset.get("SpecificCharacterSet"))
    dataset.set_original_encoding(False, True, characters)
    now = datetime.datetime.now()
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, uid
    dataset.Modality = modality
    dataset.SeriesInstanceUID = generate_uid(entropy_srcs=[*told, "series"])
    dataset.SeriesNumber, dataset.InstanceNumber = 9000, 1
    dataset.SeriesDescription = description
    for kind in ("Content", "Series", "InstanceCreation"):
        setattr(dataset, f"{kind}Date", now.strftime("%Y%m%d"))
        setattr(dataset, f"{kind}Time", now.strftime("%H%M%S"))
    dataset.Manufacturer = "cxr-edge"
    dataset.ManufacturerModelName = "cxr-edge"
    dataset.DeviceSerialNumber = "0"
    dataset.SoftwareVersions = __version__
    return dataset


def _as_it_came(source: Dataset, keyword: str) -> DataElement | RawDataElement:
    """An element with the very bytes that were received, in whatever character set they are."""
    element = source.get_item(keyword)
    if isinstance(element, RawDataElement):
        return element._replace(VR=element.VR or dictionary_VR(element.tag))
    return copy.deepcopy(source[keyword])


def _lossy(source: Dataset) -> bool:
    return str(source.get("LossyImageCompression", "00")) == "01"


def _reference(source: Dataset) -> Dataset:
    reference = Dataset()
    reference.ReferencedSOPClassUID = source.SOPClassUID
    reference.ReferencedSOPInstanceUID = source.SOPInstanceUID
    return reference


def _code(value: str, scheme: str, meaning: str) -> Sequence:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, scheme, meaning
    return Sequence([code])


def _item(relationship: str, kind: str, concept: tuple[str, str, str]) -> Dataset:
    item = Dataset()
    item.RelationshipType, item.ValueType = relationship, kind
    item.ConceptNameCodeSequence = _code(*concept)
    return item


def _text(concept: tuple[str, str, str], value: str) -> Dataset:
    item = _item("CONTAINS", "TEXT", concept)
    item.TextValue = value
    return item


def _number(concept: tuple[str, str, str], value: float) -> Dataset:
    item = _item("CONTAINS", "NUM", concept)
    measured = Dataset()
    measured.NumericValue = f"{value:.8f}"
    measured.MeasurementUnitsCodeSequence = _code("1", "UCUM", "no units")
    item.MeasuredValueSequence = Sequence([measured])
    return item
