"""The report page, read as text and in a real browser."""

from __future__ import annotations

import html
import io
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edge_runtime import Screener
from edge_runtime.images.phantom import phantom_jpeg
from edge_runtime.records.messages import LANGUAGES, say
from edge_runtime.records.record import Examination
from edge_runtime.records.report import write_report

BROWSER = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)


@pytest.fixture(scope="module")
def screener(bundle: Path) -> Screener:
    return Screener.load(bundle, threshold=0.3, force=True)


@pytest.fixture(scope="module")
def examinations(screener: Screener) -> list[Examination]:
    found = [
        screener.examine(phantom_jpeg(seed, bool(seed % 2)), f"ward/{seed}.jpeg")
        for seed in range(6)
    ]
    return [*found, screener.examine(b"", "ward/<script>alert(1)</script>.png")]


@pytest.fixture(scope="module")
def page(
    screener: Screener, examinations: list[Examination], tmp_path_factory: pytest.TempPathFactory
) -> str:
    manifest, point = screener.bundle.manifest, screener.operating_point
    file = tmp_path_factory.mktemp("report") / "page.html"
    (path,) = write_report(file, examinations, manifest, point, "Ward 3", "SYNTHETIC")
    return Path(path).read_text(encoding="utf-8")


def test_many_results_have_pages_that_lead_to_each_other(
    screener: Screener, examinations: list[Examination], tmp_path: Path
) -> None:
    manifest, point = screener.bundle.manifest, screener.operating_point
    pages = write_report(tmp_path / "ward 3.html", examinations * 100, manifest, point)
    texts = [Path(path).read_text(encoding="utf-8") for path in pages]
    assert [Path(path).name for path in pages] == ["ward 3.html", "ward 3-2.html", "ward 3-3.html"]
    assert [text.count("class='result") for text in texts] == [300, 300, 100]
    assert all("600 images screened, 100 not" in text for text in texts)
    assert "href='ward%203-2.html'" in texts[0] and "href='ward%203.html'" in texts[2]
    shown = [
        float(part.split("</b> ")[1][:6])
        for text in texts
        for part in text.split("<figcaption>")[1:]
    ]
    assert len(shown) == 600 and shown == sorted(shown, reverse=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(Path(p).name for p in pages)


def test_the_page_is_self_contained_and_escapes_names(page: str) -> None:
    assert page.count("<figure") == 6 and page.count("class='result failed'") == 1
    assert "http" not in page.replace("http-equiv", "")
    assert "<script" not in page and "&lt;script&gt;" in page
    assert "default-src 'none'" in page and "SYNTHETIC" in page


def test_the_worklist_is_ordered_by_probability(page: str) -> None:
    shown = [float(part.split("</b> ")[1][:6]) for part in page.split("<figcaption>")[1:]]
    assert len(shown) == 6 and shown == sorted(shown, reverse=True)


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_page_speaks_the_language_and_keeps_the_numbers(
    screener: Screener,
    examinations: list[Examination],
    page: str,
    language: str,
    tmp_path: Path,
) -> None:
    manifest = screener.bundle.manifest
    refused = Screener.load(screener.bundle.folder).examine(grey_jpeg(), "ward/grey.jpeg")
    assert refused.record.status == "rejected"
    point = manifest.operating_points[0]
    (path,) = write_report(
        tmp_path / "a.html", [*examinations, refused], manifest, point, language=language
    )
    text = Path(path).read_text(encoding="utf-8")
    assert f'<html lang="{language}">' in text
    keys = ["title", "caution", "all", "failed", "refused", "picture"]
    for key in [f"report.{key}" for key in keys] + ["decision.pneumonia", "flag.low_contrast"]:
        assert html.escape(say(key, language)) in text
    assert "{" not in text.split("</style>")[1], "a sentence has a gap that was not filled"
    for examination in examinations[:6]:
        assert f"{examination.record.probability:.4f}" in text
    if language == "en":
        assert "the file is empty" in text
    else:
        assert html.escape(say("error.empty_file", language)) in text
        assert html.escape(say("notice", language)) in text


def grey_jpeg() -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (400, 400), 128).save(buffer, "JPEG")
    return buffer.getvalue()


def browse(page: Path, screenshot: Path) -> np.ndarray:
    if BROWSER is None:
        pytest.skip("no Chromium here (Debian: apt install chromium)")
    profile = screenshot.parent / "profile"
    command = [
        BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        f"--user-data-dir={profile}", "--window-size=1000,1400", f"--screenshot={screenshot}",
        page.as_uri(),
    ]  # fmt: skip
    subprocess.run(command, capture_output=True, timeout=120, check=True)
    return np.asarray(Image.open(screenshot).convert("RGB")).astype(int)


def test_a_browser_shows_the_pictures_and_the_filter_hides_some(page: str, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_text(page, encoding="utf-8")
    whole = browse(file, tmp_path / "whole.png")
    # The radiographs are there: greys that the page's own white background has not.
    grey = (whole.sum(axis=2) < 600).mean()
    assert grey > 0.15
    # The same page with another radio button chosen, as a click would.
    chosen = page.replace("id=show-all checked", "id=show-all").replace(
        "id=show-failed", "id=show-failed checked"
    )
    file.write_text(chosen, encoding="utf-8")
    filtered = browse(file, tmp_path / "filtered.png")
    assert (filtered.sum(axis=2) < 600).mean() < grey / 4
