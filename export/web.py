"""A bundle as a folder of files that screens in a browser: no server behind it, no network.

    python -m export web edge_runtime/models/small --output build/web

The page is the one of `cxr-edge serve`; what a server would answer it, export/browser/local.js
does: preparation, quality gate and decision are the portable C sources, compiled to wasm with
clang, and the network runs in ONNX Runtime's wasm, from the npm package onnxruntime-web, pinned by
its hash. Any web server can hold the folder (`python -m http.server`). The page reproduces the
known answers before it screens, keeps nothing, and opens without a network after the first visit.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import io
import json
import shutil
import subprocess
import tarfile
import tempfile
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge_runtime import __version__
from edge_runtime.bundle.folder import Bundle, load_bundle
from edge_runtime.bundle.manifest import Manifest
from edge_runtime.bundle.site_profile import SiteProfile
from edge_runtime.errors import InvalidValueError
from edge_runtime.images.preprocess import least_size, prepare
from edge_runtime.judge.operating_point import OperatingPoint
from edge_runtime.records.messages import LANGUAGES, catalogue
from edge_runtime.services.web import app
from export.c_parameters import PORTABLE, write_parameters
from export.site import as_site_judges, load_site

RUNTIME = "1.30.0"
_ADDRESS = f"https://registry.npmjs.org/onnxruntime-web/-/onnxruntime-web-{RUNTIME}.tgz"
_SHA512 = (
    "ab4cbe26baedba45d2cec05610c71c55fa97db92d19a8b171c5f8269126683ca"
    "590a5cdc57bb2f35ce2b298de32f4d956fb42644c0ecd528a0a91e025c07ca61"
)
_TAKEN = {
    "package/dist/ort.wasm.bundle.min.mjs": "ort.mjs",
    "package/dist/ort-wasm-simd-threaded.wasm": "ort.wasm",
}
_BROWSER = Path(__file__).parent / "browser"
_STATIC = Path(app.__file__).parent / "static"
_MOST_BYTES = 64_000_000
_FAMILY = "onnxruntime"
# What the page may do: its own files and nothing else.
_POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; "
    "img-src 'self' blob: data:; connect-src 'self'; manifest-src 'self'; worker-src 'self'; "
    "base-uri 'none'; form-action 'none'"
)
_COMPILE = (
    "--target=wasm32", "-std=c99", "-O3", "-msimd128", "-ffreestanding", "-nostdlib",
    "-Wl,--no-entry", "-Wl,--allow-undefined", "-Wl,--export=__heap_base", "-Wl,--strip-all",
)  # fmt: skip


_USB = ("bundle.json", "messages.json", "cxr.wasm", "model.onnx", "ort.mjs", "ort.wasm")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = __doc__
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--output", type=Path, required=True, help="folder")
    parser.add_argument(
        "--runtime",
        type=Path,
        metavar="FILE.tgz",
        help=f"the npm package onnxruntime-web {RUNTIME} (npm pack onnxruntime-web@{RUNTIME}); "
        "without it, it is downloaded",
    )
    parser.add_argument("--site", type=Path, metavar="FILE", help="a site profile to judge by")
    parser.add_argument(
        "--usb",
        action="store_true",
        help="the page also opens from a USB stick, by a double click: adds files.js, which holds "
        "the others once more",
    )


def run(arguments: argparse.Namespace) -> int:
    files = write_web(
        arguments.bundle, arguments.output, arguments.runtime, arguments.usb, arguments.site
    )
    for path in files:
        print(f"{path.stat().st_size / 1e6:8.2f} MB  {path.name}")
    print(f"{sum(path.stat().st_size for path in files) / 1e6:8.2f} MB  in all: {arguments.output}")
    return 0


def write_web(
    bundle: Path,
    output: Path,
    runtime: Path | None = None,
    usb: bool = False,
    site: Path | None = None,
) -> list[Path]:
    """Write the folder; its files, sorted.

    Args:
        bundle: A bundle with an .onnx file.
        output: Folder, made where it is not there.
        runtime: The npm package; without it, it is downloaded.
        usb: The page shall also open without any server.
        site: A site profile to judge by.

    Raises:
        BundleError: The bundle is incomplete or altered.
        InvalidValueError: It has no .onnx file, clang or the package is missing, or the package is
            not the pinned one.
    """
    opened = load_bundle(bundle)
    file = opened.manifest.model_file("onnx")
    if file is None:
        raise InvalidValueError(f"{bundle} has no .onnx file")
    profile = load_site(opened, site, _FAMILY)
    contents: dict[str, bytes] = {
        **_read_runtime(runtime),
        "LICENSES.txt": (_BROWSER / "LICENSES.txt").read_bytes(),
        "cxr.wasm": _compile(opened, profile),
        "model.onnx": opened.read(file),
        "bundle.json": _json(_describe(opened, profile)),
        "messages.json": _json({language: dict(catalogue(language)) for language in LANGUAGES}),
        "local.js": (_BROWSER / "local.js").read_bytes(),
        "icon.svg": (_BROWSER / "icon.svg").read_bytes(),
        "app.js": (_STATIC / "app.js").read_bytes(),
        "style.css": (_STATIC / "style.css").read_bytes(),
        "index.html": _page(usb).encode(),
        "manifest.webmanifest": _json(_installable(opened.manifest)),
    }
    contents["sw.js"] = _service_worker(contents)
    if usb:
        held = {name: base64.b64encode(contents[name]).decode() for name in _USB}
        contents["files.js"] = b"window.cxrFiles = " + _json(held) + b";\n"
    output.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (output / name).write_bytes(content)
    return sorted(output / name for name in contents)


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _read_runtime(path: Path | None) -> dict[str, bytes]:
    try:
        if path is not None:
            package = path.read_bytes()
        else:
            with urllib.request.urlopen(_ADDRESS, timeout=120) as answer:
                package = answer.read()
    except (OSError, urllib.error.URLError) as error:
        raise InvalidValueError(
            f"onnxruntime-web {RUNTIME} cannot be read: {error}; where there is a network, "
            f"npm pack onnxruntime-web@{RUNTIME}, then --runtime FILE.tgz"
        ) from error
    if hashlib.sha512(package).hexdigest() != _SHA512:
        raise InvalidValueError(
            f"{path or _ADDRESS} is not onnxruntime-web {RUNTIME} as it was published: its SHA-512 "
            "differs"
        )
    with tarfile.open(fileobj=io.BytesIO(package)) as archive:
        found = {}
        for name, kept in _TAKEN.items():
            member = archive.extractfile(name)
            assert member is not None
            found[kept] = member.read()
    return found


def _compile(bundle: Bundle, site: SiteProfile | None) -> bytes:
    clang = shutil.which("clang")
    if clang is None or shutil.which("wasm-ld") is None:
        raise InvalidValueError("clang and lld are needed for the wasm (Debian: clang, lld)")
    with tempfile.TemporaryDirectory() as folder:
        parameters, target = Path(folder) / "parameters.c", Path(folder) / "cxr.wasm"
        text = write_parameters(bundle.manifest, bundle.sha256, site)
        parameters.write_text(text, encoding="utf-8")
        sources = (_BROWSER / "glue.c", PORTABLE / "cxr_edge.c", parameters)
        command: Sequence[str | Path] = (
            clang, *_COMPILE, f"-I{_BROWSER}", f"-I{PORTABLE}", "-o", target, *sources,
        )  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise InvalidValueError(f"clang: {done.stderr.strip()[-500:]}")
        return target.read_bytes()


def _describe(bundle: Bundle, site: SiteProfile | None) -> dict[str, Any]:
    """What local.js must know of the bundle; `info` is what `serve` answers to /v1/info."""
    manifest = as_site_judges(bundle.manifest, site)
    point = manifest.operating_point()
    rows, columns, units = manifest.outputs.map_shape
    return {
        "sha256": bundle.sha256,
        "site": site.sha256 if site else None,
        "input": {
            "height": manifest.input.height,
            "width": manifest.input.width,
            "least": least_size(manifest.input),
        },
        "map": {
            "rows": rows,
            "columns": columns,
            "units": units,
            "softmax": manifest.outputs.activation == "softmax",
        },
        "evidence_floor": manifest.evidence_floor,
        "operating_points": _points(manifest.operating_points),
        "populations": [
            {"name": each.name, "operating_points": _points(each.operating_points)}
            for each in manifest.populations
        ],
        "findings": [
            {"name": each.name, "operating_points": _points(each.operating_points)}
            for each in manifest.findings
        ],
        "known_answers": [
            {
                "tensor_base64": base64.b64encode(
                    prepare(answer.image, manifest.input).tobytes()
                ).decode(),
                "logits": answer.logits[_FAMILY],
                "tolerance": answer.tolerance[_FAMILY],
            }
            for answer in manifest.known_answers
        ],
        "info": {
            "cxr-edge": __version__,
            "model": {"name": manifest.name, "version": manifest.version},
            "engine": f"onnxruntime-web {RUNTIME}",
            "operating_point": point.name,
            "threshold": point.threshold,
            "uncertain": point.uncertain,
            "population": None,
            "populations": {
                each.name: {"threshold": own.threshold, "uncertain": own.uncertain}
                for each in manifest.populations
                for own in [manifest.operating_point(point.name, each.name)]
            },
            "knows_ages": False,  # no picture states one
            "site": site.name if site else None,
            "positive": manifest.positive,
            "findings": [each.name for each in manifest.findings],
            "intended_use": manifest.intended_use,
            "translations": dict(manifest.translations),
            "max_bytes": _MOST_BYTES,
        },
    }


def _points(points: Sequence[OperatingPoint]) -> list[dict[str, Any]]:
    return [{"name": p.name, "threshold": p.threshold, "uncertain": p.uncertain} for p in points]


def _page(usb: bool = False) -> str:
    """`serve`'s page, with local.js in front of its script."""
    text = (_STATIC / "index.html").read_text(encoding="utf-8")
    policy = _POLICY.replace("'wasm-unsafe-eval'", "'wasm-unsafe-eval' blob:") if usb else _POLICY
    changes = {
        '<link rel="icon" href="data:,">': (
            f'<meta http-equiv="content-security-policy" content="{policy}">\n'
            '<link rel="icon" href="icon.svg">\n<link rel="manifest" href="manifest.webmanifest">'
        ),
        '<script src="app.js" defer></script>': (
            '<script src="local.js" defer></script>\n<script src="app.js" defer></script>'
        ),
        "image/*,.dcm,application/dicom": "image/*",
    }
    for old, new in changes.items():
        if text.count(old) != 1:
            raise AssertionError(f"index.html of serve has not one {old}")
        text = text.replace(old, new)
    return text


def _installable(manifest: Manifest) -> dict[str, Any]:
    return {
        "name": "cxr-edge: chest X-ray screening",
        "short_name": "cxr-edge",
        "description": manifest.intended_use,
        "start_url": ".",
        "display": "standalone",
        "background_color": "#112233",
        "theme_color": "#112233",
        "icons": [{"src": "icon.svg", "sizes": "any", "type": "image/svg+xml"}],
    }


def _service_worker(contents: dict[str, bytes]) -> bytes:
    digest = hashlib.sha256()
    for name in sorted(contents):
        digest.update(name.encode() + b"\0" + hashlib.sha256(contents[name]).digest())
    names = ["./", *(name for name in sorted(contents) if not name.endswith(".txt"))]
    text = (_BROWSER / "sw.js").read_text(encoding="utf-8")
    text = text.replace("@VERSION@", digest.hexdigest()[:16]).replace("@FILES@", json.dumps(names))
    return text.encode()
