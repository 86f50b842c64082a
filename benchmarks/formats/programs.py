"""The same films through cxr-edge, screen.c and the browser's page, each as people start it."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import functools
import http.server
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib import util
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks.processes import Finished, run_process
from edge_runtime.errors import CxrEdgeError
from export.c_array import write_c_array
from export.web import write_web

ROOT = Path(__file__).parents[2]
_STARTS = 5  # of each page, in turn
_SCREEN = """async ([name, bytes, kind]) => {
  const content = Uint8Array.from(atob(bytes), (c) => c.charCodeAt(0));
  const body = new File([content], name, { type: kind });
  const start = performance.now();
  const answer = await fetch("v1/screen?population=", { method: "POST", body });
  return [await answer.json(), performance.now() - start, performance.now()];
}"""
_BARE = """
import * as ort from "./ort.mjs";
ort.env.wasm.numThreads = 1;
ort.env.wasm.wasmBinary = await (await fetch("ort.wasm")).arrayBuffer();
const model = await (await fetch("model.onnx")).arrayBuffer();
const session = await ort.InferenceSession.create(model, { executionProviders: ["wasm"] });
const known = (await (await fetch("bundle.json")).json());
const pixels = Uint8Array.from(atob(known.known_answers[0].tensor_base64), (c) => c.charCodeAt(0));
const { height, width } = known.input;
await session.run({ image: new ort.Tensor("uint8", pixels, [1, height, width, 1]) });
document.title = String(performance.now());
"""


class NotHereError(CxrEdgeError):
    """A program that cannot be had on this machine."""


@dataclasses.dataclass(frozen=True)
class Answer:
    status: str
    probability: float | None
    decision: str | None


@dataclasses.dataclass(frozen=True)
class Answered:
    """What one program made of all films."""

    answers: tuple[Answer, ...]
    seconds: float  # of all, with the start
    first_s: float  # from nothing to the first answer
    peak_mb: float | None
    megabytes: float  # of what has to be there, the model included, without the Python or browser


def _answer(record: Mapping[str, Any]) -> Answer:
    return Answer(record["status"], record.get("probability"), record.get("decision"))


def _run(command: Sequence[str | Path], **environment: str) -> Finished:
    """A program that may exit with 1."""
    done = run_process(command, **environment)
    if done.code not in (0, 1):
        raise NotHereError(f"{command[0]} ended with {done.code}")
    return done


def by_runtime(bundle: Path, films: Sequence[Path]) -> Answered:
    """`cxr-edge screen` on ONNX Runtime with one thread, as the C program has it."""
    command: list[str | Path] = [
        sys.executable, "-m", "edge_runtime", "screen", "--bundle", bundle, "--engine",
        "onnxruntime", "--threads", "1", "--format", "jsonl",
    ]  # fmt: skip
    first, done = _run([*command, films[0]]), _run([*command, *films])
    return _answered(first, done, _size(bundle / "model.onnx"))


def by_c(bundle: Path, films: Sequence[Path]) -> Answered:
    """examples/embed/screen.c, built here.

    Raises:
        NotHereError: No compiler, header or ONNX Runtime.
    """
    specification = util.find_spec("onnxruntime")
    if shutil.which("gcc") is None or specification is None or specification.origin is None:
        raise NotHereError("gcc and onnxruntime are needed")
    (library,) = (Path(specification.origin).parent / "capi").glob("libonnxruntime.so.*")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for link in ("libonnxruntime.so", "libonnxruntime.so.1"):
            (folder / link).symlink_to(library)
        write_c_array(bundle, folder)
        embed, program = ROOT / "examples" / "embed", folder / "screen"
        build: list[str | Path] = [
            "gcc", "-O2", f"-I{folder}", f"-I{embed}", "-o", program, embed / "screen.c",
            folder / "cxr_edge.c", folder / "parameters.c", f"-L{folder}", "-ljpeg", "-lpng",
            "-lonnxruntime", "-lm",
        ]  # fmt: skip
        built = subprocess.run(build, capture_output=True, text=True, check=False)
        if built.returncode:
            raise NotHereError(f"screen.c cannot be built here: {built.stderr.strip()[:200]}")
        command = [program, bundle / "model.onnx"]
        first = _run([*command, films[0]], LD_LIBRARY_PATH=name)
        done = _run([*command, *films], LD_LIBRARY_PATH=name)
        size = _size(program) + _size(library) + _size(bundle / "model.onnx")
    return _answered(first, done, size)


def _answered(first: Finished, done: Finished, megabytes: float) -> Answered:
    answers = tuple(_answer(json.loads(line)) for line in done.output.splitlines())
    return Answered(answers, done.seconds, first.seconds, done.peak_mb, megabytes)


def in_browser(
    bundle: Path, films: Sequence[Path], runtime: Path | None
) -> tuple[Answered, list[float]]:
    """The page of `export web` in headless Chromium; and the ratios of the time to its first answer
    to that of onnxruntime-web alone on one tensor, start by start.

    Raises:
        NotHereError: No Chromium or playwright.
    """
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None or util.find_spec("playwright") is None:
        raise NotHereError("chromium and playwright are needed")
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as name:
        files = write_web(bundle, Path(name), runtime)
        size = sum(_size(path) for path in files)
        Path(name, "bare.js").write_text(_BARE, encoding="utf-8")
        Path(name, "bare.html").write_text('<script type="module" src="bare.js"></script>')
        with serving(Path(name)) as url, sync_playwright() as driver:
            instance = driver.chromium.launch(executable_path=browser, args=["--no-sandbox"])
            ratios = []
            firsts = []
            for _ in range(_STARTS):
                bare = _bare_start(instance, url)
                firsts.append(_first(instance, url, films[0]))
                ratios.append(firsts[-1] / bare)
            page = instance.new_context().new_page()
            page.goto(url)
            answers = []
            start = time.perf_counter()
            for film in tqdm(films, "browser", unit="film", leave=False, disable=None):
                record, _, _ = page.evaluate(_SCREEN, _sent(film))
                answers.append(_answer(record))
            seconds = time.perf_counter() - start
            instance.close()
    first = statistics.median(firsts) / 1e3
    return Answered(tuple(answers), seconds, first, None, size), ratios


def _bare_start(instance: Any, url: str) -> float:
    """Milliseconds from navigation to onnxruntime-web's first answer."""
    context = instance.new_context(service_workers="block")
    page = context.new_page()
    page.goto(f"{url}bare.html")
    while not page.title():
        page.wait_for_timeout(5)
    took = float(page.title())
    context.close()
    return took


def _first(instance: Any, url: str, film: Path) -> float:
    context = instance.new_context(service_workers="block")
    page = context.new_page()
    page.goto(url, wait_until="commit")
    page.wait_for_load_state("domcontentloaded")
    *_, took = page.evaluate(_SCREEN, _sent(film))
    context.close()
    return float(took)


def _sent(film: Path) -> list[str]:
    kind = "image/png" if film.suffix.lower() == ".png" else "image/jpeg"
    return [film.name, base64.b64encode(film.read_bytes()).decode(), kind]


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[str]:
    """A folder over HTTP on this machine; its address."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *arguments: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def _size(path: Path) -> float:
    return path.stat().st_size / 1e6
