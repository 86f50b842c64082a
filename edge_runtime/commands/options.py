"""Options that several verbs share."""

from __future__ import annotations

import argparse
import gc
import os
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from edge_runtime.basics.memory import share_one_heap
from edge_runtime.commands.bundle_option import add_bundle_option
from edge_runtime.engines.names import ENGINE_NAMES
from edge_runtime.judge.population import ANY, AUTO, NAMES
from edge_runtime.screener import Screener

if TYPE_CHECKING:
    from edge_runtime.records.audit_log import AuditLog
    from edge_runtime.records.record import Record


def add_screening_options(parser: argparse.ArgumentParser) -> None:
    """What every verb takes that screens images for somebody."""
    add_model_options(parser)
    add_decision_options(parser)
    add_force_option(parser)
    add_audit_option(parser)
    add_mode_option(parser)


def add_model_options(parser: argparse.ArgumentParser) -> None:
    add_bundle_option(parser)
    parser.add_argument(
        "--engine",
        choices=("auto", *ENGINE_NAMES),
        default="auto",
        help="auto takes what is installed and says which (default)",
    )
    parser.add_argument(
        "--threads",
        type=whole(1, 1024),
        metavar="N",
        help="processors to use; default: all, up to 4",
    )


def add_decision_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--operating-point", metavar="NAME", help="one of the bundle's, see `cxr-edge info`"
    )
    parser.add_argument(
        "--threshold",
        type=probability,
        metavar="X",
        help="probability instead of an operating point",
    )

    parser.add_argument(
        "--population",
        choices=(AUTO, ANY, *NAMES),
        default=AUTO,
        help="whose threshold decides: of children (under 18), adults, any; default: auto, by the "
        "age that a DICOM file states, else any",
    )
    parser.add_argument(
        "--site",
        metavar="FILE",
        help="site profile of `cxr-edge calibrate` or `adapt`: its threshold, and its correction",
    )


def add_audit_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--audit", metavar="DIR", help="append every result to the hash-chained log in DIR"
    )
    parser.add_argument(
        "--audit-keep",
        type=positive_int,
        default=0,
        metavar="N",
        help="keep the log's last N files of 16 MB (the log says what went); default: all",
    )


def open_audit_log(arguments: argparse.Namespace) -> AuditLog | None:
    """The log that --audit names."""
    if arguments.audit is None:
        return None
    from edge_runtime.records.audit_log import AuditLog

    return AuditLog(arguments.audit, keep_files=arguments.audit_keep)


def open_audit(arguments: argparse.Namespace) -> Callable[[Record], None]:
    """What appends a record to the log that --audit names; without --audit it does nothing."""
    log = open_audit_log(arguments)
    return log.record if log is not None else lambda record: None


def add_force_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--force",
        action="store_true",
        help="screen what the quality gate refuses too; its record still says so",
    )


def set_file_mode(mode: int) -> None:
    """Give these permissions to files that are made from now on."""
    searchable = (mode & 0o444) >> 2  # who may read a file may enter its folder
    os.umask(0o777 & ~(mode | searchable))


def add_mode_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--mode",
        type=file_mode,
        default=0o600,
        metavar="OCTAL",
        help="permissions of files with results, 640 say; default: 600, the owner alone",
    )


def load_screener(arguments: argparse.Namespace, parallel: int = 1) -> Screener:
    """A screener from the options of a verb; files that are made from now on follow --mode."""
    if (mode := getattr(arguments, "mode", None)) is not None:
        set_file_mode(mode)
    share_one_heap()
    screener = Screener.load(
        arguments.bundle,
        engine=arguments.engine,
        threads=1 if parallel > 1 else arguments.threads,
        parallel=parallel,
        operating_point=getattr(arguments, "operating_point", None),
        threshold=getattr(arguments, "threshold", None),
        site=getattr(arguments, "site", None),
        force=getattr(arguments, "force", False),
        population=getattr(arguments, "population", AUTO),
    )
    # From here on there is garbage (see `cli.run`); what was loaded is none of it.
    gc.freeze()
    gc.enable()
    return screener


def whole(low: int, high: int = 10**9) -> Callable[[str], int]:
    """The type of an option: a whole number from low to high."""

    def convert(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a whole number") from None
        if not low <= value <= high:
            limit = f"at least {low}" if value < low else f"at most {high}"
            raise argparse.ArgumentTypeError(f"must be {limit}, got {text[:40]}")
        return value

    return convert


def number(low: float, high: float, above: bool = False) -> Callable[[str], float]:
    """The type of an option: a finite number from low (or above it) to high."""

    def convert(text: str) -> float:
        try:
            value = float(_with_point(text))
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a number") from None
        if not low <= value <= high or (above and value == low):  # no NaN passes this
            least = f"be above {low:g} and at most" if above else f"lie between {low:g} and"
            raise argparse.ArgumentTypeError(f"must {least} {high:g}, got {text[:40]}")
        return value

    return convert


def _with_point(text: str) -> str:
    """A number with a decimal comma, as half of the world writes it, with a point.

    "1,000" stays as it is, and so is none: the other half of the world means a thousand by it.
    """
    if re.fullmatch(r"[+-]?[1-9]\d{0,2},\d{3}", text.strip()):
        return text
    return text.replace(",", ".") if text.count(",") == 1 and "." not in text else text


def file_mode(text: str) -> int:
    """The type of an option: permissions that the owner can work with and that run nothing."""
    if not re.fullmatch(r"0?6[0246]{2}", text):
        raise argparse.ArgumentTypeError(
            f"{text[:40]!r} is not for files with results: 600, 640, 644 and the like, in octal"
        )
    return int(text, 8)


positive_int = whole(1)
port = whole(0, 65535)  # 0: any free one
seconds = number(0, 86_400, above=True)
probability = number(0, 1)
