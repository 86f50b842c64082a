"""Choose this site's own threshold on its labelled images."""

from __future__ import annotations

import argparse
import json
import os
import sys

from edge_runtime.basics.processors import default_threads
from edge_runtime.basics.streams import tell
from edge_runtime.commands.options import add_model_options, load_screener, number, probability
from edge_runtime.errors import InvalidValueError
from edge_runtime.records.messages import choose_language

_HIGHEST_COST = 1e12


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Screens labelled images and says, for every threshold and this site's "
        "prevalence, what would be found, missed and referred. A policy chooses one and writes a "
        "site profile for --site. Nothing leaves this machine."
    )
    parser.epilog = (
        "example: cxr-edge calibrate --images x/ --labels x.csv --prevalence 0.2 "
        "--min-sensitivity 0.95 --output site.json --report site.html"
    )
    parser.add_argument("--images", required=True, metavar="DIR")
    parser.add_argument(
        "--labels", required=True, metavar="CSV", help="columns file, label (1/0), and strata"
    )
    parser.add_argument(
        "--prevalence",
        type=number(0, 1, above=True),
        required=True,
        metavar="X",
        help="disease among the screened",
    )
    parser.add_argument("--strata", default="", metavar="A,B", help="columns to report by")
    parser.add_argument("--name", default="site", help="what the profile is called")
    parser.add_argument("--min-sensitivity", type=probability, metavar="X", help="policy")
    parser.add_argument(
        "--max-referred", type=number(0, 1000), metavar="N", help="policy: per 1,000"
    )
    parser.add_argument(
        "--costs", metavar="MISSED,ALARM", help="policy where no other is given; shown anyway"
    )
    parser.add_argument("--output", metavar="FILE", help="write the site profile (needs a policy)")
    parser.add_argument("--table", metavar="FILE", help="write every threshold as JSON")
    parser.add_argument(
        "--report", metavar="FILE", help="write an HTML page, and every threshold as CSV beside it"
    )
    parser.add_argument("--lang", metavar="CODE", help="of the page: en, fr, es, pt")
    add_model_options(parser)


def run(arguments: argparse.Namespace) -> int:
    from edge_runtime.basics.parse import to_mapping
    from edge_runtime.bundle.site_profile import save_profile
    from edge_runtime.site.calibrate import calibrate, render_text
    from edge_runtime.site.labels import read_labels
    from edge_runtime.site.thresholds import Policy

    language = choose_language(arguments.lang)
    beside = _beside_report(arguments)
    costs = _costs(arguments.costs)
    policy = None
    if arguments.min_sensitivity is not None or arguments.max_referred is not None or costs:
        policy = Policy(arguments.min_sensitivity, arguments.max_referred, *(costs or (None, None)))
    if arguments.output and policy is None:
        raise InvalidValueError(
            "a profile needs a policy: --min-sensitivity, --max-referred or --costs"
        )
    strata = [name for name in arguments.strata.split(",") if name]
    labelled = read_labels(arguments.labels, arguments.images, strata)
    workers = arguments.threads or default_threads()
    screener = load_screener(arguments, parallel=workers)
    result = calibrate(
        screener, labelled, arguments.prevalence, policy, costs, arguments.name, workers,
        refit=bool(arguments.output),
    )  # fmt: skip
    sys.stdout.write(render_text(result))
    if arguments.table:
        with open(arguments.table, "w", encoding="utf-8") as file:
            json.dump(to_mapping(result.rows), file, indent=1, allow_nan=False)
    if beside:
        from edge_runtime.site.page import render_page, whole_table

        with open(arguments.report, "w", encoding="utf-8") as file:
            file.write(render_page(result, os.path.basename(beside), language))
        with open(beside, "w", encoding="utf-8-sig", newline="") as file:
            file.write(whole_table(result, language))
    if result.profile is None:
        return 0 if policy is None else 1
    if arguments.output:
        save_profile(result.profile, arguments.output)
        tell(f"profile written to {arguments.output}: use it with --site")
    return 0


def _beside_report(arguments: argparse.Namespace) -> str | None:
    """The CSV beside --report; none of the other files may be it, the labels least of all."""
    if not arguments.report:
        return None
    beside: str = os.path.splitext(arguments.report)[0] + ".csv"
    others = (arguments.labels, arguments.output, arguments.table, arguments.report)
    for other in others:
        if other and os.path.realpath(other) == os.path.realpath(beside):
            raise InvalidValueError(
                f"--report {arguments.report} would write its thresholds to {beside}, which is "
                f"{other}; name another --report"
            )
    return beside


def _costs(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    try:
        missed, alarm = (float(part) for part in text.split(","))
    except ValueError as error:
        raise InvalidValueError(f"--costs takes MISSED,ALARM, got {text!r}") from error
    if not (0 < missed <= _HIGHEST_COST and 0 < alarm <= _HIGHEST_COST):  # nor NaN
        raise InvalidValueError(
            f"--costs {text}: both must be above 0, and at most {_HIGHEST_COST:g}"
        )
    return missed, alarm
