"""Learn this site from its labelled films: a correction of the score, or the reason for none."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from edge_runtime.basics.processors import default_threads
from edge_runtime.basics.streams import tell
from edge_runtime.commands.options import add_model_options, load_screener, number, probability
from edge_runtime.errors import InvalidValueError
from edge_runtime.records.messages import choose_language

if TYPE_CHECKING:
    from edge_runtime.adapt.film import Seen
    from edge_runtime.screener import Screener


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Fits a small correction of the score to this site's labelled films (about 200), proves "
        "on films of other patients that it helps, and looks whether it learned the disease or "
        "the machine. Where that is not shown it refuses and says why. Nothing leaves this "
        "machine; the model itself is not changed."
    )
    parser.epilog = (
        "example: cxr-edge adapt --images x/ --labels x.csv --output site.json --report site.html"
    )
    parser.add_argument("--images", required=True, metavar="DIR")
    parser.add_argument(
        "--labels",
        metavar="CSV",
        help="columns file, label (1/0, ? is left out); patient, date, and others as facts for the "
        "guard (machine, view, age, ward …). Without it DIR holds folders normal and pneumonia",
    )
    parser.add_argument("--output", metavar="FILE", help="write the site profile, for --site")
    parser.add_argument("--report", metavar="FILE", help="write an HTML page")
    parser.add_argument("--name", default="site", help="what the profile is called")
    parser.add_argument(
        "--prevalence",
        type=number(0, 1, above=True),
        metavar="X",
        help="disease among the screened; default: as among the labelled films",
    )
    parser.add_argument(
        "--min-sensitivity", type=probability, metavar="X", help="for the threshold"
    )
    parser.add_argument(
        "--max-referred",
        type=number(0, 1000),
        metavar="N",
        help="policy: per 1,000; default: the largest sum of sensitivity and specificity",
    )
    parser.add_argument(
        "--holdout", metavar="CSV", help="films of --images set aside for a last look"
    )
    parser.add_argument(
        "--holdout-since", metavar="DAY", help="set aside the films from a day on, YYYY-MM-DD"
    )
    parser.add_argument(
        "--from",
        nargs="+",
        default=[],
        dest="begin_from",
        metavar="FILE",
        help="begin from what other sites learned: their profiles, of the same bundle",
    )
    parser.add_argument(
        "--accept-confounding",
        action="store_true",
        help="keep what the guard refuses for the films' facts; profile and report say so",
    )
    parser.add_argument(
        "--unlabelled",
        action="store_true",
        help="without labels: how many are ill here, and nothing else",
    )
    parser.add_argument("--lang", metavar="CODE", help="of the page: en, fr, es, pt")
    add_model_options(parser)


def run(arguments: argparse.Namespace) -> int:
    language = choose_language(arguments.lang)
    _check(arguments)
    workers = arguments.threads or default_threads()
    if arguments.unlabelled:
        return _unlabelled(arguments, load_screener(arguments, parallel=workers), workers)
    from edge_runtime.adapt.adapt import adapt, check_enough, start_from
    from edge_runtime.adapt.labels import read_site_labels, set_aside
    from edge_runtime.adapt.prove import FOLDS, REPEATS
    from edge_runtime.adapt.text import default_policy, render_text
    from edge_runtime.basics.progress import Progress
    from edge_runtime.bundle.site_profile import load_profile, save_profile
    from edge_runtime.site.thresholds import Policy

    labels = read_site_labels(arguments.images, arguments.labels)
    aside = None
    if arguments.holdout:
        aside = read_site_labels(arguments.images, arguments.holdout)
        _check_apart(labels.films, aside.films, arguments.holdout)
    elif arguments.holdout_since:
        labels, aside, both = set_aside(labels, arguments.holdout_since)
        if both:
            tell(f"{both} films left out: earlier ones of patients whose later films are set aside")
    screener = load_screener(arguments, parallel=workers)
    start = None
    if arguments.begin_from:
        start = start_from(screener, [load_profile(path) for path in arguments.begin_from])
    seen = _look(screener, labels.films, workers)
    check_enough(seen)
    held = _look(screener, aside.films, workers) if aside else None
    share = sum(film.positive for film in labels.films) / len(labels.films)
    prevalence = arguments.prevalence or share
    policy = default_policy(prevalence)
    if arguments.min_sensitivity is not None or arguments.max_referred is not None:
        policy = Policy(arguments.min_sensitivity, arguments.max_referred)
    progress = Progress(FOLDS * REPEATS)
    result = adapt(
        screener, labels, seen, policy, prevalence, arguments.name, held,
        arguments.accept_confounding, progress.step, start,
    )  # fmt: skip
    progress.clear()
    sys.stdout.write(render_text(result))
    if arguments.report:
        from edge_runtime.adapt.page import render_page

        pictures = [screener.examine(s.path) for s in result.suspicious]
        with open(arguments.report, "w", encoding="utf-8") as file:
            file.write(render_page(result, pictures, language))
    if result.profile is None:
        return 1
    if arguments.output:
        save_profile(result.profile, arguments.output)
        tell(f"profile written to {arguments.output}: use it with --site")
    return 0


def _check(arguments: argparse.Namespace) -> None:
    """Raises InvalidValueError where options do not go together."""
    if not os.path.isdir(arguments.images):
        raise InvalidValueError(f"{arguments.images} is no folder")
    if arguments.unlabelled:
        used = ("labels", "holdout", "holdout_since", "report", "accept_confounding", "begin_from")
        for name in used:
            if getattr(arguments, name):
                option = "--from" if name == "begin_from" else "--" + name.replace("_", "-")
                raise InvalidValueError(f"--unlabelled has no use for {option}; leave it out")
    if arguments.holdout and arguments.holdout_since:
        raise InvalidValueError("--holdout and --holdout-since: give one of the two")
    tables = [t for t in (arguments.labels, arguments.holdout) if t]
    for written in (arguments.output, arguments.report):
        for table in tables:
            if written and os.path.realpath(written) == os.path.realpath(table):
                raise InvalidValueError(f"{written} would replace the labels; name another file")


def _check_apart(films, aside, where: str) -> None:  # type: ignore[no-untyped-def]
    """Raises InvalidValueError where a film or a patient is on both sides."""
    taught = {film.patient for film in films} | {film.path for film in films}
    for film in aside:
        if film.patient in taught or film.path in taught:
            raise InvalidValueError(
                f"{where}: {film.path} (patient {film.patient}) is among the labels too; films "
                "set aside must be of other patients"
            )


def _look(screener: Screener, films, workers: int) -> Seen:  # type: ignore[no-untyped-def]
    from edge_runtime.adapt.film import look_at
    from edge_runtime.basics.progress import Progress

    progress = Progress(len(films))
    seen = look_at(screener, films, workers, progress.step)
    progress.clear()
    return seen


def _unlabelled(arguments: argparse.Namespace, screener: Screener, workers: int) -> int:
    from edge_runtime.adapt.unlabelled import examine_unlabelled, profile_of, told_in_words
    from edge_runtime.bundle.site_profile import save_profile

    found = examine_unlabelled(screener, arguments.images, workers)
    sys.stdout.write(told_in_words(found.shift, screener.bundle.manifest.positive))
    if not found.shift.holds:
        return 1
    if arguments.output:
        save_profile(profile_of(screener, found, arguments.name), arguments.output)
        tell(f"profile written to {arguments.output}: use it with --site")
    return 0
