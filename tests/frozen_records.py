"""Records that must not change by a byte while nobody means to change them.

    python -m tests.frozen_records

writes tests/data/records anew: of 24 drawings, and of 50 public radiographs by name, with every
engine whose file the default bundle has. Do that with a new model, and never to make a test pass.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

from edge_runtime import Screener
from edge_runtime.images.phantom import phantom_jpeg

FOLDER = Path(__file__).parent / "data" / "records"
ENGINES = ("litert", "onnxruntime")
_DRAWINGS = 24
# Folder of the data, and how many of its films, evenly spread over the sorted names.
_FILMS = (
    ("chest_xray/train/NORMAL", 15),
    ("chest_xray/train/PNEUMONIA", 15),
    ("chest_xray_originals/NORMAL", 5),
    ("chest_xray_originals/PNEUMONIA", 5),
    ("nih_external/NO_FINDING", 5),
    ("nih_external/PNEUMONIA", 5),
)


def of_drawings(engine: str) -> Iterator[str]:
    """A line each; the gate is overruled and the point has a grey band, so that most is seen."""
    screener = Screener.load(engine=engine, operating_point="triage", force=True)
    for seed in range(_DRAWINGS):
        record = screener.screen(phantom_jpeg(seed, bool(seed % 2)), source=f"phantom/{seed}")
        yield _line(record.to_json())


def of_radiographs(engine: str, data: Path) -> Iterator[str]:
    """A line each."""
    screener = Screener.load(engine=engine)
    for folder, count in _FILMS:
        names = sorted(os.listdir(data / folder))
        for i in range(count):
            name = f"{folder}/{names[i * len(names) // count]}"
            yield _line(screener.screen(str(data / name), source=name).to_json())


def _line(record: str) -> str:
    # An engine's version is the machine's, not ours.
    fields = json.loads(record)
    engine = fields["model"]["engine"]
    return record.replace(json.dumps(engine), json.dumps(engine.split()[0]))


def main() -> None:
    data = Path(os.environ.get("CXR_DATA", Path(__file__).parents[2] / "shared" / "data"))
    FOLDER.mkdir(parents=True, exist_ok=True)
    for engine in ENGINES:
        for kind, lines in (
            ("drawings", of_drawings(engine)),
            ("radiographs", of_radiographs(engine, data)),
        ):
            text = "".join(f"{line}\n" for line in lines)
            (FOLDER / f"{kind}-{engine}.jsonl").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
