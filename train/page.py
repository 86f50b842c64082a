"""Self-contained HTML pages for people: headings, tables and pictures in one file, no script."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

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
    """Collects parts in the order in which they are added; `write` puts them into one file."""

    def __init__(self, title: str) -> None:
        self.title = title
        self._parts = [f"<h1>{html.escape(title)}</h1>"]

    def heading(self, text: str) -> None:
        self._parts.append(f"<h2>{html.escape(text)}</h2>")

    def text(self, text: str) -> None:
        self._parts.append(f"<p>{html.escape(text)}</p>")

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        head = "".join(f"<th>{html.escape(column)}</th>" for column in columns)
        body = "".join("<tr>" + "".join(map(_cell, row)) + "</tr>" for row in rows)
        self._parts.append(f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>")

    def command(self, text: str) -> None:
        self._parts.append(f"<p><code>{html.escape(text)}</code></p>")

    def markdown(self, text: str) -> None:
        """Paragraphs and tables as our result files have them."""
        from markdown_it import MarkdownIt

        self._parts.append(MarkdownIt("commonmark", {"html": False}).enable("table").render(text))

    def drawing(self, file: Path, description: str) -> None:
        """An SVG file."""
        source, text = _data_url(file.read_bytes(), "svg+xml"), html.escape(description, quote=True)
        self._parts.append(f'<img class="plot" src="{source}" alt="{text}">')

    def plot(self, figure: Figure, description: str) -> None:
        """A matplotlib figure, as PNG."""
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=110)
        source, text = _data_url(buffer.getvalue(), "png"), html.escape(description, quote=True)
        self._parts.append(f'<img class="plot" src="{source}" alt="{text}">')

    def gallery(self, images: Iterable[tuple[Image.Image, str]]) -> None:
        """Pictures with a caption each."""
        figures = []
        for image, caption in images:
            buffer = io.BytesIO()
            image.convert("RGB").save(buffer, format="JPEG", quality=85)
            source, text = _data_url(buffer.getvalue(), "jpeg"), html.escape(caption)
            figures.append(
                f'<figure><img src="{source}" alt=""><figcaption>{text}</figcaption></figure>'
            )
        self._parts.append(f'<div class="gallery">{"".join(figures)}</div>')

    def write(self, path: Path) -> None:
        """One file, replaced as a whole."""
        text = html_page(self.title, "\n".join(self._parts), _STYLE)
        # File names that are not UTF-8 reach us as lone surrogates.
        write_whole(str(path), text.encode("utf-8", errors="replace"))


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return f"<td>{'yes' if value else ''}</td>"
    if not isinstance(value, (int, float)):
        return f"<td>{html.escape(str(value))}</td>"
    text = str(value) if isinstance(value, int) else f"{value:.4g}"
    return f'<td class="number">{text}</td>'


def _data_url(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
