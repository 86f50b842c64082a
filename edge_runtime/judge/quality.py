"""May the model judge this image? Is it a frontal chest radiograph such as the model knows?

Cheap checks look at the file's facts and the prepared pixels; the last one measures how far the
network's pooled features lie from those of the training images. All limits are fitted at export
on training images and travel in the manifest; none is learned on the device.
"""

from __future__ import annotations

import base64
import binascii
import math
from enum import StrEnum
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import numpy as np

from edge_runtime.basics.frozen import frozen
from edge_runtime.errors import InvalidValueError
from edge_runtime.images.readers.facts import ImageFacts

if TYPE_CHECKING:
    from numpy.typing import NDArray

TEMPLATE_SIDE = 16
_DETAIL_SIDE = 8
DISTANT_VIEW = TEMPLATE_SIDE**2 + _DETAIL_SIDE**2  # numbers


class Flag(StrEnum):
    """Reasons in `quality.flags`. Adding one is a contract change."""

    TOO_SMALL = "too_small"
    EXTREME_ASPECT = "extreme_aspect"
    COLOUR = "colour"
    LOW_CONTRAST = "low_contrast"
    SATURATED = "saturated"
    INVERTED = "inverted"
    NOT_CHEST_LIKE = "not_chest_like"
    ROTATED = "rotated"
    MIRRORED = "mirrored"
    INCOMPLETE = "incomplete"
    DEGRADED = "degraded"
    OUT_OF_DISTRIBUTION = "out_of_distribution"
    WRONG_MODALITY = "wrong_modality"
    WRONG_VIEW = "wrong_view"
    WRONG_AGE = "wrong_age"
    WRONG_POPULATION = "wrong_population"
    WRONG_BODY_PART = "wrong_body_part"


@frozen
class Quality:
    """May the model judge this image? Flags name what speaks against it."""

    accepted: bool = True
    flags: tuple[str, ...] = ()
    ood_score: float | None = None


# Correlation of a negative with the mean film is below minus this; that of a turned one is not.
_PLAINLY_NEGATIVE = 0.35
_SMALLEST = 1e-9  # of what is divided by
_SPOILT = (Flag.ROTATED, Flag.MIRRORED, Flag.INCOMPLETE, Flag.DEGRADED)
# Projection radiography; the others (CT, MR, US, …) are not what the model was trained on.
# Source: DICOM PS3.3 C.7.3.1.1.1.
_MODALITIES = frozenset({"CR", "DX", "DR", "RG"})
# Source: PS3.16 Annex L; and what exists beside it: "CHEST PA", "PORT CHEST", "TORAX".
_CHEST = ("CHEST", "THORA", "TORAX", "TÓRAX", "LUNG", "POUMON", "PULM", "RIB", "HEART", "BABYGRAM")
_FRONTAL_VIEWS = frozenset({"AP", "PA", ""})


@frozen
class FeatureSpace:
    """A small principal-component space of pooled features.

    score = (mean squared whitened coordinate + residual energy relative to training) / 2 / limit.
    Above 1 an image is further out than all but one in 200 held out from training: it is flagged.
    Above `refuse_above` it is refused.
    Source: Mahalanobis distance for detection, Lee et al., NeurIPS 2018; residual space, Wang et
    al. (ViM), CVPR 2022.
    """

    mean_base64: str  # float32 (channels,)
    components_base64: str  # float16 (k, channels), orthonormal rows
    scales: tuple[float, ...]  # standard deviation along each component
    residual: float  # mean squared length outside the space, training images
    limit: float
    refuse_above: float

    @cached_property
    def _mean(self) -> NDArray[np.float64]:
        return np.frombuffer(base64.b64decode(self.mean_base64), "<f4").astype(np.float64)

    @cached_property
    def _components(self) -> NDArray[np.float64]:
        # Doubles, or the order in which a processor sums would show in a record's four digits.
        flat = np.frombuffer(base64.b64decode(self.components_base64), "<f2").astype(np.float64)
        return flat.reshape(len(self.scales), -1)

    @cached_property
    def _by_coordinate(self) -> NDArray[np.float64]:
        """What a squared coordinate adds to the distance, less what it takes from the residual."""
        scales = np.array(self.scales)
        return np.asarray(1 / (scales * scales * len(scales)) - 1 / self.residual)

    def check(self, channels: int) -> None:
        """Raise InvalidValueError unless the arrays fit each other and `channels`."""
        try:
            shapes = self._mean.shape, self._components.shape
        except (binascii.Error, ValueError) as error:
            raise InvalidValueError(f"features: {error}") from error
        if shapes != ((channels,), (len(self.scales), channels)) or not (
            np.isfinite(self._mean).all()
            and np.isfinite(self._components).all()
            and self.limit > _SMALLEST
            and self.refuse_above >= 1
            and self.residual > _SMALLEST
            and all(s > _SMALLEST for s in self.scales)
        ):
            raise InvalidValueError(
                f"features: shapes {shapes} or limits do not fit {channels} channels"
            )

    def raw_score(self, features: NDArray[np.float32]) -> float:
        """Distance before division by the limit."""
        # Few and light calls: after inference each begins with a cold cache.
        centred = features.astype(np.float64)
        centred -= self._mean
        coordinates = self._components.dot(centred)
        squares = coordinates * coordinates
        distance = float(squares.dot(self._by_coordinate))
        return (distance + float(centred.dot(centred)) / self.residual) / 2

    def score(self, features: NDArray[np.float32]) -> float:
        return self.raw_score(features) / self.limit


