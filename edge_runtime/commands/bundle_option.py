"""--bundle; apart from the other options, which need numpy, as `doctor` must not."""

from __future__ import annotations

import argparse

from edge_runtime.bundle.shipped import SHIPPED


def add_bundle_option(parser: argparse.ArgumentParser, what: str = "model bundle") -> None:
    parser.add_argument(
        "--bundle", metavar="BUNDLE", help=f"{what}: a folder, or {', '.join(SHIPPED)} (built in)"
    )
