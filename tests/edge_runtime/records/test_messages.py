"""The message catalogue: every code has a sentence in every language, and numbers are numbers."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from edge_runtime import Screener
from edge_runtime.errors import ErrorCode, InvalidValueError
from edge_runtime.images.phantom import phantom_jpeg
from edge_runtime.judge.quality import Flag, Quality
from edge_runtime.records.messages import (
    LANGUAGES,
    accepted_language,
    catalogue,
    choose_language,
    meaning,
    reasons,
    say,
    table_line,
    times_threshold,
)
from edge_runtime.records.record import ModelIdentity, Record
from tests.conftest import ROOT
from tests.languages import foreign_words


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_code_has_its_sentence(language: str) -> None:
    keys = {f"error.{code.value}" for code in ErrorCode} | {f"flag.{f.value}" for f in Flag}
    keys |= {f"decision.{d}" for d in ("pneumonia", "normal", "uncertain")}
    found = catalogue(language)
    assert keys <= set(found)
    assert set(found) == set(catalogue("en")), "the languages say the same things"
    assert all(text.strip() for text in found.values())
    if language != "en":
        same = [k for k in found if found[k] == catalogue("en")[k]]
        assert len(same) < 8, same


def test_the_contract_lists_every_code() -> None:
    contract = (ROOT / "docs" / "contract.md").read_text(encoding="utf-8")
    for code in (*ErrorCode, *Flag):
        assert f"`{code.value}`" in contract, code


def test_numbers_and_records_do_not_change(tmp_path: Path) -> None:
    record = Screener.load(force=True).screen(phantom_jpeg(1, True), "a.jpeg")
    before = record.to_json()
    for language in LANGUAGES:
        line = table_line(record, language)
        assert f"{times_threshold(record)} x" in line and "a.jpeg" in line
    assert record.to_json() == before
    broken = Screener.load().screen(b"\xff\xd8\xff", "b.jpeg")
    assert "tronquée" in table_line(broken, "fr")
    assert "damaged or cut off" in table_line(broken, "en")
    assert json.loads(broken.to_json())["error"]["code"] == "corrupt_image"


def test_the_language_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CXR_EDGE_LANG", "LC_ALL", "LANG"):
        monkeypatch.delenv(name, raising=False)
    assert choose_language() == "en" and choose_language("pt") == "pt"
    monkeypatch.setenv("LANG", "es_MX.UTF-8")
    assert choose_language() == "es"
    monkeypatch.setenv("LANG", "de_DE.UTF-8")  # of the whole system: not asked of us
    assert choose_language() == "en"
    with pytest.raises(InvalidValueError, match="en, fr, es, pt"):
        choose_language("de")
    monkeypatch.setenv("CXR_EDGE_LANG", "fr")
    assert choose_language() == "fr"
    assert accepted_language("de, pt-BR;q=0.8, en;q=0.5") == "pt"
    assert accepted_language("") == "en" and accepted_language("x;q=y") == "en"
    assert say("flag.unheard_of", "fr") == "unheard of"
    monkeypatch.setenv("CXR_EDGE_LANG", "tlh")
    with pytest.raises(InvalidValueError, match="CXR_EDGE_LANG 'tlh'"):
        choose_language()


@pytest.mark.parametrize(
    ("probability", "threshold", "told"),
    [
        (0.5, 0.5, "1.0"),
        (0.49999, 0.5, "0.99"),
        (0.1342, 0.0452, "3.2"),
        (0.9, 0.1, "81"),
        (0.02, 0.5, "0.020"),
        (1.0, 0.5, "> 1000"),
        (0.0, 0.5, "< 0.001"),
    ],
)
def test_a_score_is_told_against_its_threshold(
    probability: float, threshold: float, told: str
) -> None:
    record = blank_record(status="ok", probability=probability, threshold=threshold)
    assert times_threshold(record) == told


def test_reasons_of_refused_films_are_not_circular() -> None:
    both = blank_record(
        status="rejected", quality=Quality(False, ("rotated", "out_of_distribution"), 3.0)
    )
    alone = blank_record(status="rejected", quality=Quality(False, ("out_of_distribution",), 3.0))
    for language in LANGUAGES:
        assert reasons(both, language) == say("flag.rotated", language)
        # There is no score that could mean little.
        assert reasons(alone, language) == say("refused.out_of_distribution", language)
        assert times_threshold(alone) == ""
        assert meaning(alone, language) == say("meaning.rejected", language)


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_sentence_holds_words_of_another_language(language: str) -> None:
    for key, text in catalogue(language).items():
        assert not foreign_words(text, language), (key, text)


def blank_record(**changes: object) -> Record:
    blank = Record(
        "a.jpeg", "0" * 64, "ok", None, None, "balanced", 0.5, Quality(),
        ModelIdentity("m", "1", "0" * 64, "e"),
    )  # fmt: skip
    return dataclasses.replace(blank, **changes)  # type: ignore[arg-type]