@frozen
class PixelHead:
    """A small network on what a film looks like from afar: see `distant_view`."""

    hidden_base64: str  # float16 (units, DISTANT_VIEW)
    hidden_biases: tuple[float, ...]  # (units,)
    weights_base64: str  # float16 (1 + kinds, units)

    @cached_property
    def _layers(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        hidden = np.frombuffer(base64.b64decode(self.hidden_base64), "<f2").astype(np.float64)
        weights = np.frombuffer(base64.b64decode(self.weights_base64), "<f2").astype(np.float64)
        units = len(self.hidden_biases)
        return (
            hidden.reshape(units, DISTANT_VIEW),
            np.array(self.hidden_biases),
            weights.reshape(-1, units),
        )

    def check(self, rows: int) -> None:
        """Raise InvalidValueError unless the arrays fit each other and `rows` kinds of films."""
        try:
            hidden, biases, weights = self._layers
        except (binascii.Error, ValueError, ZeroDivisionError) as error:
            raise InvalidValueError(f"oddities.pixels: {error}") from error
        finite = all(np.isfinite(part).all() for part in (hidden, biases, weights))
        if len(weights) != rows or not finite:
            raise InvalidValueError(f"oddities.pixels: arrays do not fit {rows} kinds of films")

    def scores(self, view: NDArray[np.float64]) -> NDArray[np.float64]:
        """(1 + kinds,) of one distant view."""
        hidden, biases, weights = self._layers
        activation = hidden.dot(view)
        activation += biases
        return np.asarray(weights.dot(np.maximum(activation, 0, out=activation)))


@frozen
class Oddities:
    """What is wrong with a film, if anything: a classifier on pooled features and distant view.

    Class 0 is a film as it should be, the others are films that were spoilt on purpose at export;
    `flags` names what each is called. Scores are linear in the features, to which a small network
    on the distant view adds: features are averaged over the film and hardly know where things are.
    The class whose score is furthest above class 0's, less its limit, is raised if that is above 0.
    """

    flags: tuple[str, ...]  # of the classes from 1 on
    weights_base64: str  # float16 (1 + len(flags), channels)
    biases: tuple[float, ...]  # (1 + len(flags))
    limits: tuple[float, ...]  # (len(flags)), of the score above class 0's
    pixels: PixelHead | None = None  # null in bundles that were made without

    @cached_property
    def _above_first(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(k, channels) and (k,): scores less class 0's and less the limits."""
        flat = np.frombuffer(base64.b64decode(self.weights_base64), "<f2").astype(np.float64)
        weights = flat.reshape(len(self.biases), -1)
        biases = np.array(self.biases)
        return weights[1:] - weights[0], biases[1:] - biases[0] - np.array(self.limits)

    def check(self, channels: int) -> None:
        """Raise InvalidValueError unless the arrays fit each other and `channels`."""
        try:
            weights, biases = self._above_first
            fits = weights.shape == (len(self.flags), channels) and (
                len(self.biases) - 1 == len(self.limits) == len(self.flags)
            )
            finite = bool(np.isfinite(weights).all() and np.isfinite(biases).all())
        except (binascii.Error, ValueError) as error:
            raise InvalidValueError(f"oddities: {error}") from error
        if not (fits and finite and self.flags):
            raise InvalidValueError(f"oddities: arrays do not fit {channels} channels")
        for flag in self.flags:
            if flag not in _SPOILT:
                raise InvalidValueError(f"oddities: {flag!r} is none of {', '.join(_SPOILT)}")
        if self.pixels is not None:
            self.pixels.check(len(self.biases))

    def above(
        self, features: NDArray[np.float32], view: NDArray[np.float64] | None
    ) -> NDArray[np.float64]:
        """(k,) scores above class 0's, less the limits."""
        weights, biases = self._above_first
        scores = weights.dot(features.astype(np.float64))
        scores += biases
        if self.pixels is not None and view is not None:
            seen = self.pixels.scores(view)
            scores += seen[1:] - seen[0]
        return np.asarray(scores)

    def find(self, features: NDArray[np.float32], view: NDArray[np.float64] | None) -> Flag | None:
        """What is wrong with the film of these (channels,) features and this distant view."""
        scores = self.above(features, view)
        worst = int(scores.argmax())
        return Flag(self.flags[worst]) if scores[worst] > 0 else None


@frozen
class Seen:
    """What an image alone tells, before the network has seen it."""

    flags: tuple[Flag, ...]
    view: NDArray[np.float64] | None = None  # distant, where the gate wants it


@frozen
class QualityGate:
    """The manifest's `quality`: limits, and what they were fitted on."""

    min_side_px: int
    max_aspect: float  # longer side / shorter side
    max_chroma: float
    min_contrast: float  # standard deviation of the prepared pixels
    max_saturated: float  # share of pure black or pure white pixels
    template: tuple[float, ...]  # mean training image, 16 x 16, zero mean and unit length
    min_correlation: float  # with the template
    features: FeatureSpace
    fitted_on: str
    # Ages that the model is meant for, from the first up to but not including the second; null
    # where the manifest states none. Only DICOM files tell an age.
    age_years: tuple[float, float] | None = None
    oddities: Oddities | None = None  # null in bundles that were made without

    @cached_property
    def _template(self) -> NDArray[np.float64]:
        return np.array(self.template)

    def check(self, channels: int) -> None:
        """Raise InvalidValueError unless the parameters fit each other."""
        if len(self.template) != TEMPLATE_SIDE**2:
            raise InvalidValueError(
                f"template has {len(self.template)} values, not {TEMPLATE_SIDE**2}"
            )
        self.features.check(channels)
        if self.oddities is not None:
            self.oddities.check(channels)

    def look(self, facts: ImageFacts, pixels: NDArray[np.uint8]) -> Seen:
        """What the image alone tells, before the network has seen it.

        Args:
            facts: What the reader found.
            pixels: (height, width, 1) uint8 as prepared.
        """
        seen, cells = self._seen_in(facts, pixels)
        flags = (*self._told_by_dicom(facts), *seen)
        wanted = self.oddities is not None and self.oddities.pixels is not None
        return Seen(flags, distant_view(pixels, cells) if wanted else None)

    def judge(
        self, facts: ImageFacts, pixels: NDArray[np.uint8], features: NDArray[np.float32]
    ) -> Quality:
        """`look` and `weigh` in one."""
        return self.weigh(self.look(facts, pixels), features)

    def weigh(self, seen: Seen, features: NDArray[np.float32]) -> Quality:
        """Flags and distance of one image.

        `out_of_distribution` alone is a warning until the distance is above `refuse_above`; every
        other flag refuses. Features are asked what is wrong with a film only where the film alone
        has not told, and an inverted one is that and nothing else: of course it is unlike others.

        Args:
            seen: What `look` gave.
            features: (channels,) pooled features.
        """
        flags = list(seen.flags)
        score = self.features.score(features)
        # What is not laid out like a chest may be one that lies on its side: they know more.
        if flags in ([], [Flag.NOT_CHEST_LIKE]) and self.oddities is not None:
            odd = self.oddities.find(features, seen.view)
            flags = [odd] if odd else flags
        accepted = not flags and score <= self.features.refuse_above
        if not score <= 1 and Flag.INVERTED not in flags:
            flags.append(Flag.OUT_OF_DISTRIBUTION)
        return Quality(accepted, tuple(flag.value for flag in flags), round(score, 4))

    def _told_by_dicom(self, facts: ImageFacts) -> list[Flag]:
        flags = []
        if facts.modality is not None and facts.modality not in _MODALITIES:
            flags.append(Flag.WRONG_MODALITY)
        if facts.view is not None and facts.view not in _FRONTAL_VIEWS:
            flags.append(Flag.WRONG_VIEW)
        part = facts.body_part
        if part and not any(name in part for name in _CHEST):
            flags.append(Flag.WRONG_BODY_PART)
        age, ages = facts.age_years, self.age_years
        if age is not None and ages is not None and not ages[0] <= age < ages[1]:
            flags.append(Flag.WRONG_AGE)
        return flags

    def _seen_in(
        self, facts: ImageFacts, pixels: NDArray[np.uint8]
    ) -> tuple[list[Flag], NDArray[np.float64]]:
        """Flags, and the thumbnail that they were seen in."""
        flags = []
        short, long = sorted((facts.height, facts.width))
        if short < self.min_side_px:
            flags.append(Flag.TOO_SMALL)
        if long > self.max_aspect * short:
            flags.append(Flag.EXTREME_ASPECT)
        if facts.chroma > self.max_chroma:
            flags.append(Flag.COLOUR)
        contrast, saturated, cells = _described(pixels)
        correlation = float(cells @ self._template)
        if contrast < self.min_contrast:
            flags.append(Flag.LOW_CONTRAST)
        if saturated > self.max_saturated:
            flags.append(Flag.SATURATED)
        if correlation < -max(self.min_correlation, _PLAINLY_NEGATIVE):
            flags.append(Flag.INVERTED)
        elif correlation < self.min_correlation:
            flags.append(Flag.NOT_CHEST_LIKE)
        return flags, cells


def describe(
    pixels: NDArray[np.uint8], template: NDArray[np.float64]
) -> tuple[float, float, float]:
    """(contrast, saturated share, correlation with the template) of prepared pixels."""
    contrast, saturated, cells = _described(pixels)
    return contrast, saturated, float(cells @ template)


def _described(pixels: NDArray[np.uint8]) -> tuple[float, float, NDArray[np.float64]]:
    """(contrast, saturated share, thumbnail) of prepared pixels."""
    # Few calls on few numbers: after inference each one begins with a cold cache.
    sample = _sample(pixels)
    stored = sample.tobytes()
    values = sample.astype(np.float32)
    means = _cell_means(values)
    flat = values.ravel()
    mean = float(np.add.reduce(flat)) / flat.size
    variance = float(flat @ flat) / flat.size - mean * mean
    return (
        math.sqrt(max(variance, 0.0)),
        (stored.count(0) + stored.count(255)) / len(stored),
        means,
    )


def thumbnail(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(256,) 16 x 16 version of the prepared pixels, zero mean and unit length."""
    return _cell_means(_sample(pixels).astype(np.float32))


def distant_view(
    pixels: NDArray[np.uint8], cells: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """(DISTANT_VIEW,): the 16 x 16 thumbnail, and how much detail there is in each of 8 x 8 cells.

    The thumbnail has a mean of 0 and a standard deviation of 1; detail is the logarithm of one
    plus the mean absolute difference to the next pixel, sideways and down, on some of the rows.

    Args:
        pixels: (height, width, 1) uint8 as prepared.
        cells: Their `thumbnail`, where it is known already.
    """
    step = max(1, min(pixels.shape[:2]) // 64)
    here = pixels[:-1:step, :, 0].astype(np.int16)
    below = pixels[1::step, :, 0].astype(np.int16)
    below -= here
    change = np.abs(below[:, 1:]) + np.abs(np.diff(here, axis=1))
    rows, columns = _cells(*change.shape, _DETAIL_SIDE)
    detail = np.log1p((rows @ change.astype(np.float32) @ columns).ravel().astype(np.float64))
    cells = thumbnail(pixels) if cells is None else cells
    return np.concatenate([cells * TEMPLATE_SIDE, detail])


def _sample(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(rows, columns), the shorter at most 127: as telling as all pixels, in less time."""
    step = max(1, min(pixels.shape[:2]) // 64)
    return pixels[::step, ::step, 0]


def _cell_means(values: NDArray[np.float32]) -> NDArray[np.float64]:
    rows, columns = _cells(*values.shape)
    means = (rows @ values @ columns).ravel().astype(np.float64)
    means -= np.add.reduce(means) / means.size
    length = math.sqrt(means @ means)
    if length > 0:
        means /= length
    return means


@lru_cache(maxsize=8)
def _cells(
    height: int, width: int, side: int = TEMPLATE_SIDE
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(side, height) and (width, side): from both sides they average over side x side cells."""
    averages = []
    for size in (height, width):
        edges = np.arange(side + 1) * size // side
        inside = np.arange(size)[np.newaxis] - edges[:-1, np.newaxis]
        sizes = np.diff(edges)[:, np.newaxis]
        averages.append((((inside >= 0) & (inside < sizes)) / sizes).astype(np.float32))
    rows, columns = averages
    return rows, columns.T.copy()
