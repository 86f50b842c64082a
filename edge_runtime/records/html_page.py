"""The one skeleton of every page that this project writes: self-contained, no script, no link."""

from __future__ import annotations

import html


def html_page(title: str, body: str, style: str, language: str = "en") -> str:
    """A whole page.

    Args:
        title: Plain text.
        body: HTML; pictures in it are data: URLs, for nothing else is loaded.
        style: CSS.
        language: Of the text, "en".
    """
    return (
        f'<!doctype html>\n<html lang="{language}"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta http-equiv="Content-Security-Policy"\n'
        " content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">\n"
        f"<title>{html.escape(title)}</title>\n<style>{style}</style></head><body>\n"
        f"{body}\n</body></html>\n"
    )
