"""The message catalogue: every code has a sentence in every language, and numbers are numbers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edge_runtime import Screener
from edge_runtime.errors import ErrorCode
from edge_runtime.images.phantom import phantom_jpeg
from edge_runtime.judge.quality import Flag
from edge_runtime.records.messages import (
    LANGUAGES,
    accepted_language,
    catalogue,
    choose_language,
    localised_line,
    say,
)
from edge_runtime.records.output import table_line
from tests.conftest import ROOT


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
        line = localised_line(record, language)
        assert f"{record.probability:.4f}" in line and "a.jpeg" in line
    assert record.to_json() == before
    broken = Screener.load().screen(b"\xff\xd8\xff", "b.jpeg")
    assert "tronquée" in localised_line(broken, "fr")
    assert "corrupt_image" in table_line(broken)
    assert json.loads(broken.to_json())["error"]["code"] == "corrupt_image"


def test_the_language_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CXR_EDGE_LANG", "LC_ALL", "LANG"):
        monkeypatch.delenv(name, raising=False)
    assert choose_language() == "en" and choose_language("pt") == "pt"
    monkeypatch.setenv("LANG", "es_MX.UTF-8")
    assert choose_language() == "es" and choose_language("de") == "es"
    monkeypatch.setenv("CXR_EDGE_LANG", "fr")
    assert choose_language() == "fr"
    assert accepted_language("de, pt-BR;q=0.8, en;q=0.5") == "pt"
    assert accepted_language("") == "en" and accepted_language("x;q=y") == "en"
    assert say("flag.unheard_of", "fr") == "unheard of"
