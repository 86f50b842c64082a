"""Selective risk: the gate's films and the nearest ones, counted right."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.accuracy.selective import _kept, markdown, run_selective
from edge_runtime.errors import InvalidValueError
from edge_runtime.images.phantom import phantom_jpeg


def test_what_is_kept_is_what_is_counted() -> None:
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    probability = np.array([0.1, 0.2, 0.8, 0.9, 0.1, 0.2, 0.8, 0.9])
    wrong = (probability > 0.5) != (labels == 1)
    everything = _kept("all", np.ones(8, bool), labels, probability, wrong)
    assert everything.auc is not None and everything.auc.value == 0.5
    assert (everything.error.value, everything.films, everything.share) == (0.5, 8, 1.0)
    good = _kept("some", ~wrong, labels, probability, wrong)
    assert good.auc is not None and good.auc.value == 1 and good.error.value == 0
    assert _kept("one class", labels == 1, labels, probability, wrong).auc is None


def test_a_folder_is_measured_and_written(tmp_path: Path) -> None:
    for kind in ("NORMAL", "PNEUMONIA"):
        (tmp_path / "data" / kind).mkdir(parents=True)
        for i in range(8):
            content = phantom_jpeg(i, kind == "PNEUMONIA", 300, 320)
            (tmp_path / "data" / kind / f"{i}.jpeg").write_bytes(content)
    result = run_selective("tiny", tmp_path / "data", tmp_path / "out")
    shares = {kept.which: kept.films for kept in result.kept}
    assert shares["all"] == 16 and shares["nearest 50%"] == 8
    assert result.kept[0].films <= 16
    text = (tmp_path / "out" / "selective.md").read_text(encoding="utf-8")
    assert text == markdown(result) and "as the gate decides" in text
    assert (tmp_path / "out" / "selective.json").exists()


def test_one_class_is_refused(tmp_path: Path) -> None:
    (tmp_path / "PNEUMONIA").mkdir()
    with pytest.raises(InvalidValueError, match="folder PNEUMONIA"):
        run_selective("tiny", tmp_path, tmp_path / "out")
