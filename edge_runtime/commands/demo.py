"""Draw synthetic radiographs, screen them, write a report: proof that an installation works."""

from __future__ import annotations

import argparse
from pathlib import Path

from edge_runtime.basics.processors import default_threads
from edge_runtime.basics.streams import tell
from edge_runtime.commands.options import (
    add_decision_options,
    add_model_options,
    load_screener,
    whole,
)
from edge_runtime.images.inputs import find_inputs
from edge_runtime.images.phantom import phantom_jpeg
from edge_runtime.records.heatmap import overlay_jpeg
from edge_runtime.records.output import table_line
from edge_runtime.records.report import write_report

NOTICE = (
    "SYNTHETIC: these pictures were drawn by a program. They show that the installation works "
    "and say nothing about how well the model judges patients."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Prove an installation without any data: draws synthetic radiographs, "
        "screens them, and writes the records, heatmaps and an HTML report."
    )
    parser.epilog = "example: cxr-edge demo --output demo"
    parser.add_argument("--output", default="demo", metavar="DIR")
    parser.add_argument("--count", type=whole(1, 10_000), default=8, metavar="N")
    add_model_options(parser)
    add_decision_options(parser)


def run(arguments: argparse.Namespace) -> int:
    folder = Path(arguments.output)
    images, maps = folder / "images", folder / "heatmaps"
    for path in (images, maps):
        path.mkdir(parents=True, exist_ok=True)
    for seed in range(arguments.count):
        kind = "patches" if seed % 2 else "clear"
        content = phantom_jpeg(seed, pneumonia=bool(seed % 2))
        (images / f"synthetic-{seed:02}-{kind}.jpeg").write_bytes(content)
    arguments.force = True  # drawings are no radiographs, and the quality gate may say so
    workers = arguments.threads or default_threads()
    screener = load_screener(arguments, parallel=workers)
    results = list(screener.examine_many(find_inputs([str(images)]), workers))
    tell(NOTICE)
    with open(folder / "results.jsonl", "w", encoding="utf-8") as file:
        for result in results:
            print(result.record.to_json(), file=file)
            print(table_line(result.record))
            if picture := overlay_jpeg(result):
                (maps / Path(result.record.source).name).write_bytes(picture)
    write_report(
        folder / "report.html",
        results,
        screener.bundle.manifest,
        screener.operating_point,
        "cxr-edge demo on synthetic images",
        NOTICE,
    )
    tell(f"{len(results)} images screened by {screener.engine_name}; open {folder}/report.html")
    return 0 if results and all(r.record.status == "ok" for r in results) else 1
