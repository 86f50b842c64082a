"""python -m edge_runtime: the same as the command cxr-edge."""

import sys

from edge_runtime.cli import main

sys.exit(main())
