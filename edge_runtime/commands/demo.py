"""Draw synthetic radiographs, screen them, write a report: proof that an installation works."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from edge_runtime.basics.processors import default_threads
from edge_runtime.basics.streams import tell
from edge_runtime.commands.options import (
    add_decision_options,
    add_model_options,
    load_screener,
    whole,
)
from edge_runtime.images.inputs import find_inputs
from edge_runtime.images.phantom import as_jpeg, draw_film
from edge_runtime.records.heatmap import overlay_jpeg
from edge_runtime.records.messages import table_head, table_line, told_legend
from edge_runtime.records.report import Made, write_report

NOTICE = (
    "SYNTHETIC: these pictures were drawn by a program. They show that the installation works "
    "and say nothing about how well the model judges patients."
)


# How dense the patches are, by name; the drawings take turns.
_DENSITIES = {"clear": 0.0, "faint": 0.2, "patches": 0.5}
_FIRST_SEED = 1


def demo_files(count: int) -> Iterator[tuple[str, bytes]]:
    """Names and bytes: `count` drawings, and two that no answer can be had of.

    One lies on its side, as films do that were scanned so; one ends early, as after a bad copy.
    """
    for place in range(count):
        kind = list(_DENSITIES)[place % len(_DENSITIES)]
        drawn = draw_film(_FIRST_SEED + place, _DENSITIES[kind])
        yield f"synthetic-{place:02}-{kind}.jpeg", as_jpeg(drawn)
    film = draw_film(_FIRST_SEED)
    yield "synthetic-turned.jpeg", as_jpeg(np.rot90(film))
    yield "synthetic-cut.jpeg", as_jpeg(film)[:4000]


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
    for name, content in demo_files(arguments.count):
        (images / name).write_bytes(content)
    workers = arguments.threads or default_threads()
    screener = load_screener(arguments, parallel=workers)
    results = list(screener.examine_many(find_inputs([str(images)]), workers))
    tell(NOTICE)
    positive = screener.bundle.manifest.positive
    tell(told_legend(screener.operating_point, "en", positive=positive))  # no age is drawn
    print(table_head("en"))
    with open(folder / "results.jsonl", "w", encoding="utf-8") as file:
        for result in results:
            print(result.record.to_json(), file=file)
            print(table_line(result.record, "en"))
            if picture := overlay_jpeg(result):
                (maps / Path(result.record.source).name).write_bytes(picture)
    write_report(
        folder / "report.html",
        results,
        Made(
            screener.bundle.manifest,
            screener.operating_point,
            screener.engine_name,
            population=screener.population,
        ),
        "cxr-edge demo on synthetic images",
        NOTICE,
    )
    tell(f"{len(results)} images screened by {screener.engine_name}; open {folder}/report.html")
    errors = [r for r in results if r.record.status == "error"]
    return 0 if len(errors) == 1 and errors[0].record.source.endswith("-cut.jpeg") else 1
