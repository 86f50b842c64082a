"""Prove that a bundle is whole and gives the right answers on this very machine."""

from __future__ import annotations

import argparse

from edge_runtime.basics.streams import tell
from edge_runtime.bundle.folder import load_bundle
from edge_runtime.bundle.shipped import SHIPPED
from edge_runtime.engines.choose import engine_module
from edge_runtime.engines.names import ENGINE_NAMES
from edge_runtime.errors import EngineError
from edge_runtime.screener import Screener


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Check a bundle's manifest and checksums, then run its known answers on "
        "every installed engine (or on --engine)."
    )
    parser.epilog = "example: cxr-edge verify /media/stick/bundle"
    parser.add_argument("bundle", nargs="?", default=SHIPPED[0], metavar="BUNDLE")
    parser.add_argument("--engine", choices=ENGINE_NAMES, help="only this one")


def run(arguments: argparse.Namespace) -> int:
    bundle = load_bundle(arguments.bundle)
    bundle.verify_files()
    print(f"manifest and {len(bundle.manifest.files)} files: as made")
    engines = [arguments.engine] if arguments.engine else list(ENGINE_NAMES)
    tested = failed = 0
    for name in engines:
        module = engine_module(name)
        if arguments.engine is None and not (
            module.is_available() and bundle.manifest.model_file(module.FORMAT)
        ):
            print(f"{name}: not installed, not tested")
            continue
        try:
            screener = Screener.load(bundle.folder, engine=name, check=False)
            differences = [
                screener.check_known_answer(answer) for answer in bundle.manifest.known_answers
            ]
        except EngineError as error:
            print(f"{name}: FAILED: {error}")
            failed += 1
            continue
        known = [d for d in differences if d is not None]
        if not known:
            print(f"{name}: the bundle has no known answers for it, not tested")
            continue
        tested += 1
        print(
            f"{screener.engine_name}: {len(known)} known answers met, "
            f"largest logit difference {max(known):.4f}"
        )
    if failed or not tested:
        tell("verification failed: do not use the engines named above")
        return 2
    return 0
