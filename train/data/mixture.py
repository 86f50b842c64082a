"""Batches drawn by source and finding from films of many hospitals, lungs grafted between them.

Every draw follows from the generator that is given, so an interrupted run goes on as it would have.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import InvalidValueError
from train.data.augment import augment_with_places
from train.data.fields import Fields
from train.data.graft import (
    FIELD_SIDE,
    Lungs,
    cells_of,
    graft,
    outline,
    right_way_round,
    worth_moving,
)
from train.data.table import Film
from train.recipe import Augmentation, Share


@dataclasses.dataclass(frozen=True)
class Rendered:
    """One training image as the network sees it, and where its lungs and findings are."""

    pixels: NDArray[np.uint8]  # (height, width, 1)
    field: NDArray[np.float32] | None  # (56, 56) share of each cell inside the lungs' field
    boxes: NDArray[np.float32]  # (56, 56) share of each cell inside boxes; 0 without any


class Mixture:
    """Films of many sources, ready to be mixed."""

    def __init__(
        self,
        pixels: NDArray[np.uint8],
        films: Sequence[Film],
        fields: Fields,
        shares: Sequence[Share],
        policy: Augmentation,
    ) -> None:
        """Nothing is copied.

        Args:
            pixels: (n, height, width, 1) prepared films, inverted ones put right (`put_right`).
            films: (n) what is known of them.
            fields: Where their lungs are.
            shares: What a batch is made of.
            policy: Of the augmentation, grafts among it.

        Raises:
            InvalidValueError: A share has no films.
        """
        self.pixels, self.films, self.policy = pixels, films, policy
        self._fields = [fields.of(film.sample.path) for film in films]
        self._outlines: dict[int, NDArray[np.uint8]] = {}
        self._movable = [self._is_movable(i) for i in range(len(films))]
        # Of cut lungs: found once, for it takes as long as the rest of a graft.
        self._outlines = {
            i: np.packbits(outline(self._lungs(i)))
            for i, film in enumerate(films)
            if film.crop == "lungs" and self._movable[i]
        }
        whole = [
            i for i, f in enumerate(films) if f.crop == "whole" and self._fields[i] is not None
        ]
        self._hosts = np.array(whole, np.intp)
        sources = np.array([films[i].source for i in whole])
        self._hosts_of = {s: self._hosts[sources == s] for s in np.unique(sources)}
        self._groups = [(self._by_kind(share), share.images) for share in shares]

    @property
    def batch_size(self) -> int:
        return sum(images for _, images in self._groups)

    def draw(self, rng: np.random.Generator) -> list[int]:
        """The films of a batch: of each share as many as it says, kinds with the same chance."""
        return [
            int(rng.choice(kinds[int(rng.integers(len(kinds)))]))
            for kinds, images in self._groups
            for _ in range(images)
        ]

    def render(self, index: int, rng: np.random.Generator) -> Rendered:
        """One film, its lungs perhaps in another's frame, changed as the policy says."""
        film, policy = self.films[index], self.policy
        pixels, field = self.pixels[index, :, :, 0], self._fields[index]
        boxes = film.boxes
        chance = policy.graft_cut if film.crop == "lungs" else policy.graft_whole
        if self._movable[index] and len(self._hosts) and rng.random() < chance:
            host = int(rng.choice(self._hosts_for(film.source, rng)))
            pixels, field, boxes = graft(self._lungs(index), self._lungs(host), rng)
        places = np.stack(
            [
                np.ones((FIELD_SIDE, FIELD_SIDE), np.float32) if field is None else field,
                cells_of(boxes, FIELD_SIDE, FIELD_SIDE),
            ]
        ).astype(np.float32)
        swaps = policy.histogram_swap or policy.spectrum_swap or policy.frame_swap
        donor = self.pixels[self.draw(rng)[0]] if swaps else None
        changed, moved = augment_with_places(pixels[:, :, np.newaxis], places, policy, rng, donor)
        assert moved is not None
        return Rendered(changed, None if field is None else moved[0], moved[1])

    def _hosts_for(self, source: str, rng: np.random.Generator) -> NDArray[np.intp]:
        own = self._hosts_of.get(source)
        if own is None or rng.random() < self.policy.graft_any_source:
            names = sorted(self._hosts_of)  # each source with the same chance
            own = self._hosts_of[names[int(rng.integers(len(names)))]]
        return np.asarray(own)

    def _lungs(self, index: int) -> Lungs:
        film, field = self.films[index], self._fields[index]
        assert field is not None
        pixels, packed = self.pixels[index, :, :, 0], self._outlines.get(index)
        known = None
        if packed is not None:
            known = np.unpackbits(packed)[: pixels.size].reshape(pixels.shape).astype(bool)
        return Lungs(pixels, field, film.crop == "lungs", film.boxes, known)

    def _is_movable(self, index: int) -> bool:
        return self._fields[index] is not None and worth_moving(self._lungs(index))

    def _by_kind(self, share: Share) -> list[NDArray[np.intp]]:
        kinds: dict[str, list[int]] = {}
        for i, film in enumerate(self.films):
            if film.source in share.sources:
                kinds.setdefault(film.sample.kind, []).append(i)
        if not kinds:
            raise InvalidValueError(f"data.mix: no films of {', '.join(share.sources)}")
        return [np.array(kinds[kind], np.intp) for kind in sorted(kinds)]


def put_right(pixels: NDArray[np.uint8], films: Sequence[Film]) -> None:
    """Turn round, in place, the films of (n, height, width, 1) that are told to be inverted."""
    for i, film in enumerate(films):
        if film.inverted:
            pixels[i, :, :, 0] = right_way_round(pixels[i, :, :, 0], film.crop == "lungs")


def cells(place: NDArray[np.float32], rows: int, columns: int) -> NDArray[np.float32]:
    """(56, 56) -> (rows, columns), each the mean of what it covers."""
    down, across = _weights(place.shape[0], rows), _weights(place.shape[1], columns)
    return np.asarray(down @ place @ across.T, np.float32)


@lru_cache(maxsize=8)
def _weights(size: int, parts: int) -> NDArray[np.float64]:
    """(parts, size): multiplied with values they give the mean over equal parts."""
    edges = np.arange(parts + 1) * size / parts
    at = np.arange(size)
    inside = np.minimum(edges[1:, None], at + 1) - np.maximum(edges[:-1, None], at)
    return np.asarray(np.clip(inside, 0, 1) * parts / size)
