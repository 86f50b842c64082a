"""python -m train VERB: fit and judge recipes; `python -m train --help` lists the verbs."""

from __future__ import annotations

import sys

from edge_runtime.basics.verbs import run_verb

VERBS = {
    "fit": (
        "train.fit.command",
        "train a recipe into a run folder; the same command again resumes it",
    ),
    "render": (
        "train.fit.render",
        "make the batches of a mixture beforehand, for trainings on a GPU to share",
    ),
    "average": (
        "train.fit.average",
        "the mean of the weights of several finished runs, as a run of its own",
    ),
    "pull": (
        "train.fit.pull",
        "a run's weights, pulled back towards the pretrained ones, as a run of its own",
    ),
    "evaluate": (
        "train.evaluate.command",
        "all figures of a finished run, with intervals, plots and a page",
    ),
    "compare": (
        "train.evaluate.compare",
        "two finished runs on the same films, paired, source by source",
    ),
    "elsewhere": (
        "train.evaluate.elsewhere",
        "how a run does on films of other hospitals, by source and view",
    ),
    "unseen": (
        "train.unseen",
        "train a recipe without each group of sources in turn, and judge it there",
    ),
    "thresholds": (
        "train.evaluate.thresholds",
        "which rule for choosing a threshold holds in sources that were held out",
    ),
    "audit": (
        "train.audit.command",
        "what a data folder holds, and what separates its classes without being disease",
    ),
    "weights": (
        "train.network.pretrained",
        "make ImageNet weights of others into files for `fit --weights`",
    ),
    "recipes": ("train.recipe_list", "list the recipes"),
}


def main(argv: list[str] | None = None) -> int:
    return run_verb("python -m train", __doc__, VERBS, argv)


if __name__ == "__main__":
    sys.exit(main())
