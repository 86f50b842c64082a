"""Sentences for people, by code and language; records and numbers are the same in all of them.

One JSON file per language beside this one. A language is added by adding its file.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from functools import lru_cache

from edge_runtime.errors import InvalidValueError
from edge_runtime.judge.finding import ABSENT
from edge_runtime.judge.operating_point import ABNORMAL, PNEUMONIA, OperatingPoint
from edge_runtime.records.record import FindingResult, Record
from edge_runtime.statistics.odds import log_odds

LANGUAGES = ("en", "fr", "es", "pt")
_LINE = "{:10} {:>8}  {}"
_MOST_TIMES = 1000
_FOLDER = os.path.dirname(__file__)


def choose_language(wanted: str | None = None) -> str:
    """The language asked for, else CXR_EDGE_LANG's, else that of the system's locale, else English.

    Raises:
        InvalidValueError: A language was asked for that there is none of.
    """
    for name, asked in (("--lang", wanted), ("CXR_EDGE_LANG", os.environ.get("CXR_EDGE_LANG"))):
        if asked:
            code = _code(asked)
            if code not in LANGUAGES:
                raise InvalidValueError(
                    f"{name} {asked[:40]!r}: there are {', '.join(LANGUAGES)}; a language is added "
                    "by a file beside theirs"
                )
            return code
    for name in ("LC_ALL", "LANG"):  # of the whole system, which may well speak another one
        code = _code(os.environ.get(name) or "")
        if code in ("c", "posix"):
            return "en"
        if code in LANGUAGES:
            return code
    return "en"


def _code(locale: str) -> str:
    return locale.replace("-", "_").partition("_")[0].partition(".")[0].lower()


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


def say_of(key: str, positive: str, language: str) -> str:
    """A sentence that names pneumonia, or its like for models that call a film abnormal."""
    own = f"{key}.{positive}"
    return say(own if own in catalogue(language) else key, language)


def reasons(record: Record, language: str) -> str:
    """A sentence for each flag of a record and for its error; "" where there are none."""
    flags = list(record.quality.flags)
    refused = record.status == "rejected"
    if refused and len(flags) > 1:
        # What is wrong with the film is why it is unlike others.
        flags = [flag for flag in flags if flag != "out_of_distribution"]
    keys = [
        key if refused and (key := f"refused.{flag}") in catalogue(language) else f"flag.{flag}"
        for flag in flags
    ]
    if record.error:
        keys.append(f"error.{record.error.code}")
    return " ".join(say(key, language) for key in keys)


def verdict(record: Record, language: str) -> str:
    """One word: what was decided, or why nothing was."""
    kind, word = ("decision", record.decision) if record.decision else ("status", record.status)
    return say(f"{kind}.{word}", language)


def meaning(record: Record, language: str) -> str:
    """What the answer means and what to do next, in one sentence; "" of an error."""
    key = f"meaning.{record.decision or record.status}"
    if key not in catalogue(language):
        return ""
    return say_of(key, PNEUMONIA if record.findings is None else ABNORMAL, language)


def told_findings(record: Record, language: str) -> list[str]:
    """A line for each finding, those that are not absent first; [] of models without."""
    found = sorted((record.findings or {}).items(), key=lambda item: item[1].decision == ABSENT)
    return [
        say("finding.line", language).format(
            name=name,
            state=say(f"finding.{one.decision}", language),
            times=_times(one.probability, one.threshold),
        )
        for name, one in found
    ]


def shown_findings(record: Record) -> dict[str, FindingResult]:
    """The findings that are present or uncertain."""
    found = record.findings or {}
    return {name: one for name, one in found.items() if one.decision != ABSENT}


def times_threshold(record: Record) -> str:
    """The odds of disease as a multiple of those at the threshold, "3.0"; "" without a score."""
    if record.probability is None:
        return ""
    return _times(record.probability, record.threshold)


def told_legend(
    point: OperatingPoint,
    language: str,
    by_population: Mapping[str, OperatingPoint] | None = None,
    positive: str = PNEUMONIA,
) -> str:
    """What the numbers of a table mean, and where the decisions of a point lie on them.

    Args:
        point: That decides.
        language: One of LANGUAGES.
        by_population: Points that decide instead where the age tells the population.
        positive: What the model calls a film that is not normal.
    """
    told = _legend(point, language, positive)
    if by_population:
        points = "; ".join(
            f"{say(f'population.{name}', language)} {each.threshold:.4f}"
            for name, each in by_population.items()
        )
        told += " " + say("table.legend_by_age", language).format(points=points)
    return told


def _legend(point: OperatingPoint, language: str, positive: str) -> str:
    values = {"threshold": f"{point.threshold:.4f}", "point": point.name}
    if point.uncertain is None:
        return say_of("table.legend", positive, language).format(**values)
    low, high = (_times(edge, point.threshold) for edge in point.uncertain)
    return say_of("table.legend_band", positive, language).format(low=low, high=high, **values)


def _times(probability: float, threshold: float) -> str:
    times = math.exp(log_odds(probability) - log_odds(threshold))
    if times > _MOST_TIMES:
        return f"> {_MOST_TIMES}"
    if times < 1 / _MOST_TIMES:
        return f"< {1 / _MOST_TIMES}"
    # Rounded down below 1, so that what is not called pneumonia never reads as 1.0.
    digits = max(0, 1 - math.floor(math.log10(times)))
    return f"{math.floor(times * 10**digits + 1e-9) / 10**digits:.{digits}f}"


def table_head(language: str) -> str:
    """The first line of a table of `table_line`s."""
    told = (say(f"table.{key}", language) for key in ("decision", "score", "source"))
    return _LINE.format(*told).rstrip()


def table_line(record: Record, language: str) -> str:
    """One line for people, in a language."""
    times = times_threshold(record)
    line = _LINE.format(verdict(record, language), times and f"{times} x", record.source)
    shown = shown_findings(record).items()
    if shown:
        states = (f"{name} {say(f'finding.{one.decision}', language)}" for name, one in shown)
        line += f"  [{', '.join(states)}]"
    told = reasons(record, language)
    return f"{line}  {told}" if told else line
