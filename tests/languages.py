"""Finds words of one language in a text of another."""

from __future__ import annotations

import re

from edge_runtime.records.messages import LANGUAGES

# Small words that one of the languages has and none of the others.
_ONLY = {
    "en": {
        "the",
        "this",
        "and",
        "of",
        "is",
        "it",
        "with",
        "not",
        "again",
        "films",
        "on",
        "screened",
    },
    "fr": {"le", "les", "cette", "est", "pas", "il", "sur", "aux", "clichés", "et"},
    "es": {"el", "los", "una", "más", "placa", "placas", "archivo", "imágenes"},
    "pt": {"não", "uma", "ao", "imagem", "imagens", "ficheiro", "mais", "doente"},
}


def foreign_words(text: str, language: str) -> set[str]:
    """Words of a text that belong to another language; gaps and commands are left out."""
    told = re.sub(r"\{\w+\}|cxr-edge [a-z]+", " ", text).lower()
    others = (_ONLY[name] for name in LANGUAGES if name != language)
    return set(re.findall(r"[^\W\d_]+", told)) & set().union(*others)
