"""Cut lungs as films to judge a model by: grafted into whole films of other patients, once and for
all.

Nobody screens cut lungs, but they are what radiologists have read and drawn boxes on. Which film
lends its frame follows from the name of the lungs' film alone, so that two models are judged by the
same pictures.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import InvalidValueError
from edge_runtime.images.preprocess import InputSpec
from train.data.fields import Fields
from train.data.graft import Box, Lungs, graft, worth_moving
from train.data.source import Source
from train.data.table import Film


@dataclasses.dataclass(frozen=True)
class Judged:
    """One picture to judge by, and where its lungs and findings are."""

    film: Film  # of the lungs, with their finding
    pixels: NDArray[np.uint8]  # (height, width, 1)
    field: NDArray[np.bool_]  # (56, 56)
    boxes: tuple[Box, ...]


def graft_judged(
    source: Source, cut: Sequence[Film], hosts: Sequence[Film], fields: Fields, spec: InputSpec
) -> list[Judged]:
    """The cut lungs, each in the frame of one of the hosts.

    Lungs without a field, or of which a cutter left only fragments, are left out; hosts without a
    field are not used.

    Args:
        source: Where the films are.
        cut: Lungs that were cut out.
        hosts: Whole films; each source lends as many frames.
        fields: Where the lungs are.
        spec: The model's input.

    Raises:
        InvalidValueError: No host has a field.
    """
    hosts = [f for f in hosts if fields.of(f.sample.path) is not None]
    if not hosts:
        raise InvalidValueError("no whole film with a known lung field to put cut lungs into")
    by_source: dict[str, list[int]] = {}
    for i, film in enumerate(hosts):
        by_source.setdefault(film.source, []).append(i)
    frames = source.pixels([f.sample for f in hosts], spec, "reading frames")
    cut = [f for f in cut if fields.of(f.sample.path) is not None]
    lungs = source.pixels([f.sample for f in cut], spec, "reading cut lungs")
    found = []
    for film, image in zip(cut, lungs, strict=True):
        own = Lungs(image[:, :, 0], _known(fields, film), True, film.boxes)
        if not worth_moving(own):
            continue
        rng = np.random.default_rng(zlib.crc32(film.sample.path.encode()))
        names = sorted(by_source)
        members = by_source[names[int(rng.integers(len(names)))]]
        host = members[int(rng.integers(len(members)))]
        frame = Lungs(frames[host, :, :, 0], _known(fields, hosts[host]))
        pixels, field, boxes = graft(own, frame, rng)
        found.append(Judged(film, pixels[:, :, np.newaxis], field, boxes))
    return found


def _known(fields: Fields, film: Film) -> NDArray[np.bool_]:
    field = fields.of(film.sample.path)
    assert field is not None
    return field
