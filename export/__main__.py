"""Export a finished run as a bundle, or a bundle as C or as a web page: see --help of each.

python -m export RUN --output BUNDLE
python -m export again BUNDLE --decode-oversampling TIMES --version VERSION --output BUNDLE
python -m export c-array BUNDLE --output FOLDER
python -m export web BUNDLE --output FOLDER
"""

from __future__ import annotations

import argparse
import importlib
import sys

from edge_runtime.errors import CxrEdgeError
from export.verify.gate import GateError

_OF_BUNDLES = {"again": "export.again", "c-array": "export.c_array", "web": "export.web"}


def main(argv: list[str] | None = None) -> int:
    given = sys.argv[1:] if argv is None else argv
    prog, module_name = "python -m export", "export.command"
    if given and given[0] in _OF_BUNDLES:
        prog, module_name, given = f"{prog} {given[0]}", _OF_BUNDLES[given[0]], given[1:]
    module = importlib.import_module(module_name)
    parser = argparse.ArgumentParser(
        prog=prog, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    module.add_arguments(parser)
    arguments = parser.parse_args(given)
    try:
        return int(module.run(arguments))
    except GateError as error:
        print(f"the verification gate refused the export: {error}", file=sys.stderr)
        return 1
    except CxrEdgeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
