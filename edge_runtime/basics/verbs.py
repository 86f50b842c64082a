"""A command of several verbs: a table says where each lives, and each owns its arguments.

A verb's module has `add_arguments(parser)` and `run(arguments) -> int`. Only the module that is
asked for is imported: a cold start matters on a small board, and elsewhere TensorFlow takes
seconds.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Mapping

from edge_runtime.basics.streams import tell
from edge_runtime.errors import CxrEdgeError

Table = Mapping[str, tuple[str, str]]  # verb -> (module, help)


def parse_verb(
    prog: str,
    description: str | None,
    table: Table,
    argv: list[str],
    formatter: type[argparse.HelpFormatter] = argparse.HelpFormatter,
    version: str | None = None,
) -> argparse.Namespace:
    """Parse; `run` of the result is the verb's function.

    Args:
        prog: Name of the command.
        description: For its help.
        table: The verbs.
        argv: Without the command's name.
        formatter: Of all help texts.
        version: What --version prints; None: there is no such option.
    """
    parser = argparse.ArgumentParser(prog=prog, description=description, formatter_class=formatter)
    if version is not None:
        parser.add_argument("--version", action="version", version=version)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    wanted = argv[0] if argv and argv[0] in table else None
    for verb in [wanted] if wanted else table:
        module_name, told = table[verb]
        sub = verbs.add_parser(verb, help=told, formatter_class=formatter)
        if wanted:
            module = importlib.import_module(module_name)
            module.add_arguments(sub)
            sub.set_defaults(run=module.run)
    return parser.parse_args(argv)


def run_verb(prog: str, description: str | None, table: Table, argv: list[str] | None) -> int:
    """Parse and run a verb of the workbench; its exit code, 2 for an error that was foreseen."""
    try:
        arguments = parse_verb(prog, description, table, sys.argv[1:] if argv is None else argv)
        return int(arguments.run(arguments))
    except CxrEdgeError as error:
        tell(f"error: {error}")
        return 2
    except KeyboardInterrupt:
        tell("interrupted")
        return 130
