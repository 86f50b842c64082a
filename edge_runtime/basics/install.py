"""The command that installs something here, as it can be typed: for this Python, from here."""

from __future__ import annotations

import importlib.util
import os
import sys

_ABOVE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def install_extra(name: str) -> str:
    """What adds an extra of this package ("serve"), from a checkout or from a wheel."""
    if os.path.isfile(os.path.join(_ABOVE, "pyproject.toml")):
        return install(f"-e {_quoted(f'{_ABOVE}[{name}]')}")
    return install(_quoted(f"cxr-edge[{name}]"))


def install(what: str) -> str:
    """`pip install`, by the Python that runs this; uv where it has no pip."""
    python = _quoted(sys.executable or "python3")
    if importlib.util.find_spec("pip") is None:
        return f"uv pip install --python {python} {what}"
    return f"{python} -m pip install {what}"


def _quoted(text: str) -> str:
    """For a shell of any system: brackets and spaces mean something to some of them."""
    return f'"{text}"' if set(text) & set(" []<>()&'") else text
