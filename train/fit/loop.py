"""The training loop: head first, then all layers; validation, snapshots, averaging, resume.

Validation inside this data set's training split saturates (AUC 0.998 after one epoch), so epochs
are compared by the mean AUC over them and a fixed corrupted copy of them, which does not.
"""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from edge_runtime.errors import InvalidValueError
from edge_runtime.judge.scores import disease_logit
from edge_runtime.statistics.metrics import auc, binary_cross_entropy
from edge_runtime.statistics.odds import probabilities
from train.data.arrays import Arrays, load_arrays, split_data
from train.data.dataset import Split, check_labels
from train.data.source import Source
from train.fit.batches import MixedBatches, RenderedBatches, TrainingBatches
from train.fit.evidence import with_map
from train.fit.hardware import Hardware
from train.fit.optimise import compile_phase, learning_rates
from train.fit.store import BatchStore
from train.fit.style import style_layers, with_style
from train.fit.teacher import Teacher, load_finished
from train.fit.track import Tracker, check_tools, tracked
from train.network.build import MAP_LAYER, build_network, build_or_say
from train.network.fold import fold, unfold
from train.network.narrow import narrow
from train.recipe import About, Optimisation, Recipe, load_recipe
from train.run.curves import draw_curves
from train.run.finished import check_findings
from train.run.folder import RunFolder, State, describe_data, describe_run
from train.run.scores import CORRUPTED, PLAIN, Scores, predict_logits, write_scores

_AVERAGE_TOLERANCE = 0.005
_CURVES_EVERY = 20.0  # seconds; drawing takes one, which is an epoch of the smallest recipes
# The batches of an epoch, with targets for a map of (rows, columns).
Feed = Callable[[int, tuple[int, int]], keras.utils.PyDataset]
_MONITORS = {"score": "validation_score", "auc": "validation_auc", "loss": "validation_loss"}


def fit(
    recipe_name: str,
    data: Sequence[Path],
    weights: str,
    output: Path,
    seed: int | None = None,
    changes: Sequence[str] = (),
    hardware: Hardware | None = None,
    fields: Sequence[Path] = (),
    sides: Sequence[Path] = (),
    track: Sequence[str] = (),
    batches: Path | None = None,
) -> None:
    """Train a recipe into the run folder `output`, or go on with an interrupted run there.

    With `batches`, a folder of `train render`, its training films are those that were rendered
    there, or are being.

    Raises:
        InvalidValueError: Unknown recipe, unusable data, or a folder that holds another run.
    """
    recipe = load_recipe(recipe_name, [*changes, *([] if seed is None else [f"seed={seed}"])])
    if (fields or sides) and not recipe.data.mix:
        raise InvalidValueError(
            f"recipe {recipe.name} mixes no sources and grafts nothing: leave --fields and --sides "
            "out, or name a recipe that does (hospitals)"
        )
    check_tools(track)
    hardware = hardware or Hardware()
    run = RunFolder(output)
    # What is wrong with the command is said before anything is read for minutes, or written.
    start = _Start.of(weights)
    split, source = split_data(recipe, data)
    store = None if batches is None else BatchStore.open(batches, recipe)
    if store:
        split = store.split
    check_labels(split.train, recipe.network.labels)
    check_findings(recipe, split.validation)
    recipe = _true_of(recipe, load_recipe(recipe_name).about, split, source)
    run.check_free_for(recipe, start.record)
    keras.utils.set_random_seed(recipe.seed)
    with hardware.scope():
        model = build_or_say(recipe, start.pretrained)
        if start.run is not None:
            narrow(load_finished(start.run, recipe, {s.patient for s in split.validation}), model)
        trainee = fold(model) if recipe.optimisation.fold_batch_norm else model
        if store:
            arrays = Arrays.without_training(recipe, source, split)
            told = store.data
        else:
            stream = run.stream(hardware.stream)
            arrays, split, unreadable = load_arrays(recipe, source, split, stream, fields, sides)
            told = describe_data(arrays.fingerprint, split, unreadable)
        run.begin(describe_run(recipe, start.record, told), split)
        history = _train(trainee, recipe, arrays, run, split, track, store)
    _finish(_Settling(recipe, model, trainee), recipe, arrays, run, history, split)


