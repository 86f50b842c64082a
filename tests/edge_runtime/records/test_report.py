"""The report page, read as text and in a real browser."""

from __future__ import annotations

import base64
import dataclasses
import datetime
import html
import io
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edge_runtime import Screener
from edge_runtime.bundle.manifest import Expected
from edge_runtime.images.phantom import phantom_jpeg
from edge_runtime.records.figures import told_figures
from edge_runtime.records.messages import LANGUAGES, say
from edge_runtime.records.record import Examination
from edge_runtime.records.report import Made, write_report
from edge_runtime.statistics.estimates import Estimate
from tests.languages import foreign_words

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


def made(screener: Screener) -> Made:
    at = datetime.datetime(2026, 11, 25, 14, 5)
    return Made(
        screener.bundle.manifest, screener.operating_point, screener.engine_name, "Clinic A", at
    )


def places(text: str) -> list[float]:
    """Where the scores of a page lie, in its order."""
    return [float(found) for found in re.findall(r"class=at style='left:([0-9.]+)%'", text)]


@pytest.fixture(scope="module")
def page(
    screener: Screener, examinations: list[Examination], tmp_path_factory: pytest.TempPathFactory
) -> str:
    file = tmp_path_factory.mktemp("report") / "page.html"
    (path,) = write_report(file, examinations, made(screener), "Ward 3", "SYNTHETIC")
    return Path(path).read_text(encoding="utf-8")


def test_many_results_have_pages_that_lead_to_each_other(
    screener: Screener, examinations: list[Examination], tmp_path: Path
) -> None:
    pages = write_report(tmp_path / "ward 3.html", examinations * 100, made(screener))
    texts = [Path(path).read_text(encoding="utf-8") for path in pages]
    assert [Path(path).name for path in pages] == ["ward 3.html", "ward 3-2.html", "ward 3-3.html"]
    assert [text.count("class='result") for text in texts] == [300, 300, 100]
    assert ["100 not screened" in text for text in texts] == [False, False, True]
    assert all("600 images screened, 100 not" in text for text in texts)
    assert "href='ward%203-2.html'" in texts[0] and "href='ward%203.html'" in texts[2]
    shown = [place for text in texts for place in places(text)]
    assert len(shown) == 600 and shown == sorted(shown, reverse=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(Path(p).name for p in pages)


def test_the_page_is_self_contained_and_escapes_names(page: str) -> None:
    assert page.count("<figure") == 6 and page.count("class='result failed'") == 1
    assert "http" not in page.replace("http-equiv", "")
    assert "<script" not in page and "&lt;script&gt;" in page
    assert "default-src 'none'" in page and "SYNTHETIC" in page


def test_the_worklist_comes_first_in_order_and_failures_are_folded(page: str) -> None:
    shown = places(page)
    assert len(shown) == 6 and shown == sorted(shown, reverse=True)
    assert page.index("class=at") < page.index("1 not screened") < page.index("result failed")
    assert "<details><summary>1 not screened" in page  # folded


def test_the_head_says_when_where_and_with_what(page: str, screener: Screener) -> None:
    head = page[page.index("<header>") : page.index("</header>")]
    manifest = screener.bundle.manifest
    told = "Screened on 2026-11-25 14:05; site Clinic A; model "
    assert f"{told}{manifest.name} {manifest.version} on {screener.engine_name}" in head


def test_films_keep_their_proportions(screener: Screener, tmp_path: Path) -> None:
    for size in ((300, 600), (600, 300), (400, 400)):
        tall = screener.examine(phantom_jpeg(1, True, *size))
        (path,) = write_report(tmp_path / "a.html", [tall], made(screener))
        pictures = re.findall(r"base64,([A-Za-z0-9+/=]+)", Path(path).read_text(encoding="utf-8"))
        assert len(pictures) == 2  # the film, and the colours over it
        for picture in pictures:
            found = Image.open(io.BytesIO(base64.b64decode(picture)))
            assert found.height / found.width == pytest.approx(size[0] / size[1], rel=0.02)


def test_figures_name_their_films_and_the_worst_comes_first(screener: Screener) -> None:
    manifest, point = screener.bundle.manifest, screener.operating_point
    point = dataclasses.replace(point, name="balanced")
    good, bad = Estimate(0.99, 0.98, 1.0), Estimate(0.24, 0.16, 0.35)
    expected = (
        Expected("", "test", "balanced", 234, 390, good, good, good),
        Expected("elsewhere", "held out", "balanced", 54, 90, bad, good),
        Expected("", "test", "screening", 234, 390, bad, bad),
    )
    manifest = dataclasses.replace(manifest, expected=expected)
    for language in LANGUAGES:
        lines = told_figures(manifest, point, language)
        assert len(lines) == 3
        assert "elsewhere" in lines[0] and "24.0%" in lines[0] and "90" in lines[0]
        assert say("figures.test", language) in lines[1] and "99.0%" in lines[1]
        assert point.split in lines[2]
        assert say("figures.chosen", language).partition("}")[2] in lines[2]
    assert told_figures(manifest, screener.operating_point, "en") == []  # a threshold made up here


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_page_speaks_the_language(
    screener: Screener, examinations: list[Examination], language: str, tmp_path: Path
) -> None:
    manifest = screener.bundle.manifest
    use = {"en": "It is for the test.", "fr": "C'est pour un essai.", "es": "Para probarlo."}
    manifest = dataclasses.replace(
        manifest,
        intended_use=use["en"],
        translations={name: use[name] for name in ("fr", "es")},
        version="1.2.3",
        name="m",
    )
    refused = Screener.load(screener.bundle.folder).examine(grey_jpeg(), "ward/grey.jpeg")
    assert refused.record.status == "rejected"
    point = dataclasses.replace(manifest.operating_points[0], split="x")
    about = Made(manifest, point, "engine")
    shown = [*examinations[:6], refused, screener.examine(b"", "ward/7.png")]
    (path,) = write_report(tmp_path / "a.html", shown, about, language=language)
    text = Path(path).read_text(encoding="utf-8")
    assert f'<html lang="{language}">' in text
    keys = ["report.title", "report.caution", "notice", "report.all", "report.failed"]
    keys += ["flag.low_contrast", "error.empty_file", "picture.caption", "figures.title"]
    for key in [*keys, "meaning.rejected", "picture.enlarge", "decision.pneumonia"]:
        sentence = say(key, language)
        assert html.escape(sentence[1:]) in text, key
    body = html.unescape(text.split("</style>")[1])
    assert "{" not in body, "a sentence has a gap that was not filled"
    assert "b''" not in body
    if language == "pt":  # nobody has translated it: it says which language it is in
        assert f"<span lang=en>{use['en']}</span>" in body
        body = body.replace(use["en"], "")
    else:
        assert use[language] in body
    plain = re.sub(r"src='[^']*'|<[a-z]+ [^>]*?(title|alt|aria-label)='|<[^>]*>", " ", body)
    assert not foreign_words(plain, language)


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
    assert grey > 0.1
    # The same page with another radio button chosen, as a click would.
    chosen = page.replace("id=show-all checked", "id=show-all").replace(
        "id=show-failed", "id=show-failed checked"
    )
    file.write_text(chosen, encoding="utf-8")
    filtered = browse(file, tmp_path / "filtered.png")
    assert (filtered.sum(axis=2) < 600).mean() < grey / 4
