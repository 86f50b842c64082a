"""A site profile in builds that have no --site of their own: the C sources and the page."""

from __future__ import annotations

import ctypes
import dataclasses
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from edge_runtime import Screener
from edge_runtime.bundle.correction import LABELS, Correction, encode_weights
from edge_runtime.bundle.folder import load_bundle
from edge_runtime.bundle.shipped import bundle_folder
from edge_runtime.bundle.site_profile import SCHEMA, SiteProfile, save_profile
from edge_runtime.errors import InvalidValueError
from edge_runtime.images.phantom import draw_film, draw_phantom
from edge_runtime.judge.operating_point import OperatingPoint
from edge_runtime.judge.reference import make_reference
from edge_runtime.statistics.estimates import Estimate
from export.c_array import write_c_array
from export.site import load_site
from export.web import _describe


def profile_for(family: str, weights: bool = True) -> SiteProfile:
    bundle = load_bundle(bundle_folder("tiny"))
    rng = np.random.default_rng(0)
    drawn = encode_weights(rng.normal(0, 0.02, bundle.manifest.outputs.features))
    seen = Estimate(0.9, 0.8, 0.95)
    return SiteProfile(
        schema=SCHEMA,
        name="here",
        bundle_sha256=bundle.sha256,
        model="tiny",
        engine=family,
        engine_family=family,
        images=200,
        positives=100,
        refused=0,
        prevalence=0.5,
        temperature=1.0,
        temperature_refitted=True,
        operating_point=OperatingPoint("site", 0.43, "a rule", "here", seen, seen, (0.4, 0.6)),
        auc=seen,
        chosen=None,
        strata=(),
        reference=make_reference("here", np.linspace(-2, 2, 9), np.linspace(0, 1, 9), 0),
        correction=Correction(LABELS, 0.7, -0.2, drawn if weights else "", 3.0),
    )


@pytest.mark.parametrize("weights", [True, False])
def test_the_c_sources_correct_as_the_runtime_does(tmp_path: Path, weights: bool) -> None:
    if shutil.which("gcc") is None:
        pytest.skip("no gcc here")
    site = tmp_path / "site.json"
    profile = profile_for("litert-xnnpack", weights)
    save_profile(profile, site)
    write_c_array(Path(bundle_folder("tiny")), tmp_path, site)
    library = tmp_path / "libcxr.so"
    sources = [tmp_path / "cxr_edge.c", tmp_path / "parameters.c"]
    subprocess.run(
        ["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", library, *sources,
         "-lm"], check=True,
    )  # fmt: skip
    assert profile.sha256 in (tmp_path / "parameters.c").read_text()
    assert '"site"' in (tmp_path / "parameters.c").read_text()
    code = ctypes.CDLL(str(library))
    code.cxr_probability.restype = ctypes.c_double
    code.cxr_find_point.restype = ctypes.c_void_p
    screener = Screener.load("tiny", engine="litert", site=site, force=True)
    plain = Screener.load("tiny", engine="litert", force=True)
    for seed in range(6):
        film = draw_film(seed, bool(seed % 2)) if seed < 4 else draw_phantom(seed, True)
        found, before = screener.examine(film), plain.examine(film)
        assert found.features is not None and found.logit is not None
        features = np.ascontiguousarray(found.features, np.float32)
        told = code.cxr_probability(
            (ctypes.c_double * 1)(found.logit), features.ctypes.data_as(ctypes.c_void_p)
        )
        assert told == pytest.approx(found.record.probability, abs=1e-8)
        assert found.record.probability != before.record.probability
        assert found.record.operating_point == "site"
    assert code.cxr_find_point(b"site", None)


def test_the_page_judges_as_the_site_does() -> None:
    bundle = load_bundle(bundle_folder("tiny"))
    profile = profile_for("onnxruntime")
    told = _describe(bundle, profile)
    assert told["site"] == profile.sha256 and told["info"]["site"] == "here"
    assert told["info"]["operating_point"] == "site" and told["info"]["threshold"] == 0.43
    assert told["populations"] == [] and told["operating_points"][-1]["name"] == "site"
    assert _describe(bundle, None)["site"] is None


def test_profiles_of_others_are_refused(tmp_path: Path) -> None:
    bundle = load_bundle(bundle_folder("tiny"))
    site = tmp_path / "site.json"
    save_profile(profile_for("litert-xnnpack"), site)
    with pytest.raises(InvalidValueError, match="adapt again"):
        load_site(bundle, site, "onnxruntime")
    other = dataclasses.replace(profile_for("onnxruntime"), bundle_sha256="0" * 64)
    save_profile(other, site)
    with pytest.raises(InvalidValueError, match="adapt again"):
        load_site(bundle, site, "onnxruntime")
    assert load_site(bundle, None) is None
