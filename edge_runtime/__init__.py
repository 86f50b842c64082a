"""cxr-edge: chest X-ray pneumonia screening that runs offline on a CPU.

For screening support, research and education; not a diagnosis.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.1.0"
__all__ = ["Record", "Screener", "__version__"]

if TYPE_CHECKING:
    from edge_runtime.records.record import Record
    from edge_runtime.screener import Screener


def __getattr__(name: str) -> object:
    # numpy and Pillow load with the first use: `import edge_runtime` alone costs nothing.
    if name == "Screener":
        from edge_runtime.screener import Screener

        return Screener
    if name == "Record":
        from edge_runtime.records.record import Record

        return Record
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
