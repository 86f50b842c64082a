"""Recipes: TOML in, frozen dataclasses out. An unknown key is an error."""

from __future__ import annotations

import dataclasses
import operator
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edge_runtime.basics.parse import from_mapping
from edge_runtime.errors import InvalidValueError
from edge_runtime.images.preprocess import InputSpec
from edge_runtime.judge.finding import word_for
from edge_runtime.judge.operating_point import OF_BUNDLES

RECIPES = Path(__file__).parent / "recipes"
_MOST_BASES = 2


@dataclasses.dataclass(frozen=True)
class Share:
    """Some images of every batch: as many of each label, whatever their numbers."""

    sources: tuple[str, ...]
    images: int


@dataclasses.dataclass(frozen=True)
class Data:
    source: str = "folder"  # folder | phantoms
    validation_fraction: float = 0.12
    split_seed: int = 0  # of the random split; 0 is the recipe's seed
    phantom_count: int = 0
    # Regular expression over file paths: what matches is validation instead of a random share of
    # patients. For leaving out a whole batch of acquisitions, which is harder than new patients.
    holdout: str = ""
    # (i, n): hold out the i-th of n blocks of each series of file names, in order of number. The
    # public test split is the first block of each series, so block 0 is what lies next to it.
    block: tuple[int, int] = (0, 0)
    # (i, n): hold out the i-th of n folds of the patients, from 1 (`fit --folds`); (0, 0): none.
    fold: tuple[int, int] = (0, 0)
    # A part `val` that a data set has is kept as it is, unless it has fewer films than this (that
    # of the public set has 16): then it joins `train` before the split by patient.
    least_val: int = 50
    # Regular expression over file paths whose first group is the patient, where no column says it.
    patient_pattern: str = ""
    # Training films that are a validation film: leave out | stop | allow.
    duplicates: str = "leave out"
    # So many of 256 bits of the perceptual hash may differ in two films that are one; 0: none, and
    # only equal pixels make films the same. See data/duplicates.py.
    near_bits: int = 12
    unreadable: float = 0.01  # largest share of films that may be left out as damaged
    # What findings of a table are called here; "" leaves a finding's films out.
    findings: Mapping[str, str] = dataclasses.field(default_factory=dict)
    held_out: tuple[str, ...] = ()  # sources that training never sees, nor validation
    children: tuple[str, ...] = ()  # sources of children whose table states no ages
    # What each batch is made of; without it, all films once an epoch in random order.
    mix: tuple[Share, ...] = ()
    steps: int = 0  # batches an epoch, where they are mixed
    # Within what is drawn, each view that is known with the same chance. Who is too ill to stand is
    # taken AP in bed, and a network that reads the view needs no lungs: of RSNA's films with
    # opacity 80 % are AP, of its normal ones 19 %.
    balance_views: bool = False


