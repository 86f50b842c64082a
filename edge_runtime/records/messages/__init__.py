"""Sentences for people, by code and language; records and numbers are the same in all of them.

One JSON file per language beside this one. A language is added by adding its file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from functools import lru_cache

from edge_runtime.records.record import Record

LANGUAGES = ("en", "fr", "es", "pt")
_FOLDER = os.path.dirname(__file__)


def choose_language(wanted: str | None = None) -> str:
    """The language asked for, else that of CXR_EDGE_LANG or the system's locale, else English."""
    candidates = [wanted]
    candidates += [os.environ.get(name) for name in ("CXR_EDGE_LANG", "LC_ALL", "LANG")]
    for candidate in candidates:
        code = (candidate or "").replace("-", "_").partition("_")[0].partition(".")[0].lower()
        if code in ("c", "posix"):
            return "en"
        if code in LANGUAGES:
            return code
    return "en"


def accepted_language(header: str) -> str:
    """The first of our languages in an Accept-Language header, by its weights. RFC 9110 12.5.4."""
    ranked = []
    for position, part in enumerate(header.split(",")):
        name, _, weight = part.strip().partition(";q=")
        try:
            ranked.append((-float(weight or 1), position, name.partition("-")[0].lower()))
        except ValueError:
            continue
    return next((name for _, _, name in sorted(ranked) if name in LANGUAGES), "en")


@lru_cache(maxsize=len(LANGUAGES))
def catalogue(language: str) -> Mapping[str, str]:
    """All sentences of a language."""
    with open(os.path.join(_FOLDER, f"{language}.json"), encoding="utf-8") as file:
        found: dict[str, str] = json.load(file)
    return found


def say(key: str, language: str) -> str:
    """One sentence; a code that is not in the catalogue stands for itself."""
    return catalogue(language).get(key, key.partition(".")[2].replace("_", " "))


def reasons(record: Record, language: str) -> str:
    """A sentence for each flag of a record and for its error; "" where there are none."""
    keys = [f"flag.{flag}" for flag in record.quality.flags]
    if record.error:
        keys.append(f"error.{record.error.code}")
    return " ".join(say(key, language) for key in keys)


def localised_line(record: Record, language: str) -> str:
    """One line of the table, in a language: as `output.table_line`, with sentences for codes."""
    probability = "" if record.probability is None else f"{record.probability:.4f}"
    verdict = (
        say(f"decision.{record.decision}", language)
        if record.decision
        else say(f"status.{record.status}", language)
    )
    told = reasons(record, language)
    return f"{verdict:10} {probability:>11}  {record.source}" + (f"  {told}" if told else "")
