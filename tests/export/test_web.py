"""`export web`: the page screens in a browser as the runtime does, offline, and keeps nothing."""

from __future__ import annotations

import base64
import io
import json
import shutil
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks.formats.programs import serving
from edge_runtime import Screener
from edge_runtime.bundle.folder import load_bundle
from edge_runtime.errors import InvalidValueError
from edge_runtime.images.phantom import as_jpeg, draw_film
from edge_runtime.records.record import Record
from export.web import RUNTIME, _page, _read_runtime, write_web
from tests.conftest import ROOT

KEPT = ROOT / "build" / f"onnxruntime-web-{RUNTIME}.tgz"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for tool in ("clang", "wasm-ld"):
        if shutil.which(tool) is None:
            pytest.skip(f"no {tool} here (Debian: apt install clang lld)")
    place = tmp_path_factory.mktemp("web")
    try:
        write_web(Path(load_bundle("small").folder), place, KEPT if KEPT.exists() else None)
    except InvalidValueError as error:
        if "cannot be read" in str(error):
            pytest.skip(f"no onnxruntime-web here, and no network: {str(error)[:80]}")
        raise
    return place


def until(is_so: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.05)


def films() -> dict[str, bytes]:
    rng = np.random.default_rng(0)

    def png(image: Image.Image) -> bytes:
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        return buffer.getvalue()

    film = Image.fromarray(draw_film(81, 0.3))
    sixteen = np.asarray(film).astype(np.uint16) * 16
    return {
        "plain.jpeg": as_jpeg(draw_film(80)),
        "grey.png": png(film),
        "twelve-bit.png": png(Image.fromarray(sixteen)),
        "colour.png": png(film.convert("RGB")),
        "palette.png": png(film.convert("P")),
        "bits.png": png(film.convert("1")),
        "noise.png": png(Image.fromarray(rng.integers(0, 256, (500, 500), np.uint8))),
        "tiny.png": png(film.resize((60, 60))),
        "inverted.png": png(Image.fromarray(255 - draw_film(81))),
        "cut.png": png(film)[:4000],
        "cut.jpeg": as_jpeg(draw_film(80))[:3000],
        "empty.png": b"",
        "text.txt": b"hello",
    }


def test_the_page_screens_as_the_runtime_does(browser: Any, folder: Path, tmp_path: Path) -> None:
    screener = Screener.load("small", engine="onnxruntime")
    with serving(folder) as url:
        context = browser.new_context(viewport={"width": 390, "height": 800}, locale="en")
        page = context.new_page()
        faults: list[str] = []
        page.on("pageerror", lambda error: faults.append(str(error)))
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(url)
        until(lambda: "onnxruntime-web" in (page.text_content("#model") or ""))
        for name, content in films().items():
            (tmp_path / name).write_bytes(content)
        page.set_input_files("#files", [str(tmp_path / name) for name in films()])
        until(lambda: (page.text_content("#status") or "").startswith("Done"))
        found = {one["source"]: one for one in page.evaluate("records")}
        assert set(found) == set(films())
        for name, content in films().items():
            record, expected = found[name], screener.screen(content, name)
            assert record["status"] == expected.status, (name, record)
            if expected.error is not None:
                assert record["error"]["code"] == expected.error.code, name
                continue
            assert Record.from_json(json.dumps(record)).sha256 == expected.sha256
            assert set(record["quality"]["flags"]) == set(expected.quality.flags), name
            assert record["decision"] == expected.decision, name
            if expected.probability is not None:
                # PNG is decoded to the bit; the browser has a JPEG decoder of its own.
                digits = 1e-6 if name.endswith(".png") else 0.02
                assert record["probability"] == pytest.approx(expected.probability, abs=digits)
        # What this page does not read it does not ask for.
        words = json.loads((folder / "messages.json").read_text(encoding="utf-8"))["en"]
        assert words["error.unsupported_format.browser"] in page.inner_text("#results")
        # Pictures: the film, and colours for what was judged.
        judged = sum(one["decision"] is not None for one in found.values())
        assert judged >= 4
        assert page.locator("img.heat").count() == judged
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert not faults, faults
        assert all(address.startswith((url, "blob:")) for address in asked), asked
        assert page.evaluate("[localStorage.length, sessionStorage.length]") == [0, 0]
        # Without the network, and without the server.
        until(lambda: bool(page.evaluate("navigator.serviceWorker.controller !== null")))
    page.reload()
    until(lambda: "onnxruntime-web" in (page.text_content("#model") or ""))
    page.set_input_files("#files", str(tmp_path / "grey.png"))
    until(lambda: (page.text_content("#status") or "").startswith("Done"))
    assert page.evaluate("records")[0]["decision"] == found["grey.png"]["decision"]
    kept = page.evaluate(
        "caches.keys().then((n) => Promise.all(n.map((k) => caches.open(k).then((c) => c.keys()))))"
        ".then((all) => all.flat().map((request) => request.url))"
    )
    assert kept and all("png" not in address for address in kept)
    context.close()