def _true_of(recipe: Recipe, said: About, split: Split, source: Source) -> Recipe:
    """The recipe without what its file's [about] says, where that is of other films."""
    told = recipe.about.sources
    found = {source.name_of(sample) for sample in (*split.train, *split.validation)}
    if not told or found <= set(told):
        return recipe
    tqdm.write(
        f"[about] of recipe {recipe.name} is about {', '.join(told)}, and these films are of "
        f"{', '.join(sorted(filter(None, found))) or 'no source that is named'}: the card will say "
        "that the model's use is not stated. --set about.intended_use=… states it; sources = [] in "
        "the recipe's [about] keeps its sentences"
    )
    mine = {
        field.name: getattr(recipe.about, field.name)
        for field in dataclasses.fields(About)
        if getattr(recipe.about, field.name) != getattr(said, field.name)
    }
    return dataclasses.replace(recipe, about=About(**mine))


class _Settling:
    """Makes the recipe's own model, of plain float32, from weights of what was trained."""

    def __init__(self, recipe: Recipe, begun: keras.Model, trainee: keras.Model) -> None:
        self.model = build_network(recipe, None)
        self._folded = None if trainee is begun else trainee
        if self._folded:
            self.model.set_weights(begun.get_weights())  # the statistics that were folded in

    def set_weights(self, weights: list[NDArray[np.float32]]) -> None:
        if self._folded:
            self._folded.set_weights(weights)
            unfold(self._folded, self.model)
        else:
            self.model.set_weights(weights)


@dataclasses.dataclass(frozen=True)
class _Start:
    """Where training begins: random weights, pretrained ones, or a finished run's."""

    pretrained: str | None  # "imagenet", or a file
    run: Path | None
    record: dict[str, str]  # as run.json shows it

    @staticmethod
    def of(weights: str) -> _Start:
        if weights == "none":
            return _Start(None, None, {"source": "none"})
        if weights == "imagenet":
            return _Start("imagenet", None, {"source": "imagenet"})
        path = Path(weights)
        run = path if path.is_dir() else None
        file = path / "model.keras" if run else path
        if not file.is_file():
            raise InvalidValueError(
                f"--weights must be imagenet, none, a file or a finished run, got {weights!r}"
            )
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        return _Start(None if run else weights, run, {"source": path.name, "sha256": digest})


def _train(
    model: keras.Model,
    recipe: Recipe,
    arrays: Arrays,
    run: RunFolder,
    split: Split,
    track: Sequence[str],
    store: BatchStore | None,
) -> list[dict[str, Any]]:
    state = run.load_state()
    history: list[dict[str, Any]] = state.history if state else []
    with tracked(track, run.path, recipe, history) as trackers:
        feed = _feed(recipe, arrays, split, store)
        _train_epochs(model, recipe, arrays, run, feed, state, history, trackers)
    return history


