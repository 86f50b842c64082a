"""Does a recipe hold where it did not learn? Trained without each group of sources, judged there.

    python -m train unseen hospitals --data chest_xray --data hospitals/hospitals.csv \
        --fields lung_fields.npz --weights imagenet --output runs/unseen \
        --group us=nih,nih-sample,rsna,rsna-lungs --group children=chest_xray

trains OUTPUT/us without the films of these four sources, then judges it on them (see `train
elsewhere`), and so on; the same command again resumes. Without --group each source is a group of
its own. What held-out sources gave to a batch, the others give. Two recipes are compared by the
mean of their groups, and by validation; the public test split is in none of this.

Source: leave-one-domain-out, as Gulrajani and Lopez-Paz, In Search of Lost Domain Generalization,
ICLR 2021, use it to choose.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edge_runtime.basics.parse import to_mapping
from edge_runtime.errors import InvalidValueError
from train.data.dataset import NORMAL
from train.data.fields import Fields
from train.data.table import read_table
from train.evaluate.elsewhere import (
    ELSEWHERE,
    Comparison,
    Elsewhere,
    markdown,
    mean_over_sources,
    measure_elsewhere,
)
from train.fit.many import add_many_arguments, fit_many
from train.fit.training import add_training_arguments
from train.recipe import Recipe, Share, load_recipe
from train.run.folder import write_results

SCHEMA = "cxr-edge/unseen/1"


@dataclasses.dataclass(frozen=True)
class Group:
    """One group of sources, and what a model that never saw them does there."""

    name: str
    sources: tuple[str, ...]
    mean_auc: float  # of its sources, within strata of film facts where there are any
    found: Elsewhere


@dataclasses.dataclass(frozen=True)
class Unseen:
    schema: str
    recipe: str
    mean_auc: float  # of the groups
    groups: tuple[Group, ...]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = __doc__
    parser.add_argument("recipe", help="a name (see `python -m train recipes`) or a TOML file")
    parser.add_argument(
        "--group", action="append", default=[], metavar="NAME=SOURCE,…",
        help="sources to leave out together; without it each source is a group",
    )  # fmt: skip
    add_training_arguments(parser)
    add_many_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    recipe = load_recipe(arguments.recipe, arguments.set)
    sources = {f.source for f in read_table(arguments.data).films}
    groups = parse_groups(arguments.group, sources)
    found = []
    fit_many(
        arguments,
        [
            (arguments.output / name, tuple(changes_for(recipe, members)))
            for name, members in groups.items()
        ],
    )
    for name, members in groups.items():
        folder = arguments.output / name
        result = measure_elsewhere(
            folder, arguments.data, folder / "elsewhere", Fields(arguments.fields), (), members
        )
        found.append(Group(name, members, mean_auc(result.comparisons), result))
    mean = float(np.mean([group.mean_auc for group in found]))
    unseen = Unseen(SCHEMA, recipe.name, mean, tuple(found))
    write_results(arguments.output, "unseen", to_mapping(unseen), _page(unseen))
    return 0


def parse_groups(told: Sequence[str], sources: set[str]) -> dict[str, tuple[str, ...]]:
    """Sources by name of the group.

    Raises:
        InvalidValueError: Not NAME=SOURCE,…, a name twice, or a source that there is no film of.
    """
    if not told:
        return {source: (source,) for source in sorted(sources)}
    groups: dict[str, tuple[str, ...]] = {}
    for text in told:
        name, equals, members = text.partition("=")
        listed = tuple(filter(None, (m.strip() for m in members.split(","))))
        if not (equals and name and listed and Path(name).name == name) or name in groups:
            raise InvalidValueError(f"--group takes NAME=SOURCE,…, each name once; got {text!r}")
        strange = sorted(set(listed) - sources)
        if strange:
            raise InvalidValueError(
                f"--group {text}: no films of {', '.join(strange)}; "
                f"there are {', '.join(sorted(sources))}"
            )
        groups[name] = listed
    return groups


def changes_for(recipe: Recipe, sources: Sequence[str]) -> list[str]:
    """Settings that hold the sources out and fill batches from the others.

    Raises:
        InvalidValueError: Nothing would be left to learn from.
    """
    held_out = dict.fromkeys([*recipe.data.held_out, *sources])
    changes = [f"data.held_out={json.dumps(list(held_out))}"]
    if not recipe.data.mix:
        return changes
    left = [
        Share(tuple(s for s in share.sources if s not in held_out), share.images)
        for share in recipe.data.mix
    ]
    left = [share for share in left if share.sources]
    if not left:
        raise InvalidValueError(f"without {', '.join(sources)} there is nothing to learn from")
    size, rest = (sum(s.images for s in shares) for shares in (recipe.data.mix, left))
    # The largest remainders get what is left over, so that batches keep their size.
    exact = np.array([share.images * size / rest for share in left])
    counts = np.floor(exact).astype(int)
    counts[np.argsort(counts - exact, kind="stable")[: size - counts.sum()]] += 1
    mix = ", ".join(
        f"{{sources = {json.dumps(list(share.sources))}, images = {count}}}"
        for share, count in zip(left, counts, strict=True)
    )
    return [*changes, f"data.mix=[{mix}]"]


def mean_auc(comparisons: Sequence[Comparison]) -> float:
    """The mean over sources of what their findings reach against normal films, by view where known.

    Within strata of film facts; the plain AUC where there are none.

    Raises:
        InvalidValueError: There is nothing to compare.
    """
    found = [
        (c.source, c.view, (c.adjusted_auc or c.auc).value)
        for c in comparisons
        if not c.age and c.against in (NORMAL, NORMAL + ELSEWHERE)
    ]
    if not found:
        raise InvalidValueError("too few films of either kind to compare any")
    return mean_over_sources(found)


def _page(unseen: Unseen) -> str:
    lines = [
        f"Recipe {unseen.recipe}, trained without each group in turn and judged there. Mean of "
        f"the groups (AUC within strata of film facts, by view where known): "
        f"{unseen.mean_auc:.3f}.",
        "",
        "| group | sources | mean |",
        "|---|---|---|",
        *(f"| {g.name} | {', '.join(g.sources)} | {g.mean_auc:.3f} |" for g in unseen.groups),
        "",
    ]
    for group in unseen.groups:
        lines += [f"## Without {group.name}", "", markdown(group.found)]
    return "\n".join(lines)
