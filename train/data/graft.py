"""Put the lungs of one film into the frame of another.

What surrounds the lungs (frame, collimation, markers, and with them the hospital) then comes from
a film whose label has nothing to do with the lungs' label. Lungs that somebody cut out on black
become whole films again that way, and whole films trade frames.

The lungs are moved by the affine map that takes the box of their field to the box of the other
film's field; their grey levels are moved part of the way to those inside that field; a soft edge
blends them in.

A field is (56, 56) bool over the film: true inside the hull of both lungs.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

FIELD_SIDE = 56
_BACKGROUND = 10  # cut films are black outside; JPEG leaves a little noise there
_LEAST_COVERED = 0.5
_LEAST_FIELD = 0.1  # of the film
_LEAST_LEFT = 0.4  # of the hull of both lungs, which holds the heart too
_EDGE = 0.02  # of the side: standard deviation of the soft edge
_FRINGE = 0.02
_SPREAD_LIMITS = (0.4, 2.5)  # a nearly flat field must not blow up noise

Box = tuple[float, float, float, float]  # x, y, width, height in shares of the film


@dataclasses.dataclass(frozen=True)
class Lungs:
    """A prepared film and where its lungs are."""

    pixels: NDArray[np.uint8]  # (height, width)
    field: NDArray[np.bool_]  # (56, 56)
    cut: bool = False  # lungs alone, on black
    boxes: tuple[Box, ...] = ()  # of findings
    outline: NDArray[np.bool_] | None = None  # `outline` of it, where it is known already


@dataclasses.dataclass(frozen=True)
class Placement:
    """The map from the host's film to the lungs' film, in shares: x -> x * scale + shift."""

    scale: tuple[float, float]  # x, y
    shift: tuple[float, float]

    def box(self, box: Box) -> Box:
        """Where a box of the lungs' film lies in the host's."""
        x, y, width, height = box
        (sx, sy), (tx, ty) = self.scale, self.shift
        return (x - tx) / sx, (y - ty) / sy, width / sx, height / sy


def right_way_round(pixels: NDArray[np.uint8], cut: bool) -> NDArray[np.uint8]:
    """An inverted film (air is bright) as all others are; black around cut lungs stays black."""
    inverted = 255 - pixels
    return np.where(pixels > _BACKGROUND, inverted, 0).astype(np.uint8) if cut else inverted


def graft(
    lungs: Lungs, host: Lungs, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.bool_], tuple[Box, ...]]:
    """The lungs in the host's frame: pixels (height, width), their field and boxes there.

    Cutters lose parts of lungs, the diseased ones most of all: a box of which less than half was
    moved is left out.

    Args:
        lungs: What is moved; its label is that of the result.
        host: A whole film, of the same shape and with a field that is not empty.
        rng: Draws how far the grey levels go along, and how soft the edge is.
    """
    placement = place(field_box(lungs.field), field_box(host.field))
    height, width = host.pixels.shape
    moved = _moved(lungs.pixels, placement, (height, width)).astype(np.float32)
    inside = outline(lungs) if lungs.outline is None else lungs.outline
    mask = _moved((inside * 255).astype(np.uint8), placement, (height, width))
    # From nothing at the very edge of what is moved, where a cut film is half black.
    sigma = rng.uniform(0.5, 1.5) * _EDGE * width
    soft = Image.fromarray(mask).filter(ImageFilter.GaussianBlur(sigma))
    share = np.clip(np.asarray(soft, np.float32) * (2 / 255) - 1, 0, 1)
    if share.max() > 0:
        moved = _levels_like(moved, mask > 127, host, rng.uniform(0.3, 1.0))
    blended = host.pixels + (moved - host.pixels) * share
    boxes = (placement.box(box) for box in lungs.boxes)
    field = _moved((lungs.field * 255).astype(np.uint8), placement, lungs.field.shape) > 127
    return (
        np.asarray(np.clip(blended + 0.5, 0, 255), np.uint8),
        field,
        tuple(box for box in boxes if _covered(box, share) > _LEAST_COVERED),
    )


def moved_like(place_in_lungs: NDArray[np.bool_], lungs: Lungs, host: Lungs) -> NDArray[np.bool_]:
    """(rows, columns) of the lungs' film, where `graft` puts it in the host's."""
    placement = place(field_box(lungs.field), field_box(host.field))
    marked = (place_in_lungs * 255).astype(np.uint8)
    return _moved(marked, placement, place_in_lungs.shape) > 127


def worth_moving(lungs: Lungs) -> bool:
    """Whether a cutter left most of the lungs: fragments are no lungs to put into a film."""
    inside = outline(lungs) if lungs.outline is None else lungs.outline
    found = inside.mean() / max(float(lungs.field.mean()), 1e-6)
    return float(lungs.field.mean()) >= _LEAST_FIELD and float(found) >= _LEAST_LEFT


def field_box(field: NDArray[np.bool_]) -> Box:
    """The box around a field, in shares of the film.

    Raises:
        ValueError: The field is empty.
    """
    rows, columns = np.flatnonzero(field.any(axis=1)), np.flatnonzero(field.any(axis=0))
    if not len(rows):
        raise ValueError("the field is empty")
    height, width = field.shape
    top, left = rows[0] / height, columns[0] / width
    return left, top, (columns[-1] + 1) / width - left, (rows[-1] + 1) / height - top


def place(box: Box, target: Box) -> Placement:
    """The placement by which `box` of the lungs' film comes to lie at `target`."""
    scale = box[2] / target[2], box[3] / target[3]
    return Placement(scale, (box[0] - target[0] * scale[0], box[1] - target[1] * scale[1]))


