"""What a reader learns about an image beside its pixels."""

from __future__ import annotations

from edge_runtime.basics.frozen import frozen


@frozen
class ImageFacts:
    """Feeds the quality gate. DICOM fills the optional fields, pictures leave them None."""

    height: int  # pixels, as stored, upright
    width: int
    chroma: float = 0.0  # mean of (largest - smallest) of red, green and blue, 0 to 255
    modality: str | None = None  # DICOM (0008,0060)
    view: str | None = None  # DICOM (0018,5101)
    body_part: str | None = None  # DICOM (0018,0015)
    age_years: float | None = None  # DICOM (0010,1010)
    machine: str | None = None  # DICOM (0008,0070) and (0008,1090): manufacturer and model
    date: int | None = None  # DICOM (0008,0020), day of the study as `date.toordinal`