@dataclasses.dataclass(frozen=True)
class Network:
    backbone: str = "mobilenetv2"  # a name from backbones.BACKBONES
    alpha: float = 1.0  # width, where the backbone has one
    # What the backbone sees: "symmetric" [-1, 1), "unit" [0, 1], "bytes" 0..255, or "caffe"
    # (0..255 less ImageNet's channel means, blue first).
    scaling: str = "symmetric"
    # Between backbone and logits: "map" is the head that explains itself and can be exported;
    # "dense" pools and adds the `hidden` layers; "flatten" does the same without pooling.
    head: str = "map"
    hidden: tuple[int, ...] = ()
    dropout: float = 0.2
    l2: float = 0.0  # on the kernels of the head
    labels: tuple[str, ...] = ("normal", "pneumonia")
    # "sigmoid": a unit for each label after the first, which judges it for itself, so that a film
    # may have several findings; "softmax": a unit for each label, of which a film has one.
    activation: str = "sigmoid"

    @property
    def units(self) -> int:
        return len(self.labels) - (self.activation == "sigmoid")

    @property
    def positive(self) -> str:
        """What a film is called that is not normal."""
        return word_for(self.labels)


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Ranges of the random changes; 0 or an empty range switches one off. See data/augment.py."""

    # Each image draws one factor from this range for all of the below but `flip`, `erase` and
    # `mixup`. From 0: untouched images stay common, so that the batch statistics fit them too.
    strength: tuple[float, float] = (1.0, 1.0)
    flip: float = 0.0  # probability of a left-right mirror image
    rotation_degrees: float = 0.0
    shear_degrees: float = 0.0
    zoom: tuple[float, float] = (1.0, 1.0)
    aspect: float = 0.0  # relative change of width against height
    shift: float = 0.0  # fraction of the side
    gamma: tuple[float, float] = (1.0, 1.0)
    contrast: float = 0.0
    brightness: float = 0.0  # fraction of full scale
    noise: float = 0.0  # largest standard deviation, fraction of full scale
    blur: float = 0.0  # largest Gaussian radius, pixels
    jpeg_quality: int = 0  # lowest quality; 0 switches recompression off
    downscale: float = 1.0  # smallest factor before scaling back up
    erase: float = 0.0  # probability of one erased rectangle
    mixup: float = 0.0  # largest share of the second image
    # Probabilities of taking something from another training image of either class, so that it
    # says nothing about the label: its grey levels, its amplitude spectrum, its outer frame.
    histogram_swap: float = 0.0
    spectrum_swap: float = 0.0
    frame_swap: float = 0.0
    # Probabilities, in mixed batches, of moving the lungs into the frame of another film of any
    # label: of lungs that were cut out, and of whole films; and that the frame may be any source's.
    graft_cut: float = 0.0
    graft_whole: float = 0.0
    graft_any_source: float = 0.5
    # Chance of a film to get the early features' mean and spread of another; see fit/style.py.
    feature_style: float = 0.0


@dataclasses.dataclass(frozen=True)
class Optimisation:
    optimizer: str = "adamw"  # adamw | adam | sgd (momentum 0.9)
    schedule: str = "cosine"  # of the fine-tuning epochs: cosine, with warm-up, or constant
    batch_size: int = 32
    head_epochs: int = 1
    head_learning_rate: float = 1e-3
    epochs: int = 10  # fine-tuning epochs, after the head's
    trainable_layers: int = 0  # of the backbone while fine-tuning, from the top; 0 is all
    frozen_until: str = ""  # or: all after the layer of this name
    learning_rate: float = 2e-4
    weight_decay: float = 1e-4
    label_smoothing: float = 0.0
    class_weights: bool = True
    monitor: str = "score"  # what makes an epoch the best: score | auc | loss; see fit/loop.py
    early_stopping: int = 0  # epochs without a better one; 0 never stops early
    # Epochs whose weights are averaged at the end: 0 keeps the best epoch, 1 the last one.
    average_last: int = 1
    batch_norm_momentum: float = 0.99
    # Keep the pretrained batch statistics, as Keras' guide to fine-tuning advises.
    freeze_batch_norm: bool = False
    # Frozen and folded into the convolutions while training, which is faster. See network/fold.py.
    fold_batch_norm: bool = False
    # Weight of telling from the pooled features whether augmentation has mirrored a film, in mixed
    # batches. The quality gate reads the same features; see fit/evidence.py.
    mirrored: float = 0.0


@dataclasses.dataclass(frozen=True)
class Evidence:
    """What the evidence map is taught, beside what its mean says. See fit/evidence.py."""

    outside: float = 0.0  # weight of evidence outside of the lungs' field
    boxes: float = 0.0  # weight of evidence inside the boxes of findings, and not beside them


@dataclasses.dataclass(frozen=True)
class Distillation:
    """Learning from finished runs as well as from the labels. See fit/teacher.py."""

    teachers: tuple[str, ...] = ()  # run folders; none: labels alone
    weight: float = 0.7  # share of the teachers' mean probability in the target
    # (height, width) at which films are changed and shown to the teachers; the student sees the
    # same film reduced. (0, 0): at the student's own, which teachers see enlarged.
    size: tuple[int, int] = (0, 0)


@dataclasses.dataclass(frozen=True)
class About:
    """What a model that comes of a recipe is for, in sentences for its card and its users."""

    intended_use: str = ""
    translations: Mapping[str, str] = dataclasses.field(default_factory=dict)  # of it, by language
    suited: str = ""  # for whom and for what
    unsuited: str = ""
    data: str = ""  # what it learned from, with the citation
    # From the first up to but not including the second; a DICOM file of another age is refused.
    ages: tuple[float, float] | None = None
    # What the sentences are true of: a run on films of other sources has none of them. () is any.
    sources: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Recipe:
    name: str
    description: str
    seed: int = 1
    operating_point: str = "screening"  # what decides where nobody names one
    # Export refuses a model whose AUC on validation may be as low (lower 95 % limit).
    least_auc: float = 0.5
    input: InputSpec = dataclasses.field(default_factory=lambda: InputSpec(224, 224))
    data: Data = dataclasses.field(default_factory=Data)
    network: Network = Network()
    augmentation: Augmentation = Augmentation()
    optimisation: Optimisation = Optimisation()
    distillation: Distillation = Distillation()
    evidence: Evidence = Evidence()
    about: About = About()

    @property
    def training_input(self) -> InputSpec:
        """How films of training are prepared: as the model's input, or larger for its teachers."""
        if not any(self.distillation.size):
            return self.input
        height, width = self.distillation.size
        return dataclasses.replace(self.input, height=height, width=width)


def recipe_names() -> list[str]:
    return sorted(path.stem for path in RECIPES.glob("*.toml"))


def load_recipe(name: str, changes: Sequence[str] = ()) -> Recipe:
    """A recipe by name, or by the path of a TOML file.

    Args:
        name: A name from `recipe_names`, or a path that ends in .toml.
        changes: Settings that replace the file's, as "optimisation.epochs=3".

    Raises:
        InvalidValueError: No such recipe, invalid TOML, unknown key or wrong type.
    """
    document = _read(name)
    for change in changes:
        _apply(document, change)
    recipe = from_mapping(Recipe, document, name)
    _check(recipe, name)
    return recipe