def cells_of(boxes: tuple[Box, ...], rows: int, columns: int) -> NDArray[np.float32]:
    """(rows, columns) share of each cell of a map that lies in any of the boxes (their largest)."""
    covered = np.zeros((rows, columns), np.float32)
    for x, y, width, height in boxes:
        down = _overlap(y, y + height, rows)
        across = _overlap(x, x + width, columns)
        covered = np.maximum(covered, np.outer(down, across))
    return covered


def _covered(box: Box, share: NDArray[np.float32]) -> float:
    """How much of a box was moved, 0 to 1."""
    height, width = share.shape
    x, y, w, h = box
    part = share[
        max(0, round(y * height)) : max(0, round((y + h) * height)),
        max(0, round(x * width)) : max(0, round((x + w) * width)),
    ]
    return float(part.mean()) if part.size else 0.0


def _odd(size: float) -> int:
    """The nearest odd filter size of at least 3."""
    return max(3, round(size) | 1)


def _overlap(low: float, high: float, cells: int) -> NDArray[np.float32]:
    """(cells,) share of each of equal parts of [0, 1] between low and high."""
    edges = np.arange(cells + 1) / cells
    inside = np.minimum(edges[1:], high) - np.maximum(edges[:-1], low)
    return np.asarray(np.clip(inside * cells, 0, 1), np.float32)


def outline(lungs: Lungs) -> NDArray[np.bool_]:
    """(height, width): what is moved, the lungs that were cut out or the whole field."""
    height, width = lungs.pixels.shape
    if lungs.cut:
        # Closed, so that dark vessels and noise inside the cut leave no holes.
        found = Image.fromarray((lungs.pixels > _BACKGROUND).astype(np.uint8) * 255)
        size = _odd(0.03 * width)
        closed = found.filter(ImageFilter.MaxFilter(size)).filter(ImageFilter.MinFilter(size))
        # Its outermost pixels are a mixture with the black around them.
        return np.asarray(closed.filter(ImageFilter.MinFilter(_odd(_FRINGE * width)))) > 127
    field = Image.fromarray((lungs.field * 255).astype(np.uint8))
    return np.asarray(field.resize((width, height), Image.Resampling.BILINEAR)) > 127


def _moved(
    pixels: NDArray[np.uint8], placement: Placement, shape: tuple[int, ...]
) -> NDArray[np.uint8]:
    """The lungs' film as it lies in the host's; black where it does not reach."""
    height, width = pixels.shape
    (sx, sy), (tx, ty) = placement.scale, placement.shift
    # Pillow asks for the map from an output pixel to an input pixel.
    coefficients = (sx * width / shape[1], 0, tx * width, 0, sy * height / shape[0], ty * height)
    return np.asarray(
        Image.fromarray(pixels).transform(
            (shape[1], shape[0]), Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR
        )
    )


def _levels_like(
    moved: NDArray[np.float32], mask: NDArray[np.bool_], host: Lungs, share: float
) -> NDArray[np.float32]:
    """Mean and spread inside the mask, `share` of the way to those inside the host's field."""
    if not mask.any():
        return moved
    there = host.pixels[outline(Lungs(host.pixels, host.field))]
    own, target = moved[mask], there.astype(np.float32)
    if not len(target):
        return moved
    spread = float(target.std()) / max(float(own.std()), 1.0)
    factor = 1 + share * (float(np.clip(spread, *_SPREAD_LIMITS)) - 1)
    mean = float(own.mean()) + share * (float(target.mean()) - float(own.mean()))
    return np.asarray((moved - own.mean()) * factor + mean, np.float32)