def _train_epochs(
    model: keras.Model,
    recipe: Recipe,
    arrays: Arrays,
    run: RunFolder,
    feed: Feed,
    state: State | None,
    history: list[dict[str, Any]],
    trackers: Sequence[Tracker],
) -> None:
    """Go on from `state`, if there is one, and add an entry for every epoch to `history`."""
    plan = recipe.optimisation
    total = plan.head_epochs + plan.epochs
    if state:
        tqdm.write(f"resuming {run.path} after epoch {len(history)} of {total}")
    phase = None
    chance = recipe.augmentation.feature_style
    learner = with_style(model, chance) if chance else model
    trainee = with_map(learner, plan.mirrored > 0) if recipe.data.mix else learner
    drawn = time.monotonic()
    for epoch in range(len(history), total):
        if _should_stop(history, plan):
            tqdm.write(f"stopped early after epoch {epoch}")
            break
        wanted = "head" if epoch < plan.head_epochs else "all"
        if phase != wanted:
            phase = wanted
            compile_phase(trainee, recipe, phase)
            if state:
                trainee.set_weights(state.weights)
                # The optimiser starts afresh where a phase begins.
                if epoch != plan.head_epochs:
                    for variable, value in zip(
                        trainee.optimizer.variables, state.optimizer, strict=True
                    ):
                        variable.assign(value)
                state = None
        loss = _run_epoch(trainee, recipe, feed, epoch, total)
        if learner is not model:
            model.set_weights(learner.get_weights())
        entry = {"epoch": epoch + 1, "phase": phase, "loss": loss}
        entry |= _validate(model, arrays, recipe.network.activation)
        history.append(entry)
        for tracker in trackers:
            tracker.epoch(entry)
        tqdm.write(
            f"epoch {epoch + 1}/{total} {phase}: loss {loss:.4f}, validation AUC "
            f"{entry['validation_auc']:.4f}, corrupted {entry['corrupted_auc']:.4f}"
        )
        weights = model.get_weights()
        run.save_snapshot(epoch + 1, weights)
        run.save_state(
            State(
                trainee.get_weights(), [np.asarray(v) for v in trainee.optimizer.variables], history
            )
        )
        run.keep_snapshots(_needed_snapshots(history, plan))
        if epoch + 1 < total and time.monotonic() - drawn > _CURVES_EVERY:
            draw_curves(history, run.path / "curves.png")
            drawn = time.monotonic()
    draw_curves(history, run.path / "curves.png")
    if state:  # every epoch was already done
        trainee.set_weights(state.weights)
        if learner is not model:
            model.set_weights(learner.get_weights())


def _quality(entry: dict[str, Any], monitor: str) -> float:
    if monitor == "loss":
        return -float(entry["validation_loss"])
    return float(entry[_MONITORS[monitor]])


def _best_epoch(history: list[dict[str, Any]], monitor: str) -> int:
    return int(max(history, key=lambda entry: _quality(entry, monitor))["epoch"])


def _needed_snapshots(history: list[dict[str, Any]], plan: Optimisation) -> list[int]:
    last = history[len(history) - plan.average_last :] if plan.average_last else []
    return [_best_epoch(history, plan.monitor), *(entry["epoch"] for entry in last)]


def _should_stop(history: list[dict[str, Any]], plan: Optimisation) -> bool:
    """Whether the last phase of the plan has gone on for too long without a better epoch."""
    last = [e for e in history if e["phase"] == ("all" if plan.epochs else "head")]
    if not plan.early_stopping or not last:
        return False
    return int(last[-1]["epoch"]) - _best_epoch(last, plan.monitor) >= plan.early_stopping


def _feed(recipe: Recipe, arrays: Arrays, split: Split, store: BatchStore | None) -> Feed:
    """What gives the batches of an epoch, for a map of some size."""
    if store:
        return lambda epoch, size: RenderedBatches(store, arrays.target, recipe, epoch, size)
    runs = recipe.distillation.teachers
    teacher = Teacher(runs, recipe, {s.patient for s in split.validation}) if runs else None
    mixture = arrays.mixture
    if mixture:
        return lambda epoch, size: MixedBatches(
            mixture, arrays.target, recipe, epoch, size, teacher
        )
    return lambda epoch, _: TrainingBatches(
        arrays.train, arrays.target, arrays.weight, recipe, epoch, teacher
    )


