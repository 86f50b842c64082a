r"""A finished run's weights, pulled back towards those that it began from, as a run of its own.

    python -m train pull runs/one --towards mobilenet.weights.h5 --share 0.2 \
        --data chest_xray --output runs/pulled

What fine-tuning added on top of ImageNet's features holds in the hospitals that it saw, and part of
it nowhere else. Weights a little of the way back lose next to nothing where the run learned and
rank films of hospitals that it never saw better (docs/experiments.md). The head keeps what it has
learned: there is nothing to pull it to.

Source: Wortsman et al., Robust fine-tuning of zero-shot models, CVPR 2022.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import InvalidValueError
from train.data.table import add_data_sets
from train.fit.average import validation_auc, write_made_run
from train.run.finished import FinishedRun, open_run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = __doc__
    parser.add_argument("run_folder", type=Path, metavar="run", help="a finished run")
    parser.add_argument(
        "--towards", type=Path, required=True, metavar="FILE.weights.h5",
        help="pretrained weights without the top, of the run's backbone",
    )  # fmt: skip
    parser.add_argument(
        "--share", type=float, required=True, metavar="0..1", help="how far back; 0.2 is a fifth"
    )
    add_data_sets(parser)
    parser.add_argument("--output", type=Path, required=True, help="run folder of the result")


def run(arguments: argparse.Namespace) -> int:
    before, after = pull(
        arguments.run_folder,
        arguments.towards,
        arguments.share,
        arguments.data,
        arguments.output,
    )
    for name, (plain, corrupted) in (("as it was", before), ("pulled back", after)):
        print(f"{name}: validation AUC {plain:.4f}, corrupted {corrupted:.4f}")
    return 0


def pull(
    run_folder: Path, towards: Path, share: float, data: Sequence[Path], output: Path
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Write the run folder; AUC on validation and on its corrupted copy, before and after.

    Args:
        run_folder: A finished run.
        towards: A file of pretrained weights without the top.
        share: 0 changes nothing, 1 leaves the pretrained backbone under the run's head.
        data: The data sets that the run was trained on.
        output: A folder that is not there yet.

    Raises:
        InvalidValueError: A share outside 0 to 1, a file of other shapes, or `output` is there.
    """
    import keras  # takes seconds

    from train.network.build import backbone_of

    if not 0 <= share <= 1:  # NaN too
        raise InvalidValueError(f"--share must be from 0 to 1, got {share}")
    finished = open_run(run_folder)
    model = keras.saving.load_model(run_folder / "model.keras", compile=False)
    pretrained = _pretrained(finished, towards)
    backbone = backbone_of(model)
    backbone.set_weights(
        [
            (1 - share) * own + share * theirs
            for own, theirs in zip(backbone.get_weights(), pretrained, strict=True)
        ]
    )
    outcome = {
        "chosen": f"{share:g} of the way back to {towards.name}",
        "pulled": {
            "share": share,
            "towards": towards.name,
            "sha256": hashlib.sha256(towards.read_bytes()).hexdigest(),
            "outcome": finished.description["outcome"],
        },
        "epochs": int(finished.description["outcome"].get("epochs", 0)),
    }
    write_made_run(model, finished, outcome, data, output)
    return validation_auc(finished), validation_auc(open_run(output))


def _pretrained(finished: FinishedRun, towards: Path) -> list[NDArray[np.float32]]:
    """The weights of the run's backbone with the file's in it."""
    if not towards.is_file():
        raise InvalidValueError(f"--towards {towards}: no such file")
    from train.network.build import backbone_of, build_or_say  # Keras takes seconds

    return list(backbone_of(build_or_say(finished.recipe, str(towards))).get_weights())