def test_the_page_opens_from_a_stick(browser: Any, folder: Path, tmp_path: Path) -> None:
    runtime = KEPT if KEPT.exists() else None
    write_web(Path(load_bundle("tiny").folder), tmp_path / "usb", runtime, usb=True)
    page = browser.new_context(locale="en").new_page()
    page.goto((tmp_path / "usb" / "index.html").as_uri())
    until(lambda: "onnxruntime-web" in (page.text_content("#model") or ""))
    film = {"name": "a.png", "mimeType": "image/png", "buffer": films()["grey.png"]}
    page.set_input_files("#files", film)
    until(lambda: (page.text_content("#status") or "").startswith("Done"))
    expected = Screener.load("tiny", engine="onnxruntime").screen(films()["grey.png"])
    assert page.evaluate("records")[0]["decision"] == expected.decision
    page.goto((folder / "index.html").as_uri())  # made without: that is said, nothing is screened
    until(lambda: len(page.text_content("#model") or "") > 20)
    assert "onnxruntime" not in (page.text_content("#model") or "")


@pytest.mark.parametrize("language", ["fr", "es", "pt"])
def test_the_page_speaks(browser: Any, folder: Path, language: str) -> None:
    words = json.loads((folder / "messages.json").read_text(encoding="utf-8"))[language]
    with serving(folder) as url:
        page = browser.new_context(locale=language).new_page()
        page.goto(url)
        until(lambda: page.text_content("h1") == words["page.title"])
        until(lambda: "onnxruntime-web" in (page.text_content("#model") or ""))
        assert page.text_content("#population option") == words["population.any"]
        use = load_bundle("small").manifest.translations[language]
        assert page.text_content("#use") == use


def test_wrong_answers_and_missing_files_are_said(
    browser: Any, folder: Path, tmp_path: Path
) -> None:
    words = json.loads((folder / "messages.json").read_text(encoding="utf-8"))["en"]
    wrong = Path(shutil.copytree(folder, tmp_path / "wrong"))
    bundle = json.loads((wrong / "bundle.json").read_text(encoding="utf-8"))
    bundle["known_answers"][1]["logits"][0] += 1
    (wrong / "bundle.json").write_text(json.dumps(bundle))
    missing = Path(shutil.copytree(folder, tmp_path / "missing"))
    (missing / "model.onnx").unlink()
    for place, key in ((wrong, "error.wrong_answers"), (missing, "error.not_loaded")):
        with serving(place) as url:
            page = browser.new_context(locale="en", service_workers="block").new_page()
            page.goto(url)
            until(lambda page=page, key=key: page.text_content("#model") == words[key])  # type: ignore[misc]
            film = {"name": "a.png", "mimeType": "image/png", "buffer": films()["grey.png"]}
            page.set_input_files("#files", film)
            until(lambda page=page: (page.text_content("#status") or "").startswith("Done"))  # type: ignore[misc]
            assert page.evaluate("records")[0]["status"] == "error"
            assert page.evaluate("records")[0]["decision"] is None


def test_the_folder_is_whole_and_says_whose_it_is(folder: Path) -> None:
    names = {path.name for path in folder.iterdir()}
    worker = (folder / "sw.js").read_text(encoding="utf-8")
    listed = set(json.loads(worker.split("const FILES = ")[1].split(";")[0]))
    assert listed == {"./", *names} - {"sw.js", "LICENSES.txt"}
    assert "@" not in worker.split("const FILES")[0]
    page = (folder / "index.html").read_text(encoding="utf-8")
    assert "content-security-policy" in page and "http" not in page.replace("http-equiv", "")
    known = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))
    assert known["sha256"] == load_bundle("small").sha256
    pixels = base64.b64decode(known["known_answers"][0]["tensor_base64"])
    assert len(pixels) == known["input"]["height"] * known["input"]["width"]
    assert "MIT License" in (folder / "LICENSES.txt").read_text(encoding="utf-8")
    manifest = json.loads((folder / "manifest.webmanifest").read_text(encoding="utf-8"))
    assert manifest["display"] == "standalone"


def test_another_package_is_refused(tmp_path: Path) -> None:
    fake = tmp_path / "ort.tgz"
    with tarfile.open(fake, "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("package/dist/ort.wasm.bundle.min.mjs"))
    with pytest.raises(InvalidValueError, match="SHA-512 differs"):
        _read_runtime(fake)
    with pytest.raises(InvalidValueError, match="npm pack onnxruntime-web"):
        _read_runtime(tmp_path / "none.tgz")


def test_the_page_is_serves_page_with_a_policy() -> None:
    text = _page()
    assert text.index("local.js") < text.index("app.js") and "dcm" not in text
