"""One film: python one_film.py FILE. Exit status 1 if it was not judged."""

import sys

from edge_runtime import Screener

record = Screener.load().screen(sys.argv[1])
if record.status == "error":
    assert record.error is not None
    sys.exit(f"not screened, {record.error.code}: {record.error.message}")
if record.status == "rejected":
    # There is no score: the film may not be judged, and the flags say why.
    sys.exit(f"refused: {', '.join(record.quality.flags)}")
if record.decision == "uncertain":
    print("uncertain: a person has to read it")
else:
    print(record.decision, record.probability)
if record.quality.flags:
    print("have it read all the same:", ", ".join(record.quality.flags))
