"""All results of a folder as one Markdown file and one self-contained HTML page with the plots."""

from __future__ import annotations

import argparse
import base64
import html
import re
from pathlib import Path

from benchmarks.arguments import add_report_paths
from edge_runtime.errors import InvalidValueError

_PAIR = "--bundle bundles/default --float bundles/default-float"
# Section: (title, folder and file of the table, plots, command that prints it).
_SECTIONS = (
    ("Accuracy preserved, test split", "test/accuracy", ("roc", "scatter"),
     f"accuracy {_PAIR} --data chest_xray/test"),
    ("Accuracy preserved, another hospital's adults", "nih/accuracy", (),
     f"accuracy {_PAIR} --data nih_external"),
    ("Under corruptions", "robustness/robustness", ("robustness",),
     f"robustness {_PAIR} --data chest_xray/test"),
    ("Under corruptions, another hospital's adults", "robustness-nih/robustness", (),
     f"robustness {_PAIR} --data nih_external"),
    ("What quantisation does inside", "layers/layers", ("layers",),
     f"layers {_PAIR} --data chest_xray/val"),
    ("What the choices of the export cost", "choices/choices", (),
     "choices runs/default --data chest_xray"),
    ("The frontier", "pareto/pareto", ("pareto",),
     "pareto bundles/tiny bundles/small bundles/at-160 bundles/default bundles/grid-*[0-9] "
     "--data chest_xray/test"),
    ("One image: latency", "latency/latency", (), "latency --data chest_xray_originals"),
    ("MLPerf's load generator", "loadgen/loadgen", (), "loadgen --data chest_xray_originals"),
    ("Engines side by side", "peers/peers", ("peers",),
     "peers --float bundles/default-float --run runs/default --data chest_xray_originals"),
    ("Whole folders: throughput", "throughput/throughput", (),
     "throughput --data chest_xray_originals"),
    ("A process: cold start and memory", "process/process", (),
     "process --data chest_xray_originals"),
    ("Counted instructions", "counted/counted", (), "counted"),
)  # fmt: skip
_INTRODUCTION = (
    "Every table below is what the command above it printed on the machine that it names; ratios "
    "are measured side by side in one run, so they carry over to other machines better than "
    "milliseconds do. Screening support, not a diagnosis."
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
    markdown = ["# Benchmarks", "", _INTRODUCTION, ""]
    body = [f"<h1>Benchmarks</h1><p>{html.escape(_INTRODUCTION)}</p>"]
    found = 0
    for title, name, plots, verb in _SECTIONS:
        table = results / f"{name}.md"
        if not table.is_file():
            continue
        found += 1
        text = table.read_text(encoding="utf-8").strip()
        pictures = [p for p in (table.parent / f"{plot}.svg" for plot in plots) if p.is_file()]
        command = f"python -m benchmarks {verb} --output {results}/{Path(name).parent}"
        markdown += [f"## {title}", "", f"`{command}`", "", text, ""]
        markdown += [f"![{title}]({_relative(picture, output)})" for picture in pictures]
        markdown += [""] if pictures else []
        body.append(f"<h2>{html.escape(title)}</h2><p><code>{command}</code></p>{_to_html(text)}")
        body += [_inline(picture, title) for picture in pictures]
    if not found:
        raise InvalidValueError(f"{results} holds no results of this project's benchmarks")
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text("\n".join(markdown).rstrip() + "\n", encoding="utf-8")
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(_PAGE.replace("@BODY@", "\n".join(body)), encoding="utf-8")
    print(f"{found} sections: {output}, {page}")


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>cxr-edge benchmarks</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<style>
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; display: block; overflow-x: auto; margin: 1rem 0 }
td, th { border-bottom: 1px solid #ddd; padding: .25rem .6rem; text-align: left }
pre { background: #f5f5f5; padding: .8rem; overflow-x: auto }
img { max-width: 100% }
</style></head><body>
@BODY@
</body></html>
"""


def _inline(picture: Path, title: str) -> str:
    data = base64.b64encode(picture.read_bytes()).decode()
    return f'<p><img alt="{html.escape(title)}" src="data:image/svg+xml;base64,{data}"></p>'


def _relative(picture: Path, output: Path) -> str:
    try:
        return picture.resolve().relative_to(output.parent.resolve()).as_posix()
    except ValueError:
        return picture.resolve().as_posix()


def _to_html(markdown: str) -> str:
    """Paragraphs, tables and fenced blocks: all that our tables use."""
    parts: list[str] = []
    rows: list[list[str]] = []
    fenced: list[str] | None = None
    for line in [*markdown.splitlines(), ""]:
        if line.startswith("```"):
            if fenced is None:
                fenced = []
            else:
                parts.append(f"<pre>{html.escape(chr(10).join(fenced))}</pre>")
                fenced = None
        elif fenced is not None:
            fenced.append(line)
        elif line.startswith("|"):
            if not re.fullmatch(r"[|\- ]+", line):
                rows.append([cell.strip() for cell in line.strip("|").split("|")])
        else:
            if rows:
                parts.append(_table(rows))
                rows = []
            if line:
                parts.append(f"<p>{_code(line)}</p>")
    return "".join(parts)


def _table(rows: list[list[str]]) -> str:
    head, *rest = (
        "".join(f"<{tag}>{_code(cell)}</{tag}>" for cell in row)
        for tag, row in zip(["th", *["td"] * len(rows)], rows, strict=False)
    )
    return f"<table><tr>{head}</tr>" + "".join(f"<tr>{row}</tr>" for row in rest) + "</table>"


def _code(text: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text))
