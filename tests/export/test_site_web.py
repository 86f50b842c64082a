"""`export web --site`: the page corrects the score as the runtime does with that profile."""

from __future__ import annotations

import io
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from benchmarks.formats.programs import serving
from edge_runtime import Screener
from edge_runtime.bundle.shipped import bundle_folder
from edge_runtime.bundle.site_profile import save_profile
from edge_runtime.errors import InvalidValueError
from edge_runtime.images.phantom import draw_film
from export.web import RUNTIME, write_web
from tests.conftest import ROOT
from tests.export.test_site import profile_for

KEPT = ROOT / "build" / f"onnxruntime-web-{RUNTIME}.tgz"


def test_the_page_corrects_as_the_runtime_does(browser: Any, tmp_path: Path) -> None:
    for tool in ("clang", "wasm-ld"):
        if shutil.which(tool) is None:
            pytest.skip(f"no {tool} here (Debian: apt install clang lld)")
    site, folder = tmp_path / "site.json", tmp_path / "web"
    profile = profile_for("onnxruntime")
    save_profile(profile, site)
    try:
        write_web(Path(bundle_folder("tiny")), folder, KEPT if KEPT.exists() else None, site=site)
    except InvalidValueError as error:
        if "cannot be read" in str(error):
            pytest.skip(f"no onnxruntime-web here, and no network: {str(error)[:80]}")
        raise
    screener = Screener.load("tiny", engine="onnxruntime", site=site)
    films = {}
    for seed in range(4):
        buffer = io.BytesIO()
        Image.fromarray(draw_film(seed, bool(seed % 2))).save(buffer, "PNG")
        films[f"{seed}.png"] = buffer.getvalue()
        (tmp_path / f"{seed}.png").write_bytes(buffer.getvalue())
    with serving(folder) as url:
        page = browser.new_page(locale="en")
        page.goto(url)
        end = time.monotonic() + 60
        while "onnxruntime-web" not in (page.text_content("#model") or ""):
            assert time.monotonic() < end
            time.sleep(0.05)
        assert "site here" in (page.text_content("#model") or "")
        page.set_input_files("#files", [str(tmp_path / name) for name in films])
        while not (page.text_content("#status") or "").startswith("Done"):
            assert time.monotonic() < end
            time.sleep(0.05)
        for record in page.evaluate("records"):
            expected = screener.screen(films[record["source"]], record["source"])
            assert record["site"] == profile.sha256 and record["operating_point"] == "site"
            assert record["decision"] == expected.decision
            if expected.probability is not None:
                assert record["probability"] == pytest.approx(expected.probability, abs=1e-6)
        page.close()