def _run_epoch(model: keras.Model, recipe: Recipe, feed: Feed, epoch: int, total: int) -> float:
    """One pass over the training images; the mean loss."""
    size = model.get_layer(MAP_LAYER).output.shape[1:3] if recipe.data.mix else (0, 0)
    batches = feed(epoch, size)
    # Otherwise what is drawn after a resume would be that of the first epoch.
    dropouts = [x for x in model.layers if isinstance(x, keras.layers.Dropout) and x.rate > 0]
    for layer in dropouts:
        layer.seed_generator.state.assign(np.array([recipe.seed, epoch], dtype=np.uint32))
    for number, layer in enumerate(style_layers(model), 1):  # not all the same
        state = np.array([recipe.seed + 1000 * number, epoch], dtype=np.uint32)
        layer.seed_generator.state.assign(state)
    rates = learning_rates(recipe, epoch, len(batches))
    with tqdm(
        total=len(batches), desc=f"epoch {epoch + 1}/{total}", leave=False, disable=None
    ) as bar:

        def before_batch(batch: int, logs: object = None) -> None:
            model.optimizer.learning_rate = rates[batch]

        def after_batch(batch: int, logs: dict[str, float]) -> None:
            bar.update()
            bar.set_postfix(loss=f"{logs['loss']:.4f}")

        steps = keras.callbacks.LambdaCallback(
            on_train_batch_begin=before_batch, on_train_batch_end=after_batch
        )
        result = model.fit(batches, epochs=1, verbose=0, shuffle=False, callbacks=[steps])
    return float(result.history["loss"][0])


def _validate(model: keras.Model, arrays: Arrays, activation: str) -> dict[str, float]:
    plain = disease_logit(predict_logits(model, arrays.validation), activation)
    corrupted = disease_logit(predict_logits(model, arrays.corrupted), activation)
    positive = arrays.validation_positive
    plain_auc, corrupted_auc = auc(positive, plain), auc(positive, corrupted)
    return {
        "validation_auc": plain_auc,
        "corrupted_auc": corrupted_auc,
        "validation_score": (plain_auc + corrupted_auc) / 2,
        "validation_loss": binary_cross_entropy(positive, probabilities(plain)),
    }


def _finish(
    settling: _Settling,
    recipe: Recipe,
    arrays: Arrays,
    run: RunFolder,
    history: list[dict[str, Any]],
    split: Split,
) -> None:
    """Save the mean of the last epochs, or the best epoch where averaging has failed.

    The best epoch's score is the largest of many noisy ones and so flatters it; the mean has to
    fall behind by more than that noise to be passed over.
    """
    plan = recipe.optimisation
    best = _best_epoch(history, plan.monitor)
    best_name = chosen = f"epoch {best}"
    candidates = {best_name: run.load_snapshot(best)}
    mean_name = ""
    if plan.average_last:
        last = [entry["epoch"] for entry in history[-plan.average_last :]]
        mean_name = f"mean of epochs {last[0]} to {last[-1]}"
        snapshots = [run.load_snapshot(epoch) for epoch in last]
        candidates[mean_name] = [np.mean(v, axis=0) for v in zip(*snapshots, strict=True)]
    scores: dict[str, dict[str, float]] = {}
    for name, weights in candidates.items():
        settling.set_weights(weights)
        scores[name] = _validate(settling.model, arrays, recipe.network.activation)
        tqdm.write(f"{name}: {scores[name]}")
    if plan.average_last == 1:
        chosen = mean_name  # of the last epoch alone
    elif mean_name:
        lead = scores[best_name]["validation_score"] - scores[mean_name]["validation_score"]
        chosen = best_name if lead > _AVERAGE_TOLERANCE else mean_name
    settling.set_weights(candidates[chosen])
    model = settling.model
    model.save(run.path / "model.keras")
    for name, pixels in ((PLAIN, arrays.validation), (CORRUPTED, arrays.corrupted)):
        write_scores(run.path / name, Scores(split.validation, predict_logits(model, pixels)))
    run.finish({"chosen": chosen, "candidates": scores, "epochs": len(history)})
    tqdm.write(f"finished: {chosen} saved as {run.path / 'model.keras'}")
