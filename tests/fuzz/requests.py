"""Lines of the pipe's protocol, and command lines: an answer to each, or wrong usage."""

from __future__ import annotations

import base64
import contextlib
import io
import json
from functools import cache
from typing import Any

import numpy as np

from edge_runtime import Screener
from edge_runtime.basics.verbs import parse_verb
from edge_runtime.cli import VERBS
from edge_runtime.commands.formatter import HelpFormatter
from edge_runtime.images.phantom import phantom_jpeg
from edge_runtime.services.pipe import serve_pipe
from tests.fuzz.documents import _VALUES, _changed
from tests.fuzz.files import damage

_WORDS = (
    "", "-", "--", "-1", "0", "1", "nan", "inf", "1e999", "9" * 400, "x", "/dev/null", "/nowhere",
    "--output", "--port", "--threads", "--engine", "--bundle", "--audit", "--mode", "--timeout",
    "--queue", "--interval", "--settle", "--costs", "--threshold", "--operating-point", "--site",
    "--lang", "--format", "--report", "--heatmaps", "--resume", "--force", "--spool", "--allow",
    "--ae-title", "--host", "--once", "--count", "--prevalence", "--images", "--labels", "\0", "é",
    "\udcff", "@file", "--output=", "--threads=-1", "-h=1", "777", "600", "0x10", "A" * 5000,
)  # fmt: skip


def pipe_case(rng: np.random.Generator) -> str:
    """One strange line, then an ordinary one: both are answered."""
    request: dict[str, Any] = {"id": 7, "base64": _picture(), "source": "a", "heatmap": False}
    if rng.random() < 0.3:
        request = {"id": 7, "path": str(_VALUES[int(rng.integers(len(_VALUES)))])}
    line = _changed(request, rng).replace(b"\n", b" ")
    if rng.random() < 0.3:
        line = damage(line, [line], rng).replace(b"\n", b" ")
    target = io.BytesIO()
    source = io.BytesIO(line + b'\n{"id": "after", "base64": ""}\n')
    answered = serve_pipe(_screener(), source, target, 1)
    answers = [json.loads(text) for text in target.getvalue().splitlines()]
    assert answered.failed == 0, answers
    assert len(answers) == 1 + bool(line.strip()) and answers[-1]["id"] == "after"
    return "result" if "result" in answers[0] else answers[0]["error"]["code"]


def options_case(rng: np.random.Generator) -> str:
    """A command line is understood, or it is wrong usage."""
    verb = list(VERBS)[int(rng.integers(len(VERBS)))]
    words = [_WORDS[int(i)] for i in rng.integers(0, len(_WORDS), int(rng.integers(0, 8)))]
    told = io.StringIO()
    with contextlib.redirect_stderr(told), contextlib.redirect_stdout(told):
        try:
            parse_verb("cxr-edge", "", VERBS, [verb, *words], HelpFormatter, "1")
        except SystemExit as end:
            assert end.code in (0, 2), end.code
            return "usage" if end.code else "help"
    return "understood"


@cache
def _picture() -> str:
    return base64.b64encode(phantom_jpeg(1, True, 96, 96)).decode()


@cache
def _screener() -> Screener:
    return Screener.load("tiny", force=True)
