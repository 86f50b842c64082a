"""Batches drawn by source and finding from films of many hospitals, lungs grafted between them.

Every draw follows from the generator that is given, so an interrupted run goes on as it would have.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edge_runtime.errors import InvalidValueError
from train.data.augment import augment_with_places
from train.data.dataset import NORMAL
from train.data.fields import Fields
from train.data.graft import (
    FIELD_SIDE,
    Lungs,
    cells_of,
    graft,
    moved_like,
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
    # (56, 56) share of each cell where evidence may lie: each lung's own hull where it is known,
    # or else the field of both; boxes count as inside. None where nothing is known.
    field: NDArray[np.float32] | None
    boxes: NDArray[np.float32]  # (56, 56) share of each cell inside boxes; 0 without any
    mirrored: bool = False  # left and right were exchanged


class Mixture:
    """Films of many sources, ready to be mixed."""

    def __init__(
        self,
        pixels: NDArray[np.uint8],
        films: Sequence[Film],
        fields: Fields,
        shares: Sequence[Share],
        policy: Augmentation,
        sides: Fields | None = None,
        balance_views: bool = False,
    ) -> None:
        """Nothing is copied.

        Args:
            pixels: (n, height, width, 1) prepared films, inverted ones put right (`put_right`).
            films: (n) what is known of them.
            fields: Where their lungs are.
            shares: What a batch is made of.
            policy: Of the augmentation, grafts among it.
            sides: Each lung's own hull, where it is known; of cut lungs it is what was cut.
            balance_views: Each view of a finding with the same chance, however many films it has.

        Raises:
            InvalidValueError: A share has no films.
        """
        self.pixels, self.films, self.policy = pixels, films, policy
        self._fields = [fields.of(film.sample.path) for film in films]
        self._sides = sides or Fields()
        # Of cut lungs, found at first use and kept: it takes as long as the rest of a graft.
        self._outlines: dict[int, NDArray[np.uint8]] = {}
        self._movable: dict[int, bool] = {}
        whole = [
            i for i, f in enumerate(films) if f.crop == "whole" and self._fields[i] is not None
        ]
        self._hosts = np.array(whole, np.intp)
        sources = np.array([films[i].source for i in whole])
        self._hosts_of = {s: self._hosts[sources == s] for s in np.unique(sources)}
        every = np.array([f.source if f.crop == "whole" else "" for f in films])
        self._whole_of = [np.flatnonzero(every == s) for s in np.unique(every) if s]
        self._balance_views = balance_views
        self._groups = [(self._by_label(share), share.images) for share in shares]

    @property
    def batch_size(self) -> int:
        return sum(images for _, images in self._groups)

    def draw(self, rng: np.random.Generator) -> list[int]:
        """The films of a batch: of each share as many as it says.

        Half of them normal where the share has both, each kind of disease with the same chance, and
        each of a kind's views, if they are to be balanced.
        """
        return [
            int(_any_of(_any_of(_any_of(_any_of(labels, rng), rng), rng), rng))
            for labels, images in self._groups
            for _ in range(images)
        ]

    def batch(self, key: tuple[int, int, int]) -> tuple[list[int], list[Rendered]]:
        """The places of a batch's films, and what becomes of them; `key` is seed, epoch, batch."""
        chosen = self.draw(np.random.default_rng(key))
        return chosen, [
            self.render(film, np.random.default_rng((*key, place)))
            for place, film in enumerate(chosen)
        ]

    def render(self, index: int, rng: np.random.Generator) -> Rendered:
        """One film, its lungs perhaps in another's frame, changed as the policy says."""
        film, policy = self.films[index], self.policy
        pixels, field = self.pixels[index, :, :, 0], self._inside(index)
        boxes = film.boxes
        chance = policy.graft_cut if film.crop == "lungs" else policy.graft_whole
        if self._is_movable(index) and len(self._hosts) and rng.random() < chance:
            host = int(_any_of(self._hosts_for(film.source, rng), rng))
            lungs, frame = self._lungs(index), self._lungs(host)
            pixels, _, boxes = graft(lungs, frame, rng)
            if field is not None:
                field = moved_like(field, lungs, frame)
        hit = cells_of(boxes, FIELD_SIDE, FIELD_SIDE)
        inside = np.ones_like(hit) if field is None else np.maximum(field, hit)
        places = np.stack([inside, hit]).astype(np.float32)
        swaps = policy.histogram_swap or policy.spectrum_swap or policy.frame_swap
        swaps = swaps and bool(self._whole_of)
        donor = self.pixels[self._donor(rng)] if swaps else None
        changed = augment_with_places(pixels[:, :, np.newaxis], places, policy, rng, donor)
        assert changed.places is not None
        moved_field, moved_boxes = changed.places
        return Rendered(
            changed.pixels, None if field is None else moved_field, moved_boxes, changed.mirrored
        )

    def _donor(self, rng: np.random.Generator) -> int:
        """A whole film of any source, each source with the same chance."""
        return int(_any_of(self._whole_of[int(rng.integers(len(self._whole_of)))], rng))

    def _hosts_for(self, source: str, rng: np.random.Generator) -> NDArray[np.intp]:
        own = self._hosts_of.get(source)
        if own is None or rng.random() < self.policy.graft_any_source:
            names = sorted(self._hosts_of)  # each source with the same chance
            own = self._hosts_of[names[int(rng.integers(len(names)))]]
        return np.asarray(own)

    def _lungs(self, index: int) -> Lungs:
        film, field = self.films[index], self._fields[index]
        assert field is not None
        pixels = self.pixels[index, :, :, 0]
        lungs = Lungs(pixels, field, film.crop == "lungs", film.boxes)
        if not lungs.cut:
            return lungs
        if index not in self._outlines:
            self._outlines[index] = np.packbits(outline(lungs))
        known = np.unpackbits(self._outlines[index])[: pixels.size].reshape(pixels.shape)
        return dataclasses.replace(lungs, outline=known.astype(bool))

    def _inside(self, index: int) -> NDArray[np.bool_] | None:
        film = self.films[index]
        if film.crop == "lungs" and self._is_movable(index):
            found = self._lungs(index).outline
            assert found is not None
            cells = Image.fromarray(found).convert("L").resize((FIELD_SIDE, FIELD_SIDE))
            return np.asarray(cells) > 0
        own = self._sides.of(film.sample.path)
        return self._fields[index] if own is None else own

    def _is_movable(self, index: int) -> bool:
        if index not in self._movable:
            self._movable[index] = self._fields[index] is not None and worth_moving(
                self._lungs(index)
            )
        return self._movable[index]

    def _by_label(self, share: Share) -> list[list[list[NDArray[np.intp]]]]:
        """The films of a share: [[normal], [each kind of disease]], each by view, none empty."""
        kinds: dict[str, list[int]] = {}
        for i, film in enumerate(self.films):
            if film.source in share.sources:
                kinds.setdefault(film.sample.kind, []).append(i)
        if not kinds:
            raise InvalidValueError(f"data.mix: no films of {', '.join(share.sources)}")
        normal = [self._by_view(kinds[k]) for k in sorted(kinds) if k == NORMAL]
        disease = [self._by_view(kinds[k]) for k in sorted(kinds) if k != NORMAL]
        return [label for label in (normal, disease) if label]

    def _by_view(self, films: list[int]) -> list[NDArray[np.intp]]:
        every = np.array(films, np.intp)
        if not self._balance_views:
            return [every]
        views = np.array([self.films[i].view for i in films])
        return [every[views == view] for view in np.unique(views)]


def _any_of(choices: Sequence[Any] | NDArray[np.intp], rng: np.random.Generator) -> Any:
    # Of one choice numpy draws nothing: batches are the same whether or not there is a choice.
    return choices[int(rng.integers(len(choices)))]


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
