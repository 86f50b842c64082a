"""All results of a folder as one Markdown file and one self-contained HTML page with the plots."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.arguments import add_report_paths
from edge_runtime.errors import InvalidValueError
from train.page import Page

_PAIR = "--bundle bundles/default --float bundles/default-float"
# Section: (title, folder and file of the table, plots, command that prints it).
_SECTIONS = (
    ("Accuracy preserved, test split", "test/accuracy", ("roc", "scatter"),
     f"accuracy {_PAIR} --data chest_xray/test --population children"),
    ("Accuracy preserved, adults held out (nih-sample)", "nih/accuracy", (),
     f"accuracy {_PAIR} --data hospitals/hospitals.csv --source nih-sample --finding opacity "
     "--population adults"),
    ("Under corruptions", "robustness/robustness", ("robustness",),
     f"robustness {_PAIR} --data chest_xray/test"),
    ("Under corruptions, adults held out (nih-sample)", "robustness-nih/robustness", (),
     f"robustness {_PAIR} --data hospitals/hospitals.csv --source nih-sample "
     "--finding opacity"),
    ("What quantisation does inside", "layers/layers", ("layers",),
     f"layers {_PAIR} --data chest_xray/val"),
    ("What the choices of the export cost", "choices/choices", (),
     "choices models/float/default --data chest_xray --data hospitals/hospitals.csv"),
    ("The frontier", "pareto/pareto", ("pareto",),
     "pareto bundles/default bundles/small bundles/tiny --data chest_xray/test"),
    ("One image: latency", "latency/latency", (), "latency --data chest_xray_originals"),
    ("MLPerf's load generator", "loadgen/loadgen", (), "loadgen --data chest_xray_originals"),
    ("Engines side by side", "peers/peers", ("peers",),
     "peers --float bundles/default-float --run models/float/default --data chest_xray_originals"),
    ("Every file, every engine, every program", "formats/formats", (),
     "formats --data chest_xray/test --output docs/results/formats"),
    ("Whole folders: throughput", "throughput/throughput", (),
     "throughput --data chest_xray_originals"),
    ("Whole folders with OpenVINO", "throughput-openvino/throughput", (),
     "throughput --engine openvino --data chest_xray_originals"),
    ("A whole archive", "archive/archive", (),
     "archive --data chest_xray_originals --many 200000 --rows 1000000"),
    ("A process: cold start and memory", "process/process", (),
     "process --data chest_xray_originals"),
    ("How small a JPEG may be decoded", "decoding/decoding", (),
     "decoding bundles/unseen-children default small tiny --data chest_xray_originals"),
    ("Counted instructions", "counted/counted", (), "counted"),
    ("Counted instructions on Arm", "boards/boards", (),
     "boards --image chest_xray_originals/PNEUMONIA/person1459_bacteria_3796.jpeg"),
)  # fmt: skip
_INTRODUCTION = (
    "Every table below is what the command above it printed on the machine that it names; ratios "
    "are measured side by side in one run, so they carry over to other machines better than "
    "milliseconds do. The archive's times are those of 5.1.0, and instructions those of 5.2.0, "
    "whose networks have the same operators. Screening support, not a diagnosis."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "example: python -m benchmarks report --results docs/results "
        "--output docs/benchmarks.md --html build/benchmarks.html"
    )
    add_report_paths(parser)


def run(arguments: argparse.Namespace) -> int:
    run_report(arguments.results, arguments.output, arguments.html)
    return 0


def run_report(results: Path, output: Path, page: Path) -> None:
    """Write `output` (Markdown) and `page` (HTML) from what `results` holds.

    Raises:
        InvalidValueError: It holds none of the results.
    """
    text, shown = render(results, output)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(text, encoding="utf-8")
    page.parent.mkdir(parents=True, exist_ok=True)
    shown.write(page)
    print(f"{output}, {page}")


def render(results: Path, output: Path) -> tuple[str, Page]:
    """The Markdown as it is to stand at `output`, and the page.

    Raises:
        InvalidValueError: `results` holds none of the results.
    """
    markdown = ["# Benchmarks", "", _INTRODUCTION, ""]
    shown = Page("cxr-edge benchmarks")
    shown.text(_INTRODUCTION)
    for title, name, plots, verb in _SECTIONS:
        table = results / f"{name}.md"
        if not table.is_file():
            continue
        text = table.read_text(encoding="utf-8").strip()
        pictures = [p for p in (table.parent / f"{plot}.svg" for plot in plots) if p.is_file()]
        command = f"python -m benchmarks {verb} --output {results}/{Path(name).parent}"
        markdown += [f"## {title}", "", f"`{command}`", "", text, ""]
        markdown += [f"![{title}]({_relative(picture, output)})" for picture in pictures]
        markdown += [""] if pictures else []
        shown.heading(title)
        shown.command(command)
        shown.markdown(text)
        for picture in pictures:
            shown.drawing(picture, title)
    if len(markdown) == 4:
        raise InvalidValueError(f"{results} holds no results of this project's benchmarks")
    return "\n".join(markdown).rstrip() + "\n", shown


def _relative(picture: Path, output: Path) -> str:
    try:
        return picture.resolve().relative_to(output.parent.resolve()).as_posix()
    except ValueError:
        return picture.resolve().as_posix()
