"""python -m edge_runtime: the same as the command cxr-edge."""

from edge_runtime.cli import run

run()
