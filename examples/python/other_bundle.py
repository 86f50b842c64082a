"""Another model: python other_bundle.py FILE small, or the folder of a bundle of your own."""

import sys

from edge_runtime import Screener
from edge_runtime.errors import CxrEdgeError

try:
    screener = Screener.load(sys.argv[2])  # checked against its hashes and its known answers
except CxrEdgeError as error:
    sys.exit(f"{error}")
record = screener.screen(sys.argv[1])
print(record.model.name, record.model.version, record.status, record.decision, record.probability)
