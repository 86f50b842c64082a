"""Standard streams that are closed or broken, or of a locale that knows English letters alone.

A program started with `2>&-` would get its first file as number 2, and messages would land in it.
"""

from __future__ import annotations

import contextlib
import os
import sys


def mend_streams() -> None:
    """Give each closed standard stream something, before anything else is opened.

    Input is then at its end; what is written to output fails, so that nobody takes lost results
    for given ones; messages are lost.
    """
    for number, flags in enumerate((os.O_RDONLY, os.O_RDONLY, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, flags)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    with contextlib.suppress(AttributeError):  # replaced by something that is no text stream
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def tell(text: str, end: str = "\n") -> None:
    """Write to standard error; where nobody reads it, the work goes on all the same."""
    with contextlib.suppress(OSError, ValueError):
        print(text, end=end, file=sys.stderr, flush=True)
