"""A folder, the most suspicious films first: python folder.py FOLDER."""

import sys
from pathlib import Path

from edge_runtime import Screener

WORKERS = 2
screener = Screener.load(parallel=WORKERS)
films = sorted(path for path in Path(sys.argv[1]).iterdir() if path.is_file())
records = list(screener.screen_many(films, WORKERS))

judged = [record for record in records if record.probability is not None]
for record in sorted(judged, key=lambda record: -(record.probability or 0)):
    print(f"{record.decision:9} {record.probability:.4f} {record.source}")
for record in records:
    if record.probability is None:  # refused or damaged: nobody has looked at these yet
        why = record.error.code if record.error else ", ".join(record.quality.flags)
        print(f"{record.status:9} {why} {record.source}")
