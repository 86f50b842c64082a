"""Every error the runtime raises on purpose, and the closed list of codes that records carry."""

from __future__ import annotations

from enum import StrEnum


class ErrorCode(StrEnum):
    """Codes in the `error.code` field of a result record. Adding one is a contract change."""

    UNREADABLE_FILE = "unreadable_file"  # missing, no permission, a device that vanished
    EMPTY_FILE = "empty_file"
    FILE_TOO_LARGE = "file_too_large"
    UNSUPPORTED_FORMAT = "unsupported_format"  # not one of the image formats we read
    UNSUPPORTED_PIXELS = "unsupported_pixels"  # right format, but pixels no rule covers
    CORRUPT_IMAGE = "corrupt_image"  # truncated or damaged
    IMAGE_TOO_LARGE = "image_too_large"  # more pixels than the decode limit
    INFERENCE_FAILED = "inference_failed"  # the engine refused a prepared image
    SET_ASIDE = "set_aside"  # the process ended while it screened this, more than once


class CxrEdgeError(Exception):
    """Base of all deliberate errors; the message says what, the value received and the remedy."""


class ImageError(CxrEdgeError):
    """One input cannot be screened. It ends up in that input's record and stops nothing else."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code


class InvalidValueError(CxrEdgeError):
    """A value in a manifest, recipe or argument has the wrong name, type or range."""


class BundleError(CxrEdgeError):
    """A model bundle is incomplete, altered, or not what its manifest says."""


class EngineError(CxrEdgeError):
    """An inference engine is missing, or gives wrong answers on this machine."""