# Numbers that training cannot do without, or that would end in an error of a library's.
_BOUNDS: Mapping[str, tuple[float, float]] = {
    "seed": (0, 2**31 - 1),
    "least_auc": (0, 1),
    "data.validation_fraction": (0.01, 0.9),
    "data.phantom_count": (0, 10**6),
    "data.least_val": (0, 10**9),
    "data.unreadable": (0, 1),
    "data.near_bits": (0, 255),
    "data.steps": (0, 10**6),
    "network.alpha": (0.05, 4),
    "network.dropout": (0, 0.99),
    "network.l2": (0, 10),
    "optimisation.batch_size": (1, 4096),
    "optimisation.head_epochs": (0, 10_000),
    "optimisation.head_learning_rate": (1e-9, 10),
    "optimisation.epochs": (0, 10_000),
    "optimisation.learning_rate": (1e-9, 10),
    "optimisation.weight_decay": (0, 10),
    "optimisation.label_smoothing": (0, 0.9),
    "optimisation.early_stopping": (0, 10_000),
    "optimisation.average_last": (0, 10_000),
    "optimisation.batch_norm_momentum": (0, 1),
    "optimisation.mirrored": (0, 100),
    "augmentation.feature_style": (0, 1),
    "distillation.weight": (0, 1),
    "evidence.outside": (0, 100),
    "evidence.boxes": (0, 100),
}
_CHOICES: Mapping[str, tuple[str, ...]] = {
    "operating_point": OF_BUNDLES,
    "data.source": ("folder", "phantoms"),
    "data.duplicates": ("leave out", "stop", "allow"),
    "network.activation": ("sigmoid", "softmax"),
    "network.head": ("map", "dense", "flatten"),
    "optimisation.optimizer": ("adamw", "adam", "sgd"),
    "optimisation.schedule": ("cosine", "constant"),
    "optimisation.monitor": ("score", "auc", "loss"),
}


def _check(recipe: Recipe, name: str) -> None:
    """Raise InvalidValueError where a setting has a value that nothing can be trained with."""
    for key, (low, high) in _BOUNDS.items():
        value = operator.attrgetter(key)(recipe)
        if not low <= value <= high:  # no NaN passes this
            raise InvalidValueError(f"{name}: {key} must lie between {low:g} and {high:g}: {value}")
    for key, known in _CHOICES.items():
        value = operator.attrgetter(key)(recipe)
        if value not in known:
            raise InvalidValueError(f"{name}: {key} must be one of {', '.join(known)}: {value!r}")
    if not recipe.optimisation.epochs + recipe.optimisation.head_epochs:
        raise InvalidValueError(f"{name}: optimisation.epochs and head_epochs are both 0")
    size = recipe.distillation.size
    own = (recipe.input.height, recipe.input.width)
    if any(size) and not (recipe.distillation.teachers and size[0] >= own[0] and size[1] >= own[1]):
        raise InvalidValueError(
            f"{name}: distillation.size is what teachers see, and no smaller than the student's "
            f"input of {own}: {size} for {len(recipe.distillation.teachers)} teachers"
        )
    if len(recipe.network.labels) < 2 or len(set(recipe.network.labels)) < len(
        recipe.network.labels
    ):
        raise InvalidValueError(f"{name}: network.labels needs two different labels or more")
    if recipe.network.labels[0] != "normal" or not all(
        re.fullmatch(r"[\w][\w ,()/+.-]{0,59}", label) for label in recipe.network.labels
    ):
        raise InvalidValueError(
            f"{name}: network.labels must begin with normal, and be of at most 60 letters, digits "
            f"and simple punctuation: {recipe.network.labels}"
        )
    for key in ("data.holdout", "data.patient_pattern"):
        try:
            re.compile(operator.attrgetter(key)(recipe))
        except re.error as error:
            raise InvalidValueError(f"{name}: {key} is no regular expression: {error}") from error


def _read(name: str, depth: int = 0) -> dict[str, Any]:
    """The tables of a recipe; `base = "NAME"` takes those of another first."""
    path = Path(name) if name.endswith(".toml") else RECIPES / f"{name}.toml"
    if not path.is_file():
        raise InvalidValueError(f"no recipe {name!r}; there are {', '.join(recipe_names())}")
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise InvalidValueError(f"{path}: {error}") from error
    base = document.pop("base", None)
    if base is None:
        return document
    if not isinstance(base, str) or depth >= _MOST_BASES:
        # A recipe should be readable with at most two other files open.
        raise InvalidValueError(
            f"{path}: base must name a recipe, and that at most one more, got {base!r}"
        )
    return _merge(_read(base, depth + 1), document)


def _merge(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _apply(document: dict[str, Any], change: str) -> None:
    key, equals, text = change.partition("=")
    *tables, last = key.strip().split(".")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()  # a bare word is a string
    if not equals or not last:
        raise InvalidValueError(f"--set takes KEY=VALUE, got {change!r}")
    for table in tables:
        document = document.setdefault(table, {})
        if not isinstance(document, dict):
            raise InvalidValueError(f"--set {change}: {table!r} is no table")
    document[last] = value
