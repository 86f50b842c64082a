"""Help texts of the terminal's width."""

from __future__ import annotations

import argparse
import os


class HelpFormatter(argparse.HelpFormatter):
    """argparse asks `shutil` for the width, for every argument: ten modules in a cold start."""

    def __init__(self, prog: str) -> None:
        try:
            columns = int(os.environ.get("COLUMNS") or os.get_terminal_size().columns)
        except (OSError, ValueError):
            columns = 80
        super().__init__(prog, width=max(columns - 2, 20))
