"""Runs on the emulated board, by path: needs edge_runtime, numpy, Pillow and an engine, no more.

python task.py ENGINE IMAGE… prints one JSON object: what the runtime made of each image
at every step, so that two machines can be compared byte by byte.
"""

from __future__ import annotations

import hashlib
import json
import platform
import sys

import numpy
import PIL

from edge_runtime import Screener
from edge_runtime.errors import EngineError
from edge_runtime.images.file import read_file
from edge_runtime.images.preprocess import prepare


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def main(engine: str, paths: list[str]) -> None:
    screener = Screener.load(engine=engine, threads=1, force=True, check=False)
    answers: list[float | str | None] = []
    for answer in screener.bundle.manifest.known_answers:
        try:
            answers.append(screener.check_known_answer(answer))
        except EngineError as error:
            answers.append(str(error))
    images = []
    for path in paths:
        pixels = prepare(read_file(path), screener.bundle.manifest.input)
        outputs = screener.run(pixels)
        images.append(
            {
                "tensor": sha256(pixels.tobytes()),
                "map": sha256(outputs.evidence_map.tobytes()),
                "features": sha256(outputs.features.tobytes()),
                "record": json.loads(screener.screen(path).to_json()),
            }
        )
    versions = {"python": platform.python_version(), "numpy": numpy.__version__}
    print(
        json.dumps(
            {
                "machine": platform.machine(),
                "versions": versions | {"pillow": PIL.__version__, "engine": screener.engine_name},
                "known_answers": answers,
                "images": images,
            }
        )
    )


main(sys.argv[1], sys.argv[2:])
