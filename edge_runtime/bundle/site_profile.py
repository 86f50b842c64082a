"""What a site chose for itself on its own images; tied to one bundle and one family of engines."""

from __future__ import annotations

import hashlib
import json
import os

from edge_runtime.basics.files import write_whole
from edge_runtime.basics.frozen import frozen
from edge_runtime.basics.parse import at, from_mapping, read_document, to_mapping
from edge_runtime.bundle.correction import Correction
from edge_runtime.bundle.manifest import Manifest
from edge_runtime.errors import InvalidValueError
from edge_runtime.judge.operating_point import OF_BUNDLES, OperatingPoint
from edge_runtime.judge.reference import Reference
from edge_runtime.statistics.estimates import Estimate

SCHEMA = "cxr-edge/site/1"


@frozen
class ThresholdRow:
    """What one threshold would do at this site; rates per 1,000 people screened."""

    threshold: float
    true_positive: int
    false_positive: int
    true_negative: int
    false_negative: int
    sensitivity: Estimate
    specificity: Estimate
    ppv: Estimate | None  # None where nobody is called so
    npv: Estimate | None
    found_per_1000: Estimate
    missed_per_1000: Estimate
    referred_per_1000: Estimate
    cost_per_1000: Estimate | None


@frozen
class Stratum:
    """One value of one column; AUC only where it holds both kinds, a share only of films there."""

    column: str
    value: str
    images: int
    positives: int
    auc: Estimate | None
    sensitivity: Estimate | None
    specificity: Estimate | None


@frozen
class SiteProfile:
    """What `--site` reads; all of it travels in one JSON file."""

    schema: str
    name: str
    bundle_sha256: str
    model: str
    engine: str  # with its version
    engine_family: str
    images: int
    positives: int
    refused: int
    prevalence: float
    temperature: float
    temperature_refitted: bool
    operating_point: OperatingPoint
    auc: Estimate | None  # None where nobody labelled a film
    chosen: ThresholdRow | None
    strata: tuple[Stratum, ...]
    reference: Reference
    correction: Correction | None = None  # of the score, by `cxr-edge adapt`

    def check_made_for(self, bundle_sha256: str, engine_family: str) -> None:
        """Raise InvalidValueError unless it was made with this bundle and family of engines."""
        if self.bundle_sha256 != bundle_sha256:
            raise InvalidValueError(
                f"the site profile {self.name!r} was made for bundle "
                f"{self.bundle_sha256[:16]}… ({self.model}), this is {bundle_sha256[:16]}…; "
                f"{self._again} again with this one"
            )
        if self.engine_family != engine_family:
            raise InvalidValueError(
                f"the site profile {self.name!r} was made on {self.engine}; engines of family "
                f"{engine_family} score a little differently, {self._again} again or use that "
                "engine"
            )

    def check_corrects(self, manifest: Manifest) -> None:
        """Raise InvalidValueError unless its correction, where it has one, fits the model."""
        if self.correction is None:
            return
        if not manifest.tells_one_score:
            raise InvalidValueError(
                f"the site profile {self.name!r} corrects one score, and this model tells several "
                "findings"
            )
        self.correction.check(manifest.outputs.features)

    @property
    def sha256(self) -> str:
        """What records call it by: the hash of the file that `save_profile` writes."""
        return hashlib.sha256(_text(self)).hexdigest()

    @property
    def _again(self) -> str:
        return "adapt" if self.correction else "calibrate"


def load_profile(path: str | os.PathLike[str]) -> SiteProfile:
    """Read a site profile.

    Raises:
        InvalidValueError: Missing, not JSON, or not of this schema.
    """
    document = read_document(path, SCHEMA, "site profile ")
    profile = from_mapping(SiteProfile, document, str(path))
    point = profile.operating_point
    with at(f"site profile {path}"):
        point.check()
        if not 0.01 <= profile.temperature <= 100:
            raise InvalidValueError(f"temperature {profile.temperature} is not 0.01 to 100")
        if point.name in OF_BUNDLES:
            raise InvalidValueError(
                f"its operating point is called {point.name!r}, as one of a bundle's is: records "
                "could not tell them apart"
            )
    with at(f"{path}: reference"):
        profile.reference.check()
    return profile


def save_profile(profile: SiteProfile, path: str | os.PathLike[str]) -> None:
    write_whole(os.fspath(path), _text(profile))


def _text(profile: SiteProfile) -> bytes:
    told = to_mapping(profile)
    if profile.correction is None:
        del told["correction"]
    return json.dumps(told, indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n"
