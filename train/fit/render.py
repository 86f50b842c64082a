"""`python -m train render`: the batches of a mixture, made beforehand by all processors.

    python -m train render --recipe hospitals-apart --data chest_xray \
        --data hospitals/hospitals.csv --fields … --sides … --output /dev/shm/batches &
    KERAS_BACKEND=torch python -m train fit --recipe hospitals-apart … \
        --batches /dev/shm/batches --mixed-precision bfloat16 --output runs/one

They are those that `fit` of the same seed would make for itself. Trainings may begin while it runs,
as soon as it has read the films and written batches.json: they wait for batches to come. With
teachers in the recipe, these judge every batch once, on the processors that --workers leaves and on
one at least.
"""

from __future__ import annotations

import argparse
import dataclasses
import multiprocessing
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np
from tqdm import tqdm

from edge_runtime.basics.processors import usable_processors
from edge_runtime.commands.options import positive_int
from edge_runtime.errors import InvalidValueError
from edge_runtime.images.preprocess import InputSpec
from train.data.arrays import load_arrays, reduced, split_data
from train.data.mixture import Mixture
from train.fit.store import (
    Size,
    batch_file,
    describe_store,
    judged_file,
    read_pixels,
    write_batch,
    write_judged,
)
from train.fit.training import add_mixture_arguments, told_changes
from train.recipe import Recipe, load_recipe
from train.run.folder import describe_data

_TOGETHER = 8  # batches that teachers judge at a time
Place = tuple[int, int]  # epoch, batch


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = __doc__
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--recipe", required=True, help="a name from `recipes`, or a .toml file")
    add_mixture_arguments(parser)
    parser.add_argument(
        "--size",
        type=positive_int,
        action="append",
        default=[],
        metavar="PIXELS",
        help="also at this height and width, for smaller networks; may be given several times",
    )
    parser.add_argument(
        "--workers",
        type=positive_int,
        default=usable_processors(),
        metavar="N",
        help="processes that render; default: as many as there are processors",
    )
    parser.add_argument("--output", type=Path, required=True, help="folder, best on a memory disk")


def run(arguments: argparse.Namespace) -> int:
    seed = [] if arguments.seed is None else [f"seed={arguments.seed}"]
    recipe = load_recipe(arguments.recipe, [*told_changes(arguments), *seed])
    if not recipe.data.mix:
        raise InvalidValueError(f"recipe {recipe.name} mixes no sources: `fit` alone is enough")
    split, source = split_data(recipe, arguments.data)
    arrays, split, unreadable = load_arrays(
        recipe, source, split, None, arguments.fields, arguments.sides
    )
    assert arrays.mixture is not None
    spec = recipe.training_input
    sizes = {(spec.height, spec.width), (recipe.input.height, recipe.input.width)}
    sizes |= {(size, size) for size in arguments.size}
    data = describe_data(arrays.fingerprint, split, unreadable)
    describe_store(arguments.output, recipe, data, split, sorted(sizes))
    renderer = _Renderer(arrays.mixture, recipe, sorted(sizes), arguments.output)
    plan = recipe.optimisation
    places = [
        (epoch, index)
        for epoch in range(plan.head_epochs + plan.epochs)
        for index in range(recipe.data.steps)
    ]
    # Forked, so that the films are there once; and before Keras and its threads are.
    fork = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(arguments.workers, fork, _adopt, (renderer,)) as pool:
        made = _unless_ended(pool.map(_render, places, chunksize=2))
        judges = None
        if recipe.distillation.teachers:
            patients = {sample.patient for sample in split.validation}
            # More threads than processors wait for each other by spinning: four times slower.
            threads = max(1, usable_processors() - arguments.workers)
            judges = _Judges(recipe, patients, arguments.output, threads)
        with tqdm(total=len(places), desc="rendering", unit="batch", disable=None) as bar:
            for together in _groups(made, _TOGETHER if judges else 1):
                if judges:
                    judges(together)
                bar.update(len(together))
    print(f"{arguments.output}: {len(places)} batches of {arrays.mixture.batch_size} films")
    return 0


class _Renderer:
    def __init__(self, mixture: Mixture, recipe: Recipe, sizes: list[Size], folder: Path) -> None:
        self._mixture, self._seed, self._folder = mixture, recipe.seed, folder
        self._specs = {size: _of_size(recipe.training_input, size) for size in sizes}

    def __call__(self, place: Place) -> Place:
        """Write a batch that is not there yet; the draws are those of `MixedBatches`."""
        epoch, index = place
        file = batch_file(self._folder, epoch, index)
        if not file.exists():
            chosen, rendered = self._mixture.batch((self._seed, epoch, index))
            pixels = np.stack([one.pixels for one in rendered])
            sizes = {size: reduced(pixels, spec) for size, spec in self._specs.items()}
            write_batch(file, chosen, rendered, sizes)
        return place


_adopted: list[_Renderer] = []  # a worker's one


def _adopt(renderer: _Renderer) -> None:
    _adopted.append(renderer)


def _render(place: Place) -> Place:
    return _adopted[0](place)


def _unless_ended(made: Iterable[Place]) -> Iterator[Place]:
    """What workers return; a worker that was ended from outside is an error, and no endless wait.

    Raises:
        InvalidValueError: One was.
    """
    try:
        yield from made
    except BrokenProcessPool as error:
        raise InvalidValueError(
            "a process that renders was ended, most likely for want of memory: take fewer "
            "--workers, or another --output than a memory disk; the same command goes on"
        ) from error


def _groups(places: Iterable[Place], size: int) -> Iterator[list[Place]]:
    group: list[Place] = []
    for place in places:
        group.append(place)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group


class _Judges:
    """The recipe's teachers, who see several batches at a time."""

    def __init__(self, recipe: Recipe, held_out: set[str], folder: Path, threads: int) -> None:
        from train.fit.teacher import Teacher  # Keras: not before the workers are forked

        self._teacher = Teacher(recipe.distillation.teachers, recipe, held_out, threads)
        spec = recipe.training_input
        self._folder, self._size = folder, (spec.height, spec.width)

    def __call__(self, places: list[Place]) -> None:
        missing = [place for place in places if not judged_file(self._folder, *place).exists()]
        if not missing:
            return
        parts = [read_pixels(batch_file(self._folder, *p), self._size) for p in missing]
        found = self._teacher.probabilities(np.concatenate(parts).astype(np.float32))
        ends = np.cumsum([len(part) for part in parts])[:-1]
        for place, probabilities in zip(missing, np.split(found, ends), strict=True):
            write_judged(judged_file(self._folder, *place), probabilities)


def _of_size(spec: InputSpec, size: Size) -> InputSpec:
    return dataclasses.replace(spec, height=size[0], width=size[1])
