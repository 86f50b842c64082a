"""Version, bundle, engines and machine."""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Iterable

from edge_runtime import __version__
from edge_runtime.basics.install import install_extra
from edge_runtime.basics.parse import to_mapping
from edge_runtime.basics.streams import tell
from edge_runtime.basics.versions import installed_versions
from edge_runtime.bundle.folder import Bundle, load_bundle
from edge_runtime.bundle.manifest import Manifest
from edge_runtime.bundle.shipped import SHIPPED
from edge_runtime.commands import archive, fleet, listen, serve
from edge_runtime.commands.bundle_option import add_bundle_option
from edge_runtime.engines.choose import choose_engine, engine_module
from edge_runtime.engines.names import ENGINE_NAMES, REQUIRES
from edge_runtime.engines.preference import preference_file, read_preference
from edge_runtime.errors import CxrEdgeError
from edge_runtime.images.readers import dicom
from edge_runtime.judge.operating_point import OperatingPoint
from edge_runtime.records.figures import told_figures


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = "Say what is installed here and what would be used."
    parser.epilog = "example: cxr-edge info --json"
    add_bundle_option(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")
    parser.add_argument(
        "--support",
        action="store_true",
        help="JSON for a bug report: versions, machine, self-test; no paths, no patient data",
    )


def run(arguments: argparse.Namespace) -> int:
    bundle = load_bundle(arguments.bundle)
    manifest = bundle.manifest
    if arguments.support:
        print(json.dumps(_support(bundle), indent=1, ensure_ascii=False))
        return 0
    try:
        automatic = choose_engine("auto", bundle)[0].NAME
        chosen = read_preference()
        if chosen is not None and chosen.engine == automatic:
            automatic += f" (chosen by doctor --choose on {chosen.date}: {preference_file()})"
    except CxrEdgeError as error:
        automatic = f"none: {error}"
    engines = {
        name: "installed" if engine_module(name).is_available() else f"missing: {REQUIRES[name]}"
        for name in ENGINE_NAMES
    }
    facts = {
        "cxr-edge": __version__,
        "python": platform.python_version(),
        **installed_versions(("numpy", "pillow")),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors",
        "bundle": str(bundle.folder),
        "model": f"{manifest.name} {manifest.version}",
        "model sha256": bundle.sha256,
        "models": ", ".join(map(_shipped, SHIPPED)),
        "input": f"{manifest.input.height} x {manifest.input.width} greyscale",
        "labels": ", ".join(manifest.labels),
        "engine auto": automatic,
    }
    optional = {
        "dicom": "installed" if dicom.is_available() else f"missing: {install_extra(dicom.EXTRA)}",
        "serve": "installed" if serve.is_available() else f"missing: {install_extra(serve.EXTRA)}",
        "archive": "installed"
        if archive.is_available()
        else f"missing: {install_extra(archive.EXTRA)}",
        "fleet": "installed" if fleet.is_available() else f"missing: {install_extra(fleet.EXTRA)}",
        "listen": "installed"
        if listen.is_available()
        else f"missing: {install_extra(listen.EXTRA)}",
    }
    points = _points(manifest, manifest.operating_points)
    populations = {
        each.name: {
            "age_years": each.age_years,
            "operating_points": _points(manifest, each.operating_points, each.name),
        }
        for each in manifest.populations
    }
    if arguments.json:
        print(
            json.dumps(
                facts
                | {"engines": engines, "optional": optional}
                | {"operating_points": points, "populations": populations},
                indent=1,
            )
        )
        return 0
    for key, value in facts.items():
        print(f"{key:14} {value}")
    for name, state in engines.items():
        print(f"{'engine':14} {name}: {state}")
    for name, state in optional.items():
        print(f"{'optional':14} {name}: {state}")
    for point in manifest.operating_points:
        default = " (the default)" if point.name == manifest.default_operating_point else ""
        print(f"{'operating at':14} {point.name}{default}: probability >= {point.threshold:.4f}")
        for line in told_figures(manifest, point, "en"):
            print(f"{'':14}   {line}")
        for each in manifest.populations:
            own = manifest.operating_point(point.name, each.name)
            print(f"{'':14} of {each.name}: probability >= {own.threshold:.4f}")
            for line in told_figures(manifest, own, "en", each.name):
                print(f"{'':14}   {line}")
    tell(f"\n{manifest.intended_use}")
    return 0


def _points(
    manifest: Manifest, points: Iterable[OperatingPoint], population: str | None = None
) -> dict[str, object]:
    return {
        p.name: {
            "threshold": p.threshold,
            "sensitivity": p.sensitivity.value,
            "specificity": p.specificity.value,
            "split": p.split,
            "expected": to_mapping(manifest.expectations(p.name, population)),
        }
        for p in points
    }


def _shipped(name: str) -> str:
    """A bundle of the package, for people."""
    manifest = load_bundle(name).manifest
    size = max(file.size_bytes for file in manifest.files if file.format) / 1e6
    return f"{name} ({manifest.version}, {manifest.input.width} px, {size:.1f} MB)"


def _support(bundle: Bundle) -> dict[str, object]:
    from edge_runtime.device.machine import current_condition, describe_machine
    from edge_runtime.screener import Screener

    tests: dict[str, object] = {}
    for name in ENGINE_NAMES:
        module = engine_module(name)
        if not module.is_available():
            tests[name] = "not installed"
            continue
        try:
            screener = Screener.load(bundle.folder, engine=name, check=False)
            tests[screener.engine_name] = [
                screener.check_known_answer(answer) for answer in bundle.manifest.known_answers
            ]
        except CxrEdgeError as error:
            # The reason, without the folder that it may name.
            tests[name] = f"FAILED: {str(error).replace(bundle.folder, 'BUNDLE')}"
    packages = (
        "numpy", "pillow", "ai-edge-litert", "onnxruntime", "openvino", "tflite-runtime", "pydicom",
        "pynetdicom", "starlette", "uvicorn",
    )  # fmt: skip
    return {
        "cxr-edge": __version__,
        "python": platform.python_version(),
        "packages": installed_versions(packages),
        "machine": to_mapping(describe_machine()),
        "condition": to_mapping(current_condition()),
        "model": f"{bundle.manifest.name} {bundle.manifest.version}",
        "model sha256": bundle.sha256,
        "largest logit difference of each known answer": tests,
    }
