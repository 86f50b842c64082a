"""Self-contained HTML pages for people: headings, tables and pictures in one file, no script."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup
from matplotlib.figure import Figure
from PIL import Image

from edge_runtime.basics.files import write_whole
from edge_runtime.records.html_page import html_page

_STYLE = """
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 68rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto }
th, td { border: 1px solid #8886; padding: .25rem .6rem; text-align: left }
pre { overflow-x: auto }
td.number { text-align: right; font-variant-numeric: tabular-nums }
img.plot { max-width: 100%; background: #fff; border-radius: 6px }
.gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(11rem, 1fr)); gap: .8rem }
figure { margin: 0; border: 1px solid #8886; border-radius: 6px; overflow: hidden }
figure img { width: 100%; display: block; background: #000 }
figcaption { padding: .3rem .6rem; font-size: .85rem; overflow-wrap: anywhere }
@media print { figure, img.plot { break-inside: avoid } }
"""


class Page:
    """Collects parts in the order in which they are added; `write` puts them into one file.

    The HTML stands in templates/page.html, which escapes whatever it is given.
    """

    def __init__(self, title: str) -> None:
        self.title = title
        self._parts: list[dict[str, Any]] = []

    def heading(self, text: str) -> None:
        self._add("heading", text=text)

    def text(self, text: str) -> None:
        self._add("text", text=text)

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        self._add("table", columns=columns, rows=[list(row) for row in rows])

    def command(self, text: str) -> None:
        self._add("command", text=text)

    def markdown(self, text: str) -> None:
        """Paragraphs and tables as our result files have them."""
        from markdown_it import MarkdownIt

        # Whole HTML, in which the text's own is escaped.
        reader = MarkdownIt("commonmark", {"html": False}).enable("table")
        self._add("html", html=Markup(reader.render(text)))

    def drawing(self, file: Path, description: str) -> None:
        """An SVG file."""
        self._add("plot", source=_data_url(file.read_bytes(), "svg+xml"), text=description)

    def plot(self, figure: Figure, description: str) -> None:
        """A matplotlib figure, as PNG."""
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=110)
        self._add("plot", source=_data_url(buffer.getvalue(), "png"), text=description)

    def gallery(self, images: Iterable[tuple[Image.Image, str]]) -> None:
        """Pictures with a caption each."""
        pictures = []
        for image, caption in images:
            buffer = io.BytesIO()
            image.convert("RGB").save(buffer, format="JPEG", quality=85)
            pictures.append((_data_url(buffer.getvalue(), "jpeg"), caption))
        self._add("gallery", pictures=pictures)

    def write(self, path: Path) -> None:
        """One file, replaced as a whole."""
        body = _template().render(title=self.title, parts=self._parts)
        text = html_page(self.title, body, _STYLE)
        # File names that are not UTF-8 reach us as lone surrogates.
        write_whole(str(path), text.encode("utf-8", errors="replace"))

    def _add(self, kind: str, **values: object) -> None:
        self._parts.append({"kind": kind, **values})


@lru_cache(maxsize=1)
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters["told"] = _told
    return environment.get_template("page.html")


def _told(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _data_url(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
