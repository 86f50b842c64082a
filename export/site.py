"""A bundle's manifest as a site judges by it: for builds that have no --site of their own."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from edge_runtime.bundle.folder import Bundle
from edge_runtime.bundle.manifest import Manifest
from edge_runtime.bundle.site_profile import SiteProfile, load_profile


def load_site(bundle: Bundle, path: Path | None, family: str | None = None) -> SiteProfile | None:
    """The site profile; None where none is named.

    Args:
        bundle: What it has to be made for.
        path: Of the profile.
        family: Of engines that it has to be made on; None: any.

    Raises:
        InvalidValueError: It was made for something else, or is damaged.
    """
    if path is None:
        return None
    profile = load_profile(path)
    profile.check_made_for(bundle.sha256, family or profile.engine_family)
    profile.check_corrects(bundle.manifest)
    return profile


def as_site_judges(manifest: Manifest, site: SiteProfile | None) -> Manifest:
    """The manifest with the site's temperature, and its point as the default one, of all films."""
    if site is None:
        return manifest
    return dataclasses.replace(
        manifest,
        calibration=dataclasses.replace(manifest.calibration, temperature=site.temperature),
        operating_points=(*manifest.operating_points, site.operating_point),
        default_operating_point=site.operating_point.name,
        populations=(),
    )
