"""A threshold of one's own: python own_threshold.py FILE 0.3.

Choose it on labelled films of your own (`cxr-edge calibrate`), never on a wish: what the shipped
thresholds did, and on whose films, `cxr-edge info` prints.
"""

import sys

from edge_runtime import Screener
from edge_runtime.errors import CxrEdgeError

try:
    screener = Screener.load(threshold=float(sys.argv[2]))
except (CxrEdgeError, ValueError) as error:
    sys.exit(f"{error}")
record = screener.screen(sys.argv[1])
print(record.status, record.decision, record.probability, record.operating_point, record.threshold)
